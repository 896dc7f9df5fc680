"""Lists of videos: the hot query."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.sql import Select

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import ArtefactRow, JobRow, StepRow, VideoRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.adapters.postgres.values import storable_text
from echo_core.application.ports import VideoQuery
from echo_core.domain.artefacts import POSTER_KIND, RENDITION_KIND
from echo_core.domain.jobs import JobKind, JobState, StepState
from echo_core.domain.videos import VideoPage, VideoStatus, VideoSummary, Visibility

_FINISHED_STEPS = tuple(state.value for state in StepState if state.finished)
_UNFINISHED_JOBS = tuple(state.value for state in JobState if not state.finished)

_ZERO: ColumnElement[float] = literal_column("0", Double)
_ONE: ColumnElement[int] = literal_column("1", Integer)
_HUNDRED: ColumnElement[float] = literal_column("100", Double)

_STATUSES = {status.value: status for status in VideoStatus}
_VISIBILITIES = {visibility.value: visibility for visibility in Visibility}


async def list_page(tx: Transaction, query: VideoQuery) -> VideoPage:
    """One page, newest first, tombstones left out. ``percent`` is told while a processing job goes on."""
    arguments: dict[str, object] = {"limit": query.limit + 1}
    if query.before is not None:
        arguments["before"] = query.before
    if query.status is not None:
        arguments["status"] = query.status.value
    if query.text:
        arguments["pattern"] = _pattern(storable_text(query.text))
    rows = await tx.fetch(_query("before" in arguments, "status" in arguments, "pattern" in arguments), **arguments)
    videos = tuple(map(_summary, rows[: query.limit]))
    more = len(rows) > query.limit
    return VideoPage(videos=videos, next_before=videos[-1].id if more and videos else None)


def _pattern(text: str) -> str:
    """The text as an ``ilike`` pattern for "contains", with nothing in it special."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


@cache
def _query(before: bool, status: bool, text: bool) -> Query:
    return Query(_statement(before, status, text))


def _literal(value: str) -> ColumnElement[str]:
    """A word of ours in the text itself, where the planner sees it."""
    return literal_column(f"'{value}'", Text)


def _page_of_videos(before: bool, status: bool, text: bool) -> Select[Any]:
    statement = select(VideoRow.__table__).where(VideoRow.deleted_at.is_(None))
    if before:
        statement = statement.where(VideoRow.id < bindparam("before", type_=Uuid))
    if status:
        statement = statement.where(VideoRow.status == bindparam("status", type_=Text))
    if text:
        pattern = bindparam("pattern", type_=Text)
        statement = statement.where(or_(VideoRow.title.ilike(pattern), VideoRow.filename.ilike(pattern)))
    return statement.order_by(VideoRow.id.desc()).limit(bindparam("limit", type_=Integer))


def _statement(before: bool, status: bool, text: bool) -> Select[Any]:
    video = _page_of_videos(before, status, text).subquery("video")
    seen = (
        select(
            func.coalesce(func.bool_or(ArtefactRow.kind == _literal(POSTER_KIND)), false()).label("has_poster"),
            func.coalesce(
                func.bool_or(
                    (ArtefactRow.kind == _literal(RENDITION_KIND))
                    & or_(ArtefactRow.facts.op("->>")(_literal("type")) == _literal("video"), video.c.width.is_(None))
                ),
                false(),
            ).label("playable"),
        )
        .where(
            ArtefactRow.video_id == video.c.id,
            ArtefactRow.kind.in_([_literal(POSTER_KIND), _literal(RENDITION_KIND)]),
        )
        .lateral("seen")
    )
    job = (
        select(JobRow.id, JobRow.state)
        .where(JobRow.video_id == video.c.id, JobRow.kind == _literal(JobKind.PROCESS.value))
        .limit(_ONE)  # there is only one; the limit keeps the planner from joining all jobs of the owner
        .lateral("job")
    )
    expected = func.coalesce(func.nullif(StepRow.expected_s, _ZERO), StepRow.weight)
    finished = StepRow.state.in_([_literal(state) for state in _FINISHED_STEPS])
    done = case((finished, expected), else_=expected * StepRow.progress)
    work = (
        select((_HUNDRED * func.sum(done) / func.nullif(func.sum(expected), _ZERO, type_=Double)).label("percent"))
        .where(
            StepRow.job_id == job.c.id,
            job.c.state.in_([_literal(state) for state in _UNFINISHED_JOBS]),
            StepRow.state != _literal(StepState.SKIPPED.value),
        )
        .lateral("work")
    )
    v = video.c
    columns = (v.id, v.owner_id, v.status, v.title, v.filename, v.visibility, v.created_at, v.updated_at)
    measured = (v.duration_s, v.width, v.height, v.size_bytes)
    return (
        select(*columns, *measured, seen.c.has_poster, seen.c.playable, cast(job.c.id, Text), work.c.percent)
        .select_from(video.join(seen, true()).outerjoin(job, true()).outerjoin(work, true()))
        .order_by(v.id.desc())
    )


def _summary(row: Any) -> VideoSummary:
    """Called for every row of every list: no call in it that can be saved."""
    (
        video_id,
        owner_id,
        status,
        title,
        filename,
        visibility,
        created_at,
        updated_at,
        duration_s,
        width,
        height,
        size_bytes,
        has_poster,
        playable,
        job_id,
        percent,
    ) = row
    return VideoSummary(
        id=video_id,
        owner_id=owner_id,
        status=_STATUSES[status],
        title=title,
        filename=filename,
        visibility=_VISIBILITIES[visibility],
        created_at=created_at,
        updated_at=updated_at,
        duration_s=duration_s,
        width=width,
        height=height,
        size_bytes=size_bytes,
        has_poster=has_poster,
        playable=playable,
        job_id=job_id,
        percent=percent if percent is None else min(99.9, round(percent, 1)),
    )
