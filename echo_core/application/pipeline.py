"""The pipeline: which steps a new job has, made from the specs of the kernel and of plugins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from echo_core.domain.ids import UserId, VideoId, new_job_id, new_step_id
from echo_core.domain.jobs import SOURCE, Job, JobKind, JobState, Step
from echo_core.plugin_api.specs import StepSpec


class PipelineError(ValueError):
    """The steps do not form a pipeline: a name twice, a product nobody makes, a circle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredStep:
    """A step spec and the plugin (``kernel`` for our own) that brought it."""

    plugin: str
    spec: StepSpec


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The steps of a processing job and of a purge job, each in an order in which they could run one by one."""

    process: tuple[RegisteredStep, ...]
    purge: tuple[RegisteredStep, ...]

    def new_job(
        self, kind: JobKind, *, video_id: VideoId, owner_id: UserId, now: datetime, correlation_id: str = ""
    ) -> Job:
        """A fresh job of that kind, with its first steps queued."""
        registered = self.process if kind is JobKind.PROCESS else self.purge
        job = Job(
            id=new_job_id(),
            video_id=video_id,
            owner_id=owner_id,
            kind=kind,
            state=JobState.QUEUED,
            created_at=now,
            correlation_id=correlation_id,
            steps=tuple(_new_step(entry, position) for position, entry in enumerate(registered)),
        )
        return job.started(now)


def _new_step(entry: RegisteredStep, position: int) -> Step:
    spec = entry.spec
    return Step(
        id=new_step_id(),
        name=spec.name,
        position=position,
        consumes=spec.consumes,
        produces=spec.produces,
        after=spec.after,
        resource=spec.resource,
        optional=spec.optional,
        max_attempts=spec.retry.max_attempts,
        first_delay_s=spec.retry.first_delay_s,
        max_delay_s=spec.retry.max_delay_s,
        timeout_s=spec.timeout_s,
        timeout_per_media_s=spec.timeout_per_media_s,
        weight=spec.weight,
        plugin=entry.plugin,
    )


def ordered(steps: tuple[RegisteredStep, ...]) -> tuple[RegisteredStep, ...]:
    """The steps so that everything consumed, or to be waited for, stands before; else as given.

    Raises ``PipelineError`` naming the steps (and plugins) at fault.
    """
    by_name: dict[str, RegisteredStep] = {}
    for step in steps:
        if (other := by_name.get(step.spec.name)) is not None:
            raise PipelineError(
                f"Plugins {other.plugin!r} and {step.plugin!r} both register a step {step.spec.name!r}."
            )
        by_name[step.spec.name] = step
    made = {SOURCE} | {p for s in steps for p in s.spec.produces}
    for step in steps:
        if missing := set(step.spec.consumes) - made:
            raise PipelineError(
                f"Step {step.spec.name!r} of plugin {step.plugin!r} consumes {', '.join(sorted(missing))}, "
                "which no step produces."
            )
    placed: list[RegisteredStep] = []
    waiting = list(steps)
    while waiting:
        unmade = {p for s in waiting for p in s.spec.produces}
        names = {s.spec.name for s in waiting}
        free = [s for s in waiting if not unmade.intersection(s.spec.consumes) and not names.intersection(s.spec.after)]
        if not free:
            raise PipelineError(f"These steps wait for each other: {', '.join(sorted(names))}.")
        placed.append(free[0])
        waiting.remove(free[0])
    return tuple(placed)
