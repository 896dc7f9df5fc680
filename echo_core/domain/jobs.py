"""Jobs and their steps: what may follow what, decided here alone and without any input or output.

A ``Job`` is the aggregate: every change of a step goes through a method that returns the new job, so that the states
of steps, job and video can never disagree. Times are passed in (the database's clock).
Longer than a module should be: one aggregate, whose legal changes are read together or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from echo_core.domain.errors import IllegalChangeError, LeaseLostError, UnknownEntityError
from echo_core.domain.ids import JobId, StepId, UserId, VideoId
from echo_core.plugin_api.json import JsonObject
from echo_core.plugin_api.steps import Resource

SOURCE = "source"
"""The product that exists from the start: the uploaded object."""
NUMBER_MARK = "."
"""Between the name of a spec and the number of one of several steps of it: ``piece.003``."""
MOST_WAITING = timedelta(hours=24)
"""A step that could not reach the storage for so long fails as by any other failure: an attempt counts again."""
WORKED = timedelta(minutes=10)
"""A run that lasted so long was not waiting for the storage: longer than any question to a storage that is away."""
MIN_GUESSED_S = 0.2
MIN_LEARNED_S = 0.01
"""What a step is expected to take at least, in seconds: by its weight alone, and by what earlier runs took."""


class StepState(StrEnum):
    """Where a step stands. ``pending`` waits for its inputs, ``queued`` for a worker."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Nothing more happens by itself."""
        return self in _FINISHED


_FINISHED = frozenset({StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED, StepState.CANCELLED})


class JobKind(StrEnum):
    """``process`` makes a video watchable; ``purge`` removes everything of a deleted one."""

    PROCESS = "process"
    PURGE = "purge"


class JobState(StrEnum):
    """Derived from the steps."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Nothing more happens by itself."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


@dataclass(frozen=True, kw_only=True, slots=True)
class StepError:
    """Why a step failed: a stable code, a sentence for the owner, what to do, and the end of the tool's own log."""

    code: str
    message: str
    remedy: str = ""
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step of a job. ``lease_token`` grows with every claim and fences every write of a run."""

    id: StepId
    name: str
    position: int
    consumes: tuple[str, ...]
    produces: tuple[str, ...]
    after: tuple[str, ...]
    resource: Resource
    optional: bool
    max_attempts: int
    first_delay_s: float
    max_delay_s: float
    timeout_s: float
    timeout_per_media_s: float
    weight: float
    plugin: str = ""
    state: StepState = StepState.PENDING
    attempt: int = 0
    lease_token: int = 0
    swept_token: int = 0
    """Nothing unnamed is left in storage of runs up to this token."""
    lease_expires_at: datetime | None = None
    worker: str = ""
    run_at: datetime | None = None
    """Queued: not before this moment (backoff). Running: since when it had waited."""
    waiting_since: datetime | None = None
    """Since when its runs have found the storage away, one after another. None: the last one did not, or it had worked
    for a while (``WORKED``) before it did."""
    cancel_requested: bool = False
    progress: float = 0.0
    expected_s: float = 0.0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: StepError | None = None
    """Why it failed; while it is queued, why the attempt before failed or what it waits for."""
    output: JsonObject = field(default_factory=dict)
    skipped_reason: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """The name of the spec that it was made of: its own, but for one that another step has added."""
        return self.name.partition(NUMBER_MARK)[0]

    @property
    def number(self) -> int:
        """Which one it is of several steps of its spec; 0 for the only one."""
        return int(self.name.partition(NUMBER_MARK)[2] or 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job with all its steps, in order of position."""

    id: JobId
    video_id: VideoId
    owner_id: UserId
    kind: JobKind
    state: JobState
    created_at: datetime
    steps: tuple[Step, ...]
    correlation_id: str = ""
    cancel_requested: bool = False
    finished_at: datetime | None = None

    # --- looking -----------------------------------------------------------------------------------------------

    def step(self, step_id: StepId) -> Step:
        """The step of that id. Raises ``UnknownEntityError``."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise UnknownEntityError("There is no such step in this job.")

    def step_named(self, name: str) -> Step:
        """The step of that name. Raises ``UnknownEntityError`` that lists the names there are."""
        for step in self.steps:
            if step.name == name:
                return step
        names = ", ".join(step.name for step in self.steps)
        raise UnknownEntityError(f"This job has no step {name!r}.", code="unknown_step", remedy=f"Steps: {names}.")

    @property
    def products(self) -> Mapping[str, JsonObject]:
        """Outputs of succeeded steps by product name."""
        return {p: s.output for s in self.steps if s.state is StepState.SUCCEEDED for p in s.produces}

    @property
    def first_error(self) -> StepError | None:
        """The error that made the job fail: of the first required step that failed."""
        return next((s.error for s in self.steps if s.state is StepState.FAILED and not s.optional), None)

    def held(self, step_id: StepId, lease_token: int) -> Step:
        """The running step of that id under that lease. Raises ``LeaseLostError`` for anything else."""
        step = self.step(step_id)
        if step.state is not StepState.RUNNING or step.lease_token != lease_token:
            raise LeaseLostError(f"Step {step.name} belongs to another run now.")
        return step

    # --- changes -----------------------------------------------------------------------------------------------

    def started(self, now: datetime) -> Job:
        """The job as it is when first stored: steps without missing inputs are queued."""
        return self._advanced(now)

    def claimed(self, step_id: StepId, *, worker: str, now: datetime, lease_s: float) -> Job:
        """A worker takes a queued step. Raises ``IllegalChangeError`` if it is not queued any more."""
        step = self.step(step_id)
        if step.state is not StepState.QUEUED:
            raise IllegalChangeError(f"Step {step.name} is {step.state}, not queued.")
        return self._with(
            now,
            replace(
                step,
                state=StepState.RUNNING,
                attempt=step.attempt + 1,
                lease_token=step.lease_token + 1,
                lease_expires_at=now + timedelta(seconds=lease_s),
                worker=worker,
                started_at=now,
                finished_at=None,
                progress=0.0,
                error=None,
            ),
        )

    def deferred(self, step_id: StepId, *, run_at: datetime, reason: StepError) -> Job:
        """A queued step cannot start for want of room: it stays queued until later, and no attempt is counted.

        ``reason`` stands as the step's error meanwhile. Raises ``IllegalChangeError`` if it is not queued any more.
        """
        step = self.step(step_id)
        if step.state is not StepState.QUEUED:
            raise IllegalChangeError(f"Step {step.name} is {step.state}, not queued.")
        waiting = replace(step, run_at=run_at, error=reason)
        return replace(self, steps=tuple(waiting if s.id == step_id else s for s in self.steps))

    def succeeded(
        self,
        step_id: StepId,
        lease_token: int,
        *,
        now: datetime,
        output: JsonObject,
        warnings: Sequence[str] = (),
        leaves_objects: bool = False,
    ) -> Job:
        """The run is done. ``leaves_objects``: it has stored some that are not recorded, and are still to be removed.

        Raises ``LeaseLostError`` if it is not the owner any more.
        """
        step = _swept_by_itself(self.held(step_id, lease_token), leaves_objects)
        ended = _ended(step, StepState.SUCCEEDED, now, output=output, warnings=tuple(warnings), progress=1.0)
        return self._taught_by(ended)._with(now, ended)

    def skipped(
        self, step_id: StepId, lease_token: int, *, now: datetime, reason: str, leaves_objects: bool = False
    ) -> Job:
        """The run found nothing to do; ``leaves_objects`` as of ``succeeded``. Raises ``LeaseLostError``."""
        step = _swept_by_itself(self.held(step_id, lease_token), leaves_objects)
        return self._with(now, _ended(step, StepState.SKIPPED, now, skipped_reason=reason))

    def with_further(self, steps: Sequence[Step], *, media_duration_s: float) -> Job:
        """With steps that one of this job's has found to be needed, still pending. One that has the name of a step
        that is here already (the finder ran before) redefines it, and it starts anew."""
        fresh = {step.name: replace(step, expected_s=_guessed_s(step, media_duration_s)) for step in steps}
        kept = [_redefined(step, fresh.pop(step.name)) if step.name in fresh else step for step in self.steps]
        return replace(self, steps=(*kept, *fresh.values()))

    def discarded(self, names: Set[str]) -> Job:
        """Rows of artefacts of these steps were removed: what they name is to be swept."""
        steps = tuple(
            replace(s, swept_token=min(s.swept_token, s.lease_token - 1)) if s.name in names else s for s in self.steps
        )
        return replace(self, steps=steps)

    def failed(
        self, step_id: StepId, lease_token: int, *, now: datetime, error: StepError, retry_in_s: float | None
    ) -> Job:
        """The run failed; with ``retry_in_s`` and attempts left it is queued again. Raises ``LeaseLostError``."""
        step = replace(self.held(step_id, lease_token), waiting_since=None)
        return self._with(now, self._failed(step, now, error, retry_in_s))

    def waited(
        self,
        step_id: StepId,
        lease_token: int,
        *,
        now: datetime,
        reason: StepError,
        error: StepError,
        retry_in_s: float,
    ) -> Job:
        """The run found the storage away: it is queued for later with the ``reason``, and the attempt not counted. One
        that has waited for ``MOST_WAITING`` fails with ``error`` instead. Raises ``LeaseLostError``."""
        step = self.held(step_id, lease_token)
        since = _waiting_since(step, now) or now
        if step.cancel_requested or now - since >= MOST_WAITING:
            return self._with(now, self._failed(step, now, error, retry_in_s))
        later = _requeued(step, now, run_at=now + timedelta(seconds=retry_in_s), attempt=step.attempt - 1)
        return self._with(now, replace(later, error=reason, waiting_since=since))

    def released(self, step_id: StepId, lease_token: int, *, now: datetime) -> Job:
        """The worker shuts down: the step is queued again and the attempt not counted. Raises ``LeaseLostError``."""
        step = self.held(step_id, lease_token)
        if step.cancel_requested:
            return self._with(now, _ended(step, StepState.CANCELLED, now))
        return self._with(now, _requeued(step, now, attempt=step.attempt - 1))

    def cancelled(self, step_id: StepId, lease_token: int, *, now: datetime) -> Job:
        """The run obeyed a cancel. Raises ``LeaseLostError``."""
        step = self.held(step_id, lease_token)
        return self._with(now, _ended(step, StepState.CANCELLED, now))

    def lease_expired(self, step_id: StepId, *, now: datetime) -> Job:
        """The owner of a running step has not been heard of: take the step back. It is queued at once, as the lease
        was wait enough.

        Raises ``IllegalChangeError`` if the lease holds after all.
        """
        step = self.step(step_id)
        if step.state is not StepState.RUNNING or step.lease_expires_at is None or step.lease_expires_at > now:
            raise IllegalChangeError(f"The lease of step {step.name} has not expired.")
        if step.cancel_requested:
            return self._with(now, _ended(step, StepState.CANCELLED, now))
        error = StepError(
            code="worker_lost",
            message="The worker that ran this step stopped responding.",
            remedy="If this happens again, look at the worker's log; the file may need more memory than it has.",
        )
        return self._with(now, self._failed(step, now, error, retry_in_s=0.0))

    def unprovided(self, step_id: StepId, *, now: datetime) -> Job:
        """No worker has what a queued step needs: end it, so that the job does not wait for ever.

        Raises ``IllegalChangeError`` if it is not queued any more.
        """
        step = self.step(step_id)
        if step.state is not StepState.QUEUED:
            raise IllegalChangeError(f"Step {step.name} is {step.state}, not queued.")
        error = StepError(
            code="step_unknown",
            message=f"No running worker provides the step {step.name}"
            + (f" (of the plugin {step.plugin})." if step.plugin else "."),
            remedy="Install or enable the plugin that provides it on a worker, then retry the job.",
        )
        return self._with(now, _ended(step, StepState.FAILED, now, error=error))

    def cancel(self, now: datetime) -> Job:
        """The owner wants no more of it: waiting steps end at once, running ones are asked to.

        Asking again changes nothing. Raises ``IllegalChangeError`` (code ``job_finished``) on a finished job.
        """
        if self.state.finished:
            raise IllegalChangeError(
                f"This job is already {self.state}.", code="job_finished", remedy="There is nothing to cancel."
            )
        steps = tuple(
            replace(s, cancel_requested=True)
            if s.state is StepState.RUNNING
            else s
            if s.state.finished
            else _ended(s, StepState.CANCELLED, now)
            for s in self.steps
        )
        return replace(self, steps=steps, cancel_requested=True)._advanced(now)

    def retried(self, now: datetime, *, step_name: str | None = None) -> Job:
        """Run again what did not succeed, or one step and all that depends on it; nothing failed: run everything.

        A step whose inputs were never made takes along the steps that should have made them.

        Always legal on a finished job. Raises ``IllegalChangeError`` (code ``job_unfinished``) on another.
        """
        self._require_finished()
        if step_name is not None:
            again = self._with_missing_producers(self.step_named(step_name).name)
        else:
            again = {s.name for s in self.steps if s.state in {StepState.FAILED, StepState.CANCELLED}}
            again = again or {s.name for s in self.steps}
        return self._begun_again(again, now)

    def rerun(self, step_names: Collection[str], now: datetime) -> Job:
        """Run these steps again, and all that depends on them. Raises as ``retried``, ``UnknownEntityError`` for a step
        that is not there."""
        self._require_finished()
        again: set[str] = set()
        for name in step_names:
            again |= self._with_missing_producers(self.step_named(name).name)
        return self._begun_again(again, now)

    def with_expectations(self, media_duration_s: float, rates: Mapping[str, float]) -> Job:
        """Expect ``rates[name]`` (or the step's weight) seconds of work per second of media, for unfinished steps."""

        def expected_s(step: Step) -> float:
            if (rate := rates.get(step.name)) is not None:
                return max(MIN_LEARNED_S, media_duration_s * rate)
            return _guessed_s(step, media_duration_s)

        steps = tuple(s if s.state.finished else replace(s, expected_s=expected_s(s)) for s in self.steps)
        return replace(self, steps=steps)

    def _require_finished(self) -> None:
        if not self.state.finished:
            raise IllegalChangeError(
                "This job is still running.", code="job_unfinished", remedy="Cancel it first, or wait for its end."
            )

    def _begun_again(self, names: set[str], now: datetime) -> Job:
        again = self._with_discarded(self._with_dependants(names))
        steps = tuple(_reset(s) if s.name in again else s for s in self.steps)
        fresh = replace(self, steps=steps, cancel_requested=False, state=JobState.QUEUED, finished_at=None)
        return fresh._advanced(now)

    # --- inside ------------------------------------------------------------------------------------------------

    def _failed(self, step: Step, now: datetime, error: StepError, retry_in_s: float | None) -> Step:
        if step.cancel_requested:
            return _ended(step, StepState.CANCELLED, now, error=error)
        if retry_in_s is None or step.attempt >= step.max_attempts:
            return _ended(step, StepState.FAILED, now, error=error)
        later = now + timedelta(seconds=retry_in_s) if retry_in_s > 0 else None
        again = _requeued(step, now, run_at=later, attempt=step.attempt)
        return replace(again, error=error)

    def _taught_by(self, ended: Step) -> Job:
        """What one of several steps of a spec has taken tells best what the others will take."""
        if ended.name == ended.spec or ended.started_at is None or ended.finished_at is None or not ended.weight:
            return self
        rate = (ended.finished_at - ended.started_at).total_seconds() / ended.weight
        steps = tuple(
            replace(s, expected_s=max(MIN_LEARNED_S, rate * s.weight))
            if s.spec == ended.spec and s.state in {StepState.PENDING, StepState.QUEUED}
            else s
            for s in self.steps
        )
        return replace(self, steps=steps)

    def _with(self, now: datetime, changed: Step) -> Job:
        steps = tuple(changed if s.id == changed.id else s for s in self.steps)
        return replace(self, steps=steps)._advanced(now)

    def _with_missing_producers(self, name: str) -> set[str]:
        """``name`` and, however far back, the steps without whose products it would only be skipped again."""
        grown = {name}
        while True:
            made = {p for s in self.steps if s.state is StepState.SUCCEEDED for p in s.produces}
            missing = {p for s in self.steps if s.name in grown for p in s.consumes} - made
            more = {s.name for s in self.steps if missing.intersection(s.produces)}
            if more <= grown:
                return grown
            grown |= more

    def _with_discarded(self, names: set[str]) -> set[str]:
        """``names`` and the numbered steps whose results one of these has used up: what several steps make for another
        to join is not kept once it has succeeded."""
        used = {p for s in self.steps if s.name in names and s.state is StepState.SUCCEEDED for p in s.consumes}
        return names | {s.name for s in self.steps if s.name != s.spec and used.intersection(s.produces)}

    def _with_dependants(self, names: set[str]) -> set[str]:
        """``names`` and every step that consumes what they produce or that was skipped for want of it."""
        grown = set(names)
        while True:
            products = {p for s in self.steps if s.name in grown for p in s.produces}
            more = {
                s.name
                for s in self.steps
                if products.intersection(s.consumes)
                or (s.state is not StepState.SUCCEEDED and grown.intersection(s.after))
            }
            if more <= grown:
                return grown
            grown |= more

    def _advanced(self, now: datetime) -> Job:
        """Queue what can run, skip what never can, derive the state."""
        steps = {s.name: s for s in self.steps}
        changed = True
        while changed:
            changed = False
            for step in list(steps.values()):
                if step.state is StepState.PENDING and (new := _moved_on(step, steps, now)) is not None:
                    steps[step.name] = new
                    changed = True
        job = replace(self, steps=tuple(sorted(steps.values(), key=lambda s: s.position)))
        state = _job_state(job.steps, job.cancel_requested)
        finished_at = (job.finished_at or now) if state.finished else None
        return replace(job, state=state, finished_at=finished_at)


def _nothing_to_work_on(product: str, made_by: Sequence[Step]) -> str:
    """Why a step is skipped, by the names of steps: its owner has never heard of products."""
    if not made_by:
        return f"No step of this job makes what it works on ({product})."
    return f"It works on what {' or '.join(step.name for step in made_by)} makes, and there is nothing."


def _moved_on(step: Step, steps: Mapping[str, Step], now: datetime) -> Step | None:
    """A pending step as queued or skipped, or None while it still has to wait."""
    producers: dict[str, list[Step]] = {}
    for other in steps.values():
        for product in other.produces:
            producers.setdefault(product, []).append(other)
    waiting = False
    for product in step.consumes:
        if product == SOURCE:
            continue
        made_by = producers.get(product, [])
        if any(p.state is StepState.SUCCEEDED for p in made_by):
            continue
        if all(p.state.finished for p in made_by):
            return _ended(step, StepState.SKIPPED, now, skipped_reason=_nothing_to_work_on(product, made_by))
        waiting = True
    if waiting or any(not steps[name].state.finished for name in step.after if name in steps):
        return None
    return replace(step, state=StepState.QUEUED, run_at=now)


def _job_state(steps: Sequence[Step], cancel_requested: bool) -> JobState:
    if any(not s.state.finished for s in steps):
        begun = any(s.state is StepState.RUNNING or s.state.finished or s.attempt for s in steps)
        return JobState.RUNNING if begun else JobState.QUEUED
    # A retry of one step withdraws the cancel, but does not run the required steps that it had ended.
    if any(s.state is StepState.CANCELLED and (cancel_requested or not s.optional) for s in steps):
        return JobState.CANCELLED
    if any(s.state is StepState.FAILED and not s.optional for s in steps):
        return JobState.FAILED
    return JobState.SUCCEEDED


def _guessed_s(step: Step, media_duration_s: float) -> float:
    return max(MIN_GUESSED_S, media_duration_s * step.weight)


def _redefined(step: Step, fresh: Step) -> Step:
    """``fresh`` in the place of a step of the same name, whose tokens and identity go on."""
    return replace(
        fresh, id=step.id, position=step.position, lease_token=step.lease_token, swept_token=step.swept_token
    )


def _swept_by_itself(step: Step, leaves_objects: bool) -> Step:
    """The only run that there was, with nothing left to remove, needs no sweep."""
    return step if leaves_objects or step.lease_token != 1 else replace(step, swept_token=1)


def _ended(step: Step, state: StepState, now: datetime, **changes: object) -> Step:
    ended = replace(
        step,
        state=state,
        finished_at=now,
        lease_expires_at=None,
        run_at=None,
        waiting_since=None,
        cancel_requested=False,
    )
    return replace(ended, **changes)  # type: ignore[arg-type]


def _requeued(step: Step, now: datetime, *, attempt: int, run_at: datetime | None = None) -> Step:
    """Without ``run_at`` it goes on at once, and keeps the place that it had among its owner's."""
    return replace(
        step,
        state=StepState.QUEUED,
        attempt=attempt,
        lease_expires_at=None,
        worker="",
        run_at=run_at or step.run_at or now,
        waiting_since=_waiting_since(step, now),
        progress=0.0,
    )


def _waiting_since(step: Step, now: datetime) -> datetime | None:
    """Since when the step waits for the storage, now that its run ends: one that has worked did not wait."""
    worked = step.started_at is not None and now - step.started_at >= WORKED
    return None if worked else step.waiting_since


def _reset(step: Step) -> Step:
    return replace(
        step,
        state=StepState.PENDING,
        attempt=0,
        lease_expires_at=None,
        worker="",
        run_at=None,
        waiting_since=None,
        cancel_requested=False,
        progress=0.0,
        started_at=None,
        finished_at=None,
        error=None,
        output={},
        skipped_reason="",
        warnings=(),
    )
