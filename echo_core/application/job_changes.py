"""Storing a change of a job, with everything that follows from it, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from echo_core.application.ports import NewEvent, UnitOfWork
from echo_core.domain.jobs import Job, JobKind, Step, StepError, StepState
from echo_core.domain.progress import job_percent
from echo_core.domain.statuses import video_status
from echo_core.domain.videos import Video
from echo_core.plugin_api.json import JsonObject, JsonValue


async def store_change(uow: UnitOfWork, before: Job | None, after: Job, *, also: Sequence[NewEvent] = ()) -> Job:
    """Store ``after`` (``before=None``: a new job), the video's new status, the events, and ring for queued steps.

    Call it last in the unit of work, with the job's row locked and before the video's row is: everybody locks in the
    order job, video, event counter. ``before == after`` is right when only artefacts changed: the video may have become
    playable. ``also`` are further events, told after the job's. A purge job is housekeeping: it rings, and tells
    nobody.

    Raises ``LeaseLostError`` and ``ConflictError`` like the repository.
    """
    if before is None:
        await uow.jobs.add(after)
    elif before != after:
        await uow.jobs.save(before, after)
    events: list[NewEvent] = []
    if after.kind is JobKind.PROCESS:
        events.extend(await _video_events(uow, before, after))
        events.extend(_job_events(before, after))
    events.extend(also)
    if events:
        await uow.events.add(events)
    await _ring(uow, before, after)
    return after


async def _video_events(uow: UnitOfWork, before: Job | None, after: Job) -> list[NewEvent]:
    has_rendition = not after.state.finished and await uow.artefacts.has_rendition(after.video_id)
    status = video_status(after, has_rendition=has_rendition)
    video = await uow.videos.get(after.video_id, for_update=True, deleted=True)
    if video.status is status:
        return []
    changed = replace(video, status=status)
    await uow.videos.save(changed)
    if video.deleted_at is not None:
        return []
    return [video_event("video.created" if before is None else "video.updated", changed)]


def video_event(event_type: str, video: Video) -> NewEvent:
    """An event that tells a video's status and title."""
    return NewEvent(
        type=event_type,
        owner_id=video.owner_id,
        video_id=video.id,
        state=video.status,
        facts={"title": video.title},
    )


def _job_events(before: Job | None, after: Job) -> Iterator[NewEvent]:
    """Steps first, in order of position, so that whoever hears of a job's end knows its steps' already; a job that
    has just begun is told before its steps."""
    job_changed = before is None or before.state is not after.state
    if job_changed and not after.state.finished:
        yield _job_event(after)
    for step in _changed_steps(before, after):
        yield step_event(after, step)
    if job_changed and after.state.finished:
        yield _job_event(after)


def step_event(job: Job, step: Step) -> NewEvent:
    """An event that tells a step's state, and why it failed or what it waits for."""
    return NewEvent(
        type=f"step.{step.state}",
        owner_id=job.owner_id,
        video_id=job.video_id,
        job_id=job.id,
        step=step.name,
        state=step.state,
        facts=_step_facts(step),
    )


def _job_event(job: Job) -> NewEvent:
    facts: dict[str, JsonValue] = {"percent": job_percent(job)}
    if (error := job.first_error) is not None:
        facts["error"] = error_facts(error)
    return NewEvent(
        type=f"job.{job.state}",
        owner_id=job.owner_id,
        video_id=job.video_id,
        job_id=job.id,
        state=job.state,
        facts=facts,
    )


def _changed_steps(before: Job | None, after: Job) -> Iterator[Step]:
    old = {step.id: step for step in before.steps} if before is not None else {}
    for step in after.steps:
        was = old.get(step.id)
        if was is None:
            # A new job is told by what can run already; pending is where every step starts.
            if step.state is not StepState.PENDING:
                yield step
        elif was.state is not step.state:
            yield step


def _step_facts(step: Step) -> JsonObject:
    facts: dict[str, JsonValue] = {"attempt": step.attempt}
    if step.error is not None:
        facts["error"] = error_facts(step.error)
    if step.skipped_reason:
        facts["reason"] = step.skipped_reason
    return facts


def error_facts(error: StepError) -> JsonObject:
    """An error as events carry it: without the log, which may be long."""
    return {"code": error.code, "message": error.message, "remedy": error.remedy}


async def _ring(uow: UnitOfWork, before: Job | None, after: Job) -> None:
    """Ring for steps that became queued, except those that wait for a later moment: the worker that failed them claims
    them then, or else the reconciler finds them."""
    queued = [s for s in _changed_steps(before, after) if s.state is StepState.QUEUED]
    if not queued:
        return
    # Only a failed attempt waits, so that the usual case needs no look at the clock.
    now = await uow.jobs.now() if any(s.error is not None for s in queued) else None
    for step in queued:
        if step.error is None or now is None or step.run_at is None or step.run_at <= now:
            uow.ring(step.id, step.resource)
