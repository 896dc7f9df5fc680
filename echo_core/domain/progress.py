"""Percent and remaining time of a job, from what its steps expect and have done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from echo_core.domain.ids import StepId
from echo_core.domain.jobs import Job, JobState, Step, StepState

MIN_PROGRESS_TO_EXTRAPOLATE = 0.05
"""Below this fraction of a step, its own speed says less than what earlier videos taught."""


def job_percent(job: Job) -> float:
    """0 to 100, one decimal; 100 only of a job that has succeeded. One that failed or was cancelled tells how far it
    came."""
    if job.state is JobState.SUCCEEDED:
        return 100.0
    total = sum(_expected(s) for s in job.steps if s.state is not StepState.SKIPPED) or 1.0
    done = sum(_expected(s) * _fraction(s, job) for s in job.steps if s.state is not StepState.SKIPPED)
    return min(round(100.0 * done / total, 1), 99.9)


def job_eta_s(job: Job, now: datetime) -> float | None:
    """Seconds until the job has finished, without waiting in queues; None when it has finished or nothing is known.

    Steps of one resource class are taken to run one after another, classes side by side.
    """
    if job.state.finished:
        return None
    remaining: dict[str, float] = {}
    for step in job.steps:
        if not step.state.finished:
            remaining_s = _remaining_s(step, now)
            if remaining_s is None:
                return None
            remaining[step.resource] = remaining.get(step.resource, 0.0) + remaining_s
    return round(max(remaining.values()), 1)


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
        return max(0.1 * step.expected_s, step.expected_s - elapsed_s) if step.expected_s else None
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
