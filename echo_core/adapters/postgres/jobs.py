"""Jobs and their steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Uuid, bindparam, column, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from echo_core.adapters.postgres.job_rows import Wanted, job_values, load_jobs, step_values
from echo_core.adapters.postgres.leases import LeaseQueries
from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import JobRow, StepRow
from echo_core.adapters.postgres.values import json_text
from echo_core.domain.errors import ConflictError, LeaseLostError, UnknownEntityError
from echo_core.domain.ids import JobId, StepId, VideoId
from echo_core.domain.jobs import Job, JobKind, Step
from echo_core.domain.progress import Place

_JOB_FIELDS = ("state", "cancel_requested", "finished_at")
"""What a change of a job may change in its own row."""
_STEP_FIELDS = tuple(field.name for field in fields(Step) if field.name != "id")

_NOW = Query(select(func.clock_timestamp()))
_OUTLOOK = text("select step_id, steps_before, work_before_s, slots from echo.queue_outlook(:job_ids)").bindparams(
    bindparam("job_ids", type_=ARRAY(Uuid))
)


class PostgresJobRepository(LeaseQueries):
    """``JobRepository``."""

    async def now(self) -> datetime:
        """The database's clock: aware, UTC."""
        now: datetime = (await self._tx.find(_NOW))[0]
        return now

    async def add(self, job: Job) -> None:
        """Store a new job. Raises ``ConflictError`` if the video has one of that kind."""
        statement = upsert(JobRow.__table__).values(job_values(job))
        statement = statement.on_conflict_do_nothing(index_elements=["video_id", "kind"])
        if (await self._tx.execute(statement.returning(JobRow.id))).one_or_none() is None:
            raise ConflictError("The video has such a job already.", code="job_exists")
        await self._tx.execute(insert(StepRow.__table__), [step_values(job, step) for step in job.steps])

    async def get(self, job_id: JobId, *, for_update: bool = False) -> Job:
        """Raises ``UnknownEntityError``."""
        return _only(await load_jobs(self._tx, Wanted.IDS, for_update=for_update, ids=[job_id]))

    async def find_for_video(self, video_id: VideoId, kind: JobKind, *, for_update: bool = False) -> Job | None:
        """The video's job of that kind."""
        jobs = await load_jobs(self._tx, Wanted.VIDEO, for_update=for_update, video_id=video_id, kind=kind.value)
        return jobs[0] if jobs else None

    async def get_of_step(self, step_id: StepId, *, for_update: bool = False) -> Job:
        """The job that a step belongs to. Raises ``UnknownEntityError``."""
        return _only(await load_jobs(self._tx, Wanted.STEP_ID, for_update=for_update, step_id=step_id))

    async def list_unfinished(self, limit: int) -> Sequence[Job]:
        """Processing jobs that go on, newest first."""
        return await load_jobs(self._tx, Wanted.UNFINISHED, limit=limit)

    async def outlook(self, job_ids: Sequence[JobId]) -> Mapping[StepId, Place]:
        """The unfinished steps of these jobs and what comes before each, everybody's counted."""
        rows = await self._tx.execute(_OUTLOOK, {"job_ids": list(job_ids)}) if job_ids else ()
        return {
            StepId(row.step_id): Place(
                steps_before=row.steps_before, work_before_s=row.work_before_s, slots=int(row.slots)
            )
            for row in rows
        }

    async def save(self, before: Job, after: Job) -> None:
        """Store the difference: of the job, and of each step only what changed.

        What did not change is not written, since others may write it meanwhile: a heartbeat owns ``progress`` and
        ``lease_expires_at``. Raises ``LeaseLostError`` if a changed step has another lease token than in ``before``.
        """
        changed = {name: getattr(after, name) for name in _JOB_FIELDS if getattr(after, name) != getattr(before, name)}
        if changed:
            statement = update(JobRow.__table__).where(JobRow.id == after.id).values(changed)
            if (await self._tx.execute(statement)).rowcount == 0:
                raise _unknown_job()
        held = {step.id: step for step in before.steps}
        if added := [step_values(after, step) for step in after.steps if step.id not in held]:
            await self._tx.execute(insert(StepRow.__table__), added)
        changes: dict[frozenset[str], list[dict[str, Any]]] = defaultdict(list)
        for step in after.steps:
            if step.id in held and (change := _difference(held[step.id], step)) is not None:
                row = {f"new_{name}": value for name, value in change.items()}
                row |= {"id": step.id, "held_token": held[step.id].lease_token}
                changes[frozenset(change)].append(row)
        for names, rows in changes.items():
            if len(await self._tx.fetch(_update_steps(names), changes=json_text(rows))) != len(rows):
                raise LeaseLostError("A step belongs to another run now.")


def _difference(before: Step, after: Step) -> dict[str, Any] | None:
    change = {name: getattr(after, name) for name in _STEP_FIELDS if getattr(after, name) != getattr(before, name)}
    if "state" in change or "run_at" in change:
        change["rung_at"] = None
    return change or None


@cache
def _update_steps(names: frozenset[str]) -> Query:
    """Update these columns of any number of steps in one statement, each under its held lease token.

    The values travel as one JSON document, so the text of the statement, and with it its plan, depends on the columns
    alone.
    """
    table = StepRow.__table__
    ordered = sorted(names)
    change = (
        func.jsonb_to_recordset(bindparam("changes", type_=JSONB))
        .table_valued(
            column("id", Uuid),
            column("held_token", BigInteger),
            *(column(f"new_{name}", table.c[name].type) for name in ordered),
        )
        .render_derived(name="change", with_types=True)
    )
    statement = update(table).values({name: change.c[f"new_{name}"] for name in ordered})
    statement = statement.where(table.c.id == change.c.id, table.c.lease_token == change.c.held_token)
    return Query(statement.returning(table.c.id))


def _only(jobs: Sequence[Job]) -> Job:
    if not jobs:
        raise _unknown_job()
    return jobs[0]


def _unknown_job() -> UnknownEntityError:
    return UnknownEntityError("There is no such job.")
