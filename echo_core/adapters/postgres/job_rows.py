"""Jobs and steps as rows, and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Integer, Text, Uuid, any_, bindparam, literal_column, select

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import JobRow, StepRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.adapters.postgres.values import storable_text
from echo_core.domain.ids import JobId, StepId, UserId, VideoId
from echo_core.domain.jobs import Job, JobKind, JobState, Step, StepError, StepState
from echo_core.plugin_api.steps import Resource


class Wanted(StrEnum):
    """Ways to pick jobs."""

    IDS = "ids"
    STEP_ID = "step_id"
    VIDEO = "video"
    UNFINISHED = "unfinished"


_CONDITIONS: Mapping[Wanted, ColumnElement[bool]] = {
    Wanted.IDS: JobRow.id == any_(bindparam("ids", type_=ARRAY(Uuid))),
    Wanted.STEP_ID: JobRow.id
    == select(StepRow.job_id).where(StepRow.id == bindparam("step_id", type_=Uuid)).scalar_subquery(),
    Wanted.VIDEO: (JobRow.video_id == bindparam("video_id", type_=Uuid))
    & (JobRow.kind == bindparam("kind", type_=Text)),
    Wanted.UNFINISHED: (JobRow.kind == literal_column(f"'{JobKind.PROCESS.value}'"))
    & JobRow.state.in_([literal_column(f"'{state.value}'") for state in JobState if not state.finished]),
}
_JOB = "job:"
"""Before the names of a job's columns where those of its steps have theirs."""
_JOB_COLUMNS = tuple(column.name for column in JobRow.__table__.columns)
MAX_JOBS = 1000
"""No caller asks for more; a bound for a condition that picks too much by mistake."""


@cache
def _jobs(wanted: Wanted) -> Query:
    statement = select(JobRow.__table__).where(_CONDITIONS[wanted]).order_by(JobRow.id.desc())
    return Query(statement.limit(bindparam("limit", type_=Integer)).with_for_update(key_share=True))


@cache
def _steps() -> Query:
    of_jobs = StepRow.job_id == any_(bindparam("job_ids", type_=ARRAY(Uuid)))
    return Query(select(StepRow.__table__).where(of_jobs).order_by(StepRow.id).with_for_update(key_share=True))


@cache
def _jobs_with_steps(wanted: Wanted) -> Query:
    columns = [JobRow.__table__.c[name].label(_JOB + name) for name in _JOB_COLUMNS]
    jobs = select(*columns).where(_CONDITIONS[wanted]).order_by(JobRow.id.desc())
    picked = jobs.limit(bindparam("limit", type_=Integer)).subquery("picked")
    both = picked.join(StepRow.__table__, StepRow.job_id == picked.c[f"{_JOB}id"])
    return Query(select(picked, StepRow.__table__).select_from(both).order_by(picked.c[f"{_JOB}id"].desc()))


async def load_jobs(
    tx: Transaction, wanted: Wanted, *, for_update: bool = False, limit: int = MAX_JOBS, **parameters: object
) -> Sequence[Job]:
    """The jobs that ``wanted`` picks with its parameters, newest first, with their steps.

    ``for_update`` locks the jobs, then their steps in the order of their ids: so heartbeats, which lock in that order
    too, wait for this transaction instead of being overwritten by it. The steps are read after the lock is had.
    Without it, jobs and steps come from one statement, so from one moment: never a job that goes on beside steps that
    have all ended meanwhile.
    """
    steps: dict[object, list[Step]] = defaultdict(list)
    if for_update:
        jobs = {row["id"]: dict(row) for row in await tx.fetch(_jobs(wanted), limit=limit, **parameters)}
        rows = await tx.fetch(_steps(), job_ids=list(jobs)) if jobs else ()
    else:
        rows = await tx.fetch(_jobs_with_steps(wanted), limit=limit, **parameters)
        jobs = {row["job_id"]: {name: row[_JOB + name] for name in _JOB_COLUMNS} for row in rows}
    for row in rows:
        steps[row["job_id"]].append(_step(row))
    return [_job(job, steps[job_id]) for job_id, job in jobs.items()]


def job_values(job: Job) -> dict[str, Any]:
    """The row of a job."""
    return {
        "id": job.id,
        "video_id": job.video_id,
        "owner_id": job.owner_id,
        "kind": job.kind.value,
        "state": job.state.value,
        "created_at": job.created_at,
        "correlation_id": storable_text(job.correlation_id),
        "cancel_requested": job.cancel_requested,
        "finished_at": job.finished_at,
    }


def step_values(job: Job, step: Step) -> dict[str, Any]:
    """The row of a step."""
    values = {name: getattr(step, name) for name in Step.__dataclass_fields__}
    values |= {
        "job_id": job.id,
        "owner_id": job.owner_id,
        "resource": step.resource.value,
        "state": step.state.value,
        "error": msgspec.to_builtins(step.error),
    }
    for name in ("consumes", "produces", "after", "warnings"):
        values[name] = [storable_text(value) for value in values[name]]
    return values


def _job(row: Any, steps: list[Step]) -> Job:
    return Job(
        id=JobId(row["id"]),
        video_id=VideoId(row["video_id"]),
        owner_id=UserId(row["owner_id"]),
        kind=JobKind(row["kind"]),
        state=JobState(row["state"]),
        created_at=row["created_at"],
        correlation_id=row["correlation_id"],
        cancel_requested=row["cancel_requested"],
        finished_at=row["finished_at"],
        steps=tuple(sorted(steps, key=lambda step: step.position)),
    )


def _step(row: Any) -> Step:
    return Step(
        id=StepId(row["id"]),
        name=row["name"],
        position=row["position"],
        consumes=tuple(row["consumes"]),
        produces=tuple(row["produces"]),
        after=tuple(row["after"]),
        resource=Resource(row["resource"]),
        optional=row["optional"],
        max_attempts=row["max_attempts"],
        first_delay_s=row["first_delay_s"],
        max_delay_s=row["max_delay_s"],
        timeout_s=row["timeout_s"],
        timeout_per_media_s=row["timeout_per_media_s"],
        weight=row["weight"],
        plugin=row["plugin"],
        state=StepState(row["state"]),
        attempt=row["attempt"],
        lease_token=row["lease_token"],
        swept_token=row["swept_token"],
        lease_expires_at=row["lease_expires_at"],
        worker=row["worker"],
        run_at=row["run_at"],
        waiting_since=row["waiting_since"],
        cancel_requested=row["cancel_requested"],
        progress=row["progress"],
        expected_s=row["expected_s"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error=_step_error(row["error"]),
        output=row["output"],
        skipped_reason=row["skipped_reason"],
        warnings=tuple(row["warnings"]),
    )


def _step_error(stored: object) -> StepError | None:
    return msgspec.convert(stored, StepError) if stored is not None else None
