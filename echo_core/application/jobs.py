"""Jobs as their owner sees and steers them."""

from __future__ import annotations

from dataclasses import dataclass

from echo_core.application.job_changes import store_change
from echo_core.application.ports import UnitOfWork
from echo_core.application.services import ApiServices
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import JobId
from echo_core.domain.jobs import Job, JobKind, StepState
from echo_core.domain.progress import job_eta_s, job_percent
from echo_core.domain.users import User


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job with what is computed from it. ``queue_position`` counts the steps that are claimed before its next one,
    everybody's; None while one of its steps runs, or none waits."""

    job: Job
    percent: float
    eta_s: float | None
    queue_position: int | None


async def job_view(uow: UnitOfWork, job: Job) -> JobView:
    """How far a job is, by the database's clock."""
    eta_s = position = None
    if not job.state.finished:
        places = await uow.jobs.outlook([job.id])
        eta_s = job_eta_s(job, await uow.jobs.now(), places)
        if not any(s.state is StepState.RUNNING for s in job.steps):
            waiting = (places[s.id].steps_before for s in job.steps if s.id in places)
            position = next((before for before in waiting if before is not None), None)
    return JobView(job=job, percent=job_percent(job), eta_s=eta_s, queue_position=position)


async def get_job(services: ApiServices, user: User, job_id: JobId) -> JobView:
    """One job. Raises ``UnknownEntityError``."""
    async with services.units_of_work.for_user(user) as uow:
        job = await _owned(uow, job_id)
        return await job_view(uow, job)


async def cancel_job(services: ApiServices, user: User, job_id: JobId) -> JobView:
    """Stop a job: waiting steps end now, running ones within a second or so. Asking again changes nothing.

    Raises ``UnknownEntityError``, ``IllegalChangeError`` (``job_finished``).
    """
    async with services.units_of_work.for_user(user) as uow:
        job = await _owned(uow, job_id, for_update=True)
        if not (job.cancel_requested and not job.state.finished):
            job = await store_change(uow, job, job.cancel(await uow.jobs.now()))
        return await job_view(uow, job)


async def retry_job(services: ApiServices, user: User, job_id: JobId, *, step_name: str | None) -> JobView:
    """Run again what did not succeed, or one step and all that depends on it; everything when nothing failed.

    Raises ``UnknownEntityError`` (``unknown_step`` for the step), ``IllegalChangeError`` (``job_unfinished``).
    """
    async with services.units_of_work.for_user(user) as uow:
        job = await _owned(uow, job_id, for_update=True)
        job = await store_change(uow, job, job.retried(await uow.jobs.now(), step_name=step_name))
        return await job_view(uow, job)


async def _owned(uow: UnitOfWork, job_id: JobId, *, for_update: bool = False) -> Job:
    """A processing job of a video that still exists: purging is nobody's business but ours."""
    job = await uow.jobs.get(job_id, for_update=for_update)
    if job.kind is not JobKind.PROCESS:
        raise UnknownEntityError("There is no such job.")
    await uow.videos.get(job.video_id)
    return job
