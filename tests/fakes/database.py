"""A database in memory: units of work with the semantics of the ports, for tests of use cases and of HTTP.

One transaction runs at a time, and one that raises leaves nothing behind. What real row locks do is for the
integration tests.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from echo_core.application.ports import NewEvent, QueueStatistics, StoredResponse, VideoQuery
from echo_core.domain.ai_calls import AICallRecord, AIDay, AITotals
from echo_core.domain.artefacts import POSTER_KIND, RENDITION_KIND, Artefact
from echo_core.domain.caption_tracks import CaptionTrack
from echo_core.domain.errors import ConflictError, LeaseLostError, UnknownEntityError
from echo_core.domain.ids import JobId, StepId, UserId, VideoId
from echo_core.domain.jobs import Job, JobKind, StepState
from echo_core.domain.progress import Place, Rates, job_percent
from echo_core.domain.searches import FoundVideo, SearchQuery
from echo_core.domain.suggestions import Suggestion
from echo_core.domain.uploads import StorageUse, Upload, UploadState
from echo_core.domain.users import User
from echo_core.domain.videos import Video, VideoPage, VideoSummary, Visibility
from echo_core.plugin_api.ai import Usage
from echo_core.plugin_api.context import Clock
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.events import Event
from echo_core.plugin_api.steps import Resource


@dataclass
class Tables:
    videos: dict[UUID, Video] = field(default_factory=dict)
    uploads: dict[UUID, Upload] = field(default_factory=dict)
    jobs: dict[UUID, Job] = field(default_factory=dict)
    artefacts: list[Artefact] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    tracks: dict[tuple[UUID, str], CaptionTrack] = field(default_factory=dict)
    suggestions: dict[UUID, Suggestion] = field(default_factory=dict)
    ai_calls: list[tuple[UserId, AICallRecord]] = field(default_factory=list)
    keys: dict[tuple[UUID, str], tuple[UUID, StoredResponse]] = field(default_factory=dict)


class FakeDatabase:
    """Implements ``UserUnitsOfWork``. ``rings`` are the doorbells rung by committed transactions; ``open_units`` tells
    how many units of work are open, so that a fake provider can refuse to be called inside one."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.tables = Tables()
        self.rings: list[tuple[StepId, Resource]] = []
        self.hints: list[VideoId] = []
        self.open_units = 0
        self.down = False
        self.before_commit: Callable[[], Awaitable[None]] | None = None
        self._lock = asyncio.Lock()

    def for_user(self, user: User) -> AbstractAsyncContextManager[Any]:
        return self._unit(user.id)

    def for_worker(self) -> AbstractAsyncContextManager[Any]:
        return self._unit(None)

    @asynccontextmanager
    async def _unit(self, owner_id: UserId | None) -> AsyncIterator[FakeUnitOfWork]:
        if self.down:
            raise UnavailableError("The database cannot be reached.", code="database_unavailable")
        async with self._lock:
            before = copy.copy(self.tables)
            self.tables = Tables(**{name: copy.copy(table) for name, table in vars(before).items()})
            self.open_units += 1
            uow = FakeUnitOfWork(self, owner_id)
            try:
                yield uow
                if self.before_commit is not None:
                    await self.before_commit()
            except BaseException:
                self.tables = before
                raise
            finally:
                self.open_units -= 1
            self.rings.extend(uow.rung)

    async def list_videos(self, user: User, query: VideoQuery) -> VideoPage:
        async with self._unit(user.id) as uow:
            return await uow.videos.list_page(query)

    async def search(self, user: User, query: SearchQuery) -> Sequence[FoundVideo]:
        """By title alone, newest first."""
        async with self._unit(user.id) as uow:
            page = await uow.videos.list_page(VideoQuery(limit=query.limit, text=query.question.text))
        return [
            FoundVideo(
                id=video.id, title=video.title, status=video.status, created_at=video.created_at,
                updated_at=video.updated_at, duration_s=video.duration_s, has_poster=video.has_poster, score=1.0,
                meant=False, matched_fields=("title",), title_marked=None, passages=(),
            )
            for video in page.videos
        ]  # fmt: skip

    async def watchable_owner(self, video_id: VideoId) -> UserId | None:
        async with self._unit(None):
            video = self.tables.videos.get(video_id)
        seen = video is not None and video.deleted_at is None and video.visibility is not Visibility.PRIVATE
        return video.owner_id if video is not None and seen else None

    async def hint_upload(self, video_id: VideoId, key: str) -> None:
        async with self._unit(None):
            upload = self.tables.uploads.get(video_id)
            if upload is not None and upload.storage_key == key and upload.state is UploadState.OPEN:
                self.hints.append(video_id)

    async def event_heads(self, owner_ids: Sequence[UserId]) -> Mapping[UserId, int]:
        return {o: sum(e.owner_id == o for e in self.tables.events) for o in owner_ids}

    async def queue_statistics(self) -> Sequence[QueueStatistics]:
        if self.down:
            raise UnavailableError("The database cannot be reached.", code="database_unavailable")
        steps = [s for j in self.tables.jobs.values() for s in j.steps]
        return [
            QueueStatistics(
                resource=resource,
                queued=sum(s.state is StepState.QUEUED and s.resource is resource for s in steps),
                oldest_age_s=0.0,
                running=sum(s.state is StepState.RUNNING and s.resource is resource for s in steps),
            )
            for resource in Resource
        ]

    def event_types(self) -> list[str]:
        return [event.type for event in self.tables.events]


class FakeUnitOfWork:
    def __init__(self, database: FakeDatabase, owner_id: UserId | None) -> None:
        self.rung: list[tuple[StepId, Resource]] = []
        self.videos = FakeVideos(database, owner_id)
        self.uploads = FakeUploads(database, owner_id)
        self.jobs = FakeJobs(database, owner_id)
        self.artefacts = FakeArtefacts(database, owner_id)
        self.events = FakeEvents(database, owner_id)
        self.caption_tracks = FakeCaptionTracks(database, owner_id)
        self.suggestions = FakeSuggestions(database, owner_id)
        self.ai_calls = FakeAICalls(database, owner_id)
        self.idempotency = FakeIdempotency(database, owner_id)

    def ring(self, step_id: StepId, resource: Resource) -> None:
        self.rung.append((step_id, resource))


@dataclass
class _Repository:
    database: FakeDatabase
    owner_id: UserId | None

    @property
    def tables(self) -> Tables:
        return self.database.tables

    def owns(self, row: Any) -> bool:
        return self.owner_id is None or row.owner_id == self.owner_id

    def found(self, table: Mapping[UUID, Any], row_id: UUID) -> Any:
        row = table.get(row_id)
        if row is None or not self.owns(row):
            name = {id(self.tables.videos): "video", id(self.tables.uploads): "upload", id(self.tables.jobs): "job"}
            raise UnknownEntityError(f"There is no such {name.get(id(table), 'thing')}.")
        return row


class FakeVideos(_Repository):
    async def add(self, video: Video) -> None:
        self.tables.videos[video.id] = video

    async def get(self, video_id: VideoId, *, for_update: bool = False, deleted: bool = False) -> Video:
        video: Video = self.found(self.tables.videos, video_id)
        if video.deleted_at is not None and not deleted:
            raise UnknownEntityError("There is no such video.")
        return video

    async def save(self, video: Video) -> None:
        self.found(self.tables.videos, video.id)
        self.tables.videos[video.id] = replace(video, updated_at=self.database.clock.now())

    async def remove(self, video_id: VideoId) -> None:
        self.tables.videos.pop(video_id, None)

    async def list_page(self, query: VideoQuery) -> VideoPage:
        rows = [
            v
            for v in sorted(self.tables.videos.values(), key=lambda v: v.id, reverse=True)
            if self.owns(v)
            and v.deleted_at is None
            and (query.before is None or v.id < query.before)
            and (query.status is None or v.status is query.status)
            and query.text.casefold() in f"{v.title} {v.filename}".casefold()
        ]
        page = rows[: query.limit]
        return VideoPage(
            videos=tuple(self._summary(v) for v in page),
            next_before=page[-1].id if len(rows) > query.limit else None,
        )

    def _summary(self, video: Video) -> VideoSummary:
        kinds = {a.kind for a in self.tables.artefacts if a.video_id == video.id}
        job = next((j for j in self.tables.jobs.values() if j.video_id == video.id), None)
        shared = set(VideoSummary.__dataclass_fields__) & set(Video.__dataclass_fields__)
        return VideoSummary(
            **{name: getattr(video, name) for name in shared},
            has_poster=POSTER_KIND in kinds,
            playable=RENDITION_KIND in kinds,
            job_id=job.id if job is not None else None,
            percent=job_percent(job) if job is not None else None,
        )


class FakeUploads(_Repository):
    async def add(self, upload: Upload) -> None:
        self.tables.uploads[upload.video_id] = upload

    async def get(self, video_id: VideoId, *, for_update: bool = False) -> Upload:
        upload: Upload = self.found(self.tables.uploads, video_id)
        return upload

    async def save(self, upload: Upload) -> None:
        self.found(self.tables.uploads, upload.video_id)
        self.tables.uploads[upload.video_id] = upload

    async def use_of(self, owner_id: UserId, *, with_bytes: bool) -> StorageUse:
        uploads = [u for u in self.tables.uploads.values() if u.owner_id == owner_id]
        unfinished = [u for u in uploads if u.unfinished]
        if not with_bytes:
            return StorageUse(unfinished=len(unfinished))
        return StorageUse(
            unfinished=len(unfinished),
            unfinished_bytes=sum(u.size_bytes or 0 for u in unfinished),
            source_bytes=sum(u.size_bytes or 0 for u in uploads if u.state is UploadState.COMPLETED),
            derived_bytes=sum(a.size_bytes for a in self.tables.artefacts if a.owner_id == owner_id),
        )


class FakeJobs(_Repository):
    async def now(self) -> datetime:
        return self.database.clock.now()

    async def add(self, job: Job) -> None:
        if await self.find_for_video(job.video_id, job.kind) is not None:
            raise ConflictError("The video has a job of that kind.")
        self.tables.jobs[job.id] = job

    async def get(self, job_id: JobId, *, for_update: bool = False) -> Job:
        job: Job = self.found(self.tables.jobs, job_id)
        return job

    async def find_for_video(self, video_id: VideoId, kind: JobKind, *, for_update: bool = False) -> Job | None:
        jobs = self.tables.jobs.values()
        return next((j for j in jobs if j.video_id == video_id and j.kind is kind and self.owns(j)), None)

    async def save(self, before: Job, after: Job) -> None:
        stored = {s.id: s.lease_token for s in self.tables.jobs[before.id].steps}
        if any(stored[s.id] != s.lease_token for s in before.steps):
            raise LeaseLostError("Another run owns a step.")
        self.tables.jobs[after.id] = after

    async def outlook(self, job_ids: Sequence[JobId]) -> Mapping[StepId, Place]:
        queued = sorted(
            (s for j in self.tables.jobs.values() for s in j.steps if s.state is StepState.QUEUED), key=lambda s: s.id
        )
        before = {step.id: number for number, step in enumerate(queued)}
        return {
            s.id: Place(steps_before=before.get(s.id), work_before_s=0.0, slots=1)
            for job_id in job_ids
            for s in self.tables.jobs[job_id].steps
            if not s.state.finished
        }

    async def learned_rates(self) -> Rates:
        return Rates()

    async def list_unfinished(self, limit: int) -> Sequence[Job]:
        return [j for j in self.tables.jobs.values() if self.owns(j) and not j.state.finished][:limit]


class FakeArtefacts(_Repository):
    async def list_for_video(self, video_id: VideoId, *, segments: bool = False) -> Sequence[Artefact]:
        rows = [a for a in self.tables.artefacts if a.video_id == video_id and self.owns(a)]
        rows.sort(key=lambda a: (a.kind, a.name))
        return rows if segments else [replace(a, segments=()) for a in rows]

    async def find(self, video_id: VideoId, kind: str, name: str) -> Artefact | None:
        rows = await self.list_for_video(video_id, segments=True)
        return next((a for a in rows if a.kind == kind and a.name == name), None)

    async def put(self, artefacts: Sequence[Artefact]) -> Sequence[str]:
        self.tables.artefacts.extend(artefacts)
        return []

    async def has_rendition(self, video_id: VideoId) -> bool:
        return any(a.kind == RENDITION_KIND for a in self.tables.artefacts if a.video_id == video_id)


class FakeCaptionTracks(_Repository):
    async def list_for_video(self, video_id: VideoId, *, cues: bool = False) -> Sequence[CaptionTrack]:
        rows = [t for t in self.tables.tracks.values() if t.video_id == video_id and self.owns(t)]
        return [t if cues else replace(t, cues=()) for t in sorted(rows, key=lambda t: t.name)]

    async def find(self, video_id: VideoId, name: str, *, for_update: bool = False) -> CaptionTrack | None:
        track = self.tables.tracks.get((video_id, name))
        return track if track is not None and self.owns(track) else None

    async def put(self, track: CaptionTrack) -> None:
        self.tables.tracks[track.video_id, track.name] = replace(track, updated_at=self.database.clock.now())

    async def remove(self, video_id: VideoId, name: str) -> None:
        if self.tables.tracks.pop((video_id, name), None) is None:
            raise UnknownEntityError("This video has no such captions.")


class FakeSuggestions(_Repository):
    async def list_for_video(self, video_id: VideoId, limit: int) -> Sequence[Suggestion]:
        rows = [s for s in self.tables.suggestions.values() if s.video_id == video_id and self.owns(s)]
        return sorted(rows, key=lambda s: s.id, reverse=True)[:limit]

    async def get(self, video_id: VideoId, suggestion_id: UUID, *, for_update: bool = False) -> Suggestion:
        suggestion: Suggestion = self.found(self.tables.suggestions, suggestion_id)
        if suggestion.video_id != video_id:
            raise UnknownEntityError("This video has no such suggestion.")
        return suggestion

    async def add(self, suggestion: Suggestion) -> None:
        self.tables.suggestions[suggestion.id] = suggestion

    async def save(self, suggestion: Suggestion) -> None:
        self.tables.suggestions[suggestion.id] = suggestion


class FakeAICalls(_Repository):
    async def list_for_video(self, video_id: VideoId) -> Sequence[AICallRecord]:
        return [call for owner, call in self.tables.ai_calls if call.video_id == video_id and owner == self.owner_id]

    async def totals(self, video_id: VideoId) -> AITotals:
        return sum((_totals(call.usage) for call in await self.list_for_video(video_id)), AITotals())

    async def days(self, owner_id: UserId, days: int) -> Sequence[AIDay]:
        since = self.database.clock.now() - timedelta(days=days)
        calls = [call for owner, call in self.tables.ai_calls if owner == owner_id and call.at > since]
        return [
            AIDay(day=c.at.date(), provider=c.provider, model=c.usage.model, totals=_totals(c.usage)) for c in calls
        ]


def _totals(usage: Usage) -> AITotals:
    return AITotals(
        calls=1,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        media_s=usage.media_s,
        cost_usd=usage.cost_usd,
    )


class FakeEvents(_Repository):
    async def add(self, events: Sequence[NewEvent]) -> Sequence[Event]:
        added = []
        for new in events:
            number = sum(e.owner_id == new.owner_id for e in self.tables.events) + 1
            fields = {name: getattr(new, name) for name in NewEvent.__dataclass_fields__}
            event = Event(sequence=number, at=self.database.clock.now(), **fields)
            self.tables.events.append(event)
            added.append(event)
        return added


class FakeIdempotency(_Repository):
    def _key(self, key: str) -> tuple[UUID, str]:
        assert self.owner_id is not None
        return self.owner_id, key

    async def reserve(self, key: str, request_hash: str, token: UUID) -> StoredResponse | None:
        if (known := self.tables.keys.get(self._key(key))) is not None:
            return known[1]
        self.tables.keys[self._key(key)] = token, StoredResponse(request_hash=request_hash)
        return None

    async def renew(self, key: str, token: UUID) -> bool:
        return self._reserved(key, token)

    async def complete(self, key: str, token: UUID, response: StoredResponse) -> None:
        if self._reserved(key, token):
            self.tables.keys[self._key(key)] = token, response

    async def release(self, key: str, token: UUID) -> None:
        if self._reserved(key, token):
            del self.tables.keys[self._key(key)]

    def _reserved(self, key: str, token: UUID) -> bool:
        known = self.tables.keys.get(self._key(key))
        return known is not None and known[0] == token and known[1].status == 0
