"""Percent and remaining time of a job, from what its steps expect and have done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from echo_core.domain.ids import StepId
from echo_core.domain.jobs import Job, JobState, Step, StepState

MIN_PROGRESS_TO_EXTRAPOLATE = 0.05
"""Below this fraction of a step, its own speed says less than what earlier videos taught."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What the instance has learned: seconds of work per second of media by step name, and how many bytes a second of
    media has (None: nothing is known)."""

    work_per_media_s: Mapping[str, float] = field(default_factory=dict)
    bytes_per_media_s: float | None = None

    def likely(self, job: Job, size_bytes: int) -> Job:
        """What to expect of a job until somebody has looked into its file: by the size alone."""
        if not self.bytes_per_media_s:
            return job
        return job.with_expectations(size_bytes / self.bytes_per_media_s, self.work_per_media_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What comes before an unfinished step in the order of claims, over everybody and its own job, in its class.

    ``steps_before`` counts the queued ones whose time has come (None: the step itself is not such a one);
    ``work_before_s`` is the work of all unfinished ones, what is left of running ones included; ``slots`` are the
    steps of the class that living workers can run at once.
    """

    steps_before: int | None
    work_before_s: float
    slots: int

    def after(self, seconds: float) -> Place:
        """The place that this one has become by then, if nobody overtook it."""
        return replace(self, work_before_s=max(0.0, self.work_before_s - seconds * self.slots))


def job_percent(job: Job) -> float:
    """0 to 100, one decimal; 100 only of a job that has succeeded. One that failed or was cancelled tells how far it
    came."""
    if job.state is JobState.SUCCEEDED:
        return 100.0
    total = sum(_expected(s) for s in job.steps if s.state is not StepState.SKIPPED) or 1.0
    done = sum(_expected(s) * _fraction(s, job) for s in job.steps if s.state is not StepState.SKIPPED)
    return min(round(100.0 * done / total, 1), 99.9)


def job_eta_s(job: Job, now: datetime, places: Mapping[StepId, Place] | None = None) -> float | None:
    """Seconds until the job has finished; None when it has finished, nothing is known, or no worker serves a step.

    A step starts when what it waits for has finished and its class has done the work before it. ``places`` are those of
    the same moment; steps without one are taken to be alone, one of a class after another.
    """
    if job.state.finished:
        return None
    places = {**_alone(job, now), **(places or {})}
    ends_s: dict[str, float] = {}
    made_s: dict[str, float] = {}
    for step in job.steps:  # in an order in which they could run one by one
        if step.state.finished:
            continue
        remaining_s = _remaining_s(step, now)
        if remaining_s is None:
            return None
        start_s = 0.0
        if step.state is not StepState.RUNNING:
            place = places[step.id]
            if place.slots < 1:
                return None
            inputs_s = [made_s.get(product, 0.0) for product in step.consumes]
            start_s = max(place.work_before_s / place.slots, *inputs_s, *(ends_s.get(n, 0.0) for n in step.after), 0.0)
            if step.run_at is not None:
                start_s = max(start_s, (step.run_at - now).total_seconds())
        ends_s[step.name] = start_s + remaining_s
        for product in step.produces:
            made_s[product] = max(made_s.get(product, 0.0), ends_s[step.name])
    return round(max(ends_s.values(), default=0.0), 1)


def _alone(job: Job, now: datetime) -> Mapping[StepId, Place]:
    places: dict[StepId, Place] = {}
    before_s: dict[str, float] = {}
    for step in job.steps:
        if not step.state.finished:
            work_s = before_s.setdefault(step.resource, 0.0)
            places[step.id] = Place(steps_before=None, work_before_s=work_s, slots=1)
            before_s[step.resource] += _remaining_s(step, now) or 0.0
    return places


def _expected(step: Step) -> float:
    return step.expected_s or step.weight


def _fraction(step: Step, job: Job) -> float:
    # While a job goes on, a step that failed is out of the way; when it has ended, what was not done was not done.
    done = step.state is StepState.SUCCEEDED or (step.state.finished and not job.state.finished)
    return 1.0 if done else step.progress


def _remaining_s(step: Step, now: datetime) -> float | None:
    if step.state is StepState.RUNNING and step.started_at is not None:
        elapsed_s = max(0.0, (now - step.started_at).total_seconds())
        if step.progress >= MIN_PROGRESS_TO_EXTRAPOLATE:
            return elapsed_s * (1.0 - step.progress) / step.progress
        if not step.expected_s:
            return None
        # Once it has taken longer than it should have, what it has taken already says more than what others took.
        return max(0.1 * step.expected_s, step.expected_s - elapsed_s, elapsed_s - step.expected_s)
    return step.expected_s or None  # a weight alone is no time: the length of the media is not known yet


def with_live_progress(job: Job, live: Mapping[StepId, float]) -> Job:
    """The job with the done fractions of steps that run here, which are newer than the stored ones."""
    steps = tuple(
        replace(step, state=StepState.RUNNING, progress=max(step.progress, live[step.id]))
        if step.id in live and not step.state.finished
        else step
        for step in job.steps
    )
    return replace(job, steps=steps)
