"""The engine in a few pages of plain Python: what must be stored after each thing that happens.

Written from the prose of design and guide, and on purpose not from the code: it knows nothing of rows, transactions or
the domain's classes, so a mistake there is not repeated here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

ENDED = {"succeeded", "failed", "skipped", "cancelled"}


@dataclass(frozen=True)
class Plan:
    """What is fixed about a step."""

    name: str
    resource: str
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    required: bool = False
    attempts: int = 2


PROCESS = (
    Plan("probe", "light", makes=("media",), required=True),
    Plan("pack", "light", needs=("media",), makes=("packed",)),
    Plan("ladder", "cpu", needs=("media",), makes=("ladder",), after=("pack",), required=True),
    Plan("poster", "light", needs=("media",), makes=("poster",)),
    Plan("caption", "net", needs=("packed", "media")),
)
PURGE = (Plan("purge", "light", required=True, attempts=1_000_000),)


@dataclass
class Step:
    plan: Plan
    state: str = "pending"
    attempt: int = 0
    token: int = 0
    cancel: bool = False
    later: bool = False
    error: str | None = None
    successes: int = 0

    @property
    def claimable(self) -> bool:
        return self.state == "queued" and not self.later

    def end(self, state: str, error: str | None = None) -> None:
        self.state, self.cancel, self.later = state, False, False
        self.error = error


@dataclass
class Job:
    steps: dict[str, Step]
    cancel: bool = False

    @staticmethod
    def of(plans: Iterable[Plan]) -> Job:
        job = Job({plan.name: Step(plan) for plan in plans})
        job.go_on()
        return job

    @property
    def ended(self) -> bool:
        return all(step.state in ENDED for step in self.steps.values())

    @property
    def state(self) -> str:
        steps = self.steps.values()
        if not self.ended:
            return "running" if any(s.attempt or s.state not in {"pending", "queued"} for s in steps) else "queued"
        if any(s.state == "cancelled" and (self.cancel or s.plan.required) for s in steps):
            return "cancelled"
        return "failed" if any(s.state == "failed" and s.plan.required for s in steps) else "succeeded"

    def go_on(self) -> None:
        """Queue what has all it needs, skip what never will have."""
        before = None
        while before != (before := [s.state for s in self.steps.values()]):
            for step in self.steps.values():
                if step.state == "pending":
                    self._go_on(step)

    def _go_on(self, step: Step) -> None:
        makers = {need: [s for s in self.steps.values() if need in s.plan.makes] for need in step.plan.needs}
        made = {need for need, by in makers.items() if any(s.state == "succeeded" for s in by)}
        if any(all(s.state in ENDED for s in by) for need, by in makers.items() if need not in made):
            step.end("skipped")
        elif made == set(makers) and all(self.steps[name].state in ENDED for name in step.plan.after):
            step.state = "queued"

    def claim(self, name: str) -> None:
        step = self.steps[name]
        step.state, step.error = "running", None
        step.attempt += 1
        step.token += 1

    def finish(self, name: str, how: str) -> None:
        """A run that holds its lease ends, or (``expire``) is taken back."""
        step = self.steps[name]
        match how:
            case "succeed":
                step.end("succeeded")
                step.successes += 1
            case "skip":
                step.end("skipped")
            case "cancelled":
                step.end("cancelled")
            case "release" if step.cancel:
                step.end("cancelled", step.error)
            case "release":
                step.state, step.attempt = "queued", step.attempt - 1
            case "wait" if not step.cancel:
                step.state, step.attempt = "queued", step.attempt - 1
                step.later, step.error = True, "waiting"
            case _:
                self._fail(step, how)
        self.go_on()

    def _fail(self, step: Step, how: str) -> None:
        error = "worker_lost" if how == "expire" else "broken"
        if step.cancel:
            # Whoever obeyed a cancel, or died before it could, needs no excuse.
            step.end("cancelled", None if how == "expire" else error)
        elif how == "fail" or step.attempt >= step.plan.attempts:
            step.end("failed", error)
        else:
            step.state, step.later, step.error = "queued", how == "retry later", error

    def stop(self) -> None:
        for step in self.steps.values():
            if step.state == "running":
                step.cancel = True
            elif step.state not in ENDED:
                step.end("cancelled", step.error)
        self.cancel = True
        self.go_on()

    def again(self, name: str | None) -> None:
        chosen = {name} if name else {s.plan.name for s in self.steps.values() if s.state in {"failed", "cancelled"}}
        chosen = chosen or set(self.steps)
        if name:
            chosen = self._closed(chosen, self._unmade_makers)
        for step in [self.steps[n] for n in self._closed(chosen, self._dependants)]:
            step.end("pending")
            step.attempt = 0
        self.cancel = False
        self.go_on()

    def _closed(self, names: set[str], more: Callable[[Step], Iterable[str]]) -> set[str]:
        grown = set(names)
        while grown != (grown := grown.union(*(more(self.steps[name]) for name in grown))):
            continue
        return grown

    def _unmade_makers(self, step: Step) -> Iterator[str]:
        for need in step.plan.needs:
            makers = [s for s in self.steps.values() if need in s.plan.makes]
            if not any(s.state == "succeeded" for s in makers):
                yield from (s.plan.name for s in makers)

    def _dependants(self, step: Step) -> Iterator[str]:
        for other in self.steps.values():
            consumes = set(step.plan.makes) & set(other.plan.needs)
            if consumes or (step.plan.name in other.plan.after and other.state != "succeeded"):
                yield other.plan.name


@dataclass
class Video:
    owner: int
    deleted: bool = False
    process: Job | None = None
    purge: Job | None = None
    artefacts: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """(kind, name) → (step, lease token of the run that made it)."""

    @property
    def status(self) -> str:
        if self.process is None:
            return "awaiting_upload"
        if not self.process.ended:
            return "playable" if any(kind == "rendition" for kind, _ in self.artefacts) else "processing"
        return {"succeeded": "ready"}.get(self.process.state, self.process.state)

    def job(self, kind: str) -> Job | None:
        return self.process if kind == "process" else self.purge

    def bury(self) -> None:
        self.deleted = True
        if self.process is not None and not self.process.ended:
            self.process.stop()
        self.purge = Job.of(PURGE)


@dataclass
class Model:
    """Every video by a number of the test's own."""

    videos: dict[int, Video] = field(default_factory=dict)

    def copy(self) -> Model:
        return deepcopy(self)

    def jobs(self) -> Iterator[tuple[int, str, Job]]:
        for number, video in self.videos.items():
            for kind in ("process", "purge"):
                if (job := video.job(kind)) is not None:
                    yield number, kind, job

    def steps(self) -> Iterator[tuple[tuple[int, str, str], Step]]:
        for number, kind, job in self.jobs():
            for name, step in job.steps.items():
                yield (number, kind, name), step

    def step(self, key: tuple[int, str, str]) -> Step | None:
        return dict(self.steps()).get(key)

    def job(self, key: tuple[int, str, str]) -> Job:
        job = self.videos[key[0]].job(key[1])
        assert job is not None
        return job

    def holds(self, key: tuple[int, str, str], token: int) -> bool:
        step = self.step(key)
        return step is not None and step.state == "running" and step.token == token

    def claimable(self, resource: str | None = None) -> set[tuple[int, str, str]]:
        return {k for k, s in self.steps() if s.claimable and resource in {None, s.plan.resource}}

    def put(self, key: tuple[int, str, str], token: int, names: Iterable[str]) -> None:
        for name in names:
            self.videos[key[0]].artefacts[(_kind(key[2]), name)] = (key[2], token)

    def leave_only(self, key: tuple[int, str, str], token: int) -> None:
        """After a success nothing of the step's other runs is left."""
        artefacts = self.videos[key[0]].artefacts
        for named, (step, by) in list(artefacts.items()):
            if step == key[2] and by != token:
                del artefacts[named]

    def facts(self) -> dict[str, object]:
        """All that a look into the database must find."""
        return {
            "videos": {n: (v.status, v.deleted) for n, v in self.videos.items()},
            "jobs": {(n, kind): (job.state, job.cancel) for n, kind, job in self.jobs()},
            "steps": {
                key: (s.state, s.attempt, s.token, s.cancel, s.state == "running", s.error) for key, s in self.steps()
            },
            "artefacts": {(n, *named): by for n, v in self.videos.items() for named, by in v.artefacts.items()},
        }


def _kind(step: str) -> str:
    return "rendition" if step == "ladder" else "picture"
