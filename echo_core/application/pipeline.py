"""The pipeline: which steps a new job has, made from the specs of the kernel and of plugins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from echo_core.domain.ids import UserId, VideoId, new_job_id, new_step_id
from echo_core.domain.jobs import NUMBER_MARK, SOURCE, Job, JobKind, JobState, Step
from echo_core.plugin_api.errors import InvalidRequestError
from echo_core.plugin_api.specs import StepSpec
from echo_core.plugin_api.steps import FurtherStep


class PipelineError(ValueError):
    """The steps do not form a pipeline: a name twice, a product nobody makes, a circle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredStep:
    """A step spec and the plugin (``kernel`` for our own) that brought it."""

    plugin: str
    spec: StepSpec


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The steps of a processing job and of a purge job, each in an order in which they could run one by one, and those
    that steps may add to their job (``further``)."""

    process: tuple[RegisteredStep, ...]
    purge: tuple[RegisteredStep, ...]
    further: tuple[RegisteredStep, ...] = ()

    @classmethod
    def of(cls, process: Sequence[RegisteredStep], *, purge: tuple[RegisteredStep, ...]) -> Pipeline:
        """Of the steps of processing in any order, further ones among them. Raises ``PipelineError``."""
        return cls(
            process=ordered(tuple(entry for entry in process if not entry.spec.further)),
            purge=purge,
            further=tuple(entry for entry in process if entry.spec.further),
        )

    @property
    def every(self) -> tuple[RegisteredStep, ...]:
        """All that a worker may be asked to run."""
        return (*self.process, *self.further, *self.purge)

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

    def further_steps(self, wanted: Sequence[FurtherStep], *, position: int) -> tuple[Step, ...]:
        """Steps to be added to a job, from this position on.

        Raises ``InvalidRequestError`` (``unknown_step``) for a spec that is not there, or not ``further``.
        """
        by_name = {entry.spec.name: entry for entry in self.further}
        made = []
        for number, one in enumerate(wanted):
            entry = by_name.get(one.spec)
            if entry is None:
                raise InvalidRequestError(
                    f"A step wants to add {one.name!r}, which no plugin provides.",
                    code="unknown_step",
                    remedy="Enable the plugin that provides it, then retry the job.",
                )
            step = _new_step(entry, position + number)
            made.append(
                replace(
                    step,
                    name=one.name,
                    consumes=one.consumes,
                    produces=one.produces,
                    after=one.after,
                    weight=step.weight * one.share,
                    timeout_per_media_s=step.timeout_per_media_s * one.share,
                )
            )
        return tuple(made)

    def missing_steps(self, job: Job, names: Sequence[str]) -> tuple[Step, ...]:
        """Steps of these names that a job, begun before there were any, lacks."""
        has = {step.name for step in job.steps}
        entries = [entry for entry in self.process if entry.spec.name in names and entry.spec.name not in has]
        first = max((step.position for step in job.steps), default=-1) + 1
        return tuple(_new_step(entry, position) for position, entry in enumerate(entries, first))


NO_PIPELINE = Pipeline(process=(), purge=())


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
        if NUMBER_MARK in step.spec.name:
            raise PipelineError(f"The step {step.spec.name!r} of plugin {step.plugin!r} has a dot in its name.")
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
