"""Units of work over PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres import search, statistics, upload_hints, video_pages, watching
from echo_core.adapters.postgres.ai_calls import PostgresAICallRepository
from echo_core.adapters.postgres.artefacts import PostgresArtefactRepository
from echo_core.adapters.postgres.caption_tracks import PostgresCaptionTrackRepository
from echo_core.adapters.postgres.events import PostgresEventRepository
from echo_core.adapters.postgres.idempotency import PostgresIdempotencyRepository
from echo_core.adapters.postgres.inventory import PostgresInventoryRepository
from echo_core.adapters.postgres.jobs import PostgresJobRepository
from echo_core.adapters.postgres.local_users import PostgresLocalUserRepository
from echo_core.adapters.postgres.passages import PostgresPassageRepository
from echo_core.adapters.postgres.suggestions import PostgresSuggestionRepository
from echo_core.adapters.postgres.transaction import BEGIN_AS_SERVICE, Transaction, begin_as_user, transaction
from echo_core.adapters.postgres.uploads import PostgresUploadRepository
from echo_core.adapters.postgres.videos import PostgresVideoRepository
from echo_core.adapters.postgres.workers import PostgresWorkerRepository
from echo_core.adapters.sealing import AnswerSeal
from echo_core.application.ports import QueueStatistics, VideoQuery
from echo_core.domain.ids import StepId, UserId, VideoId
from echo_core.domain.searches import FoundVideo, SearchQuery
from echo_core.domain.users import User
from echo_core.domain.videos import VideoPage
from echo_core.plugin_api.events import Event
from echo_core.plugin_api.steps import Resource

log = structlog.get_logger("echo.postgres")

AfterCommit: TypeAlias = Callable[[Sequence[Event], Sequence[tuple[StepId, Resource]]], Awaitable[None]]
"""Told of the events and rings of a committed unit of work, if there are any."""


class PostgresUnitOfWork:
    """The repositories of one transaction. ``owner_id`` and ``seal`` None: the service role's."""

    def __init__(self, tx: Transaction, owner_id: UserId | None, seal: AnswerSeal | None) -> None:
        self.committed_events: list[Event] = []
        self.rings: list[tuple[StepId, Resource]] = []
        self.videos = PostgresVideoRepository(tx)
        self.uploads = PostgresUploadRepository(tx)
        self.jobs = PostgresJobRepository(tx)
        self.artefacts = PostgresArtefactRepository(tx)
        self.events = PostgresEventRepository(tx, self.committed_events)
        self.idempotency = PostgresIdempotencyRepository(tx, owner_id, seal)
        self.local_users = PostgresLocalUserRepository(tx)
        self.workers = PostgresWorkerRepository(tx)
        self.inventory = PostgresInventoryRepository(tx)
        self.caption_tracks = PostgresCaptionTrackRepository(tx)
        self.suggestions = PostgresSuggestionRepository(tx)
        self.ai_calls = PostgresAICallRepository(tx)
        self.passages = PostgresPassageRepository(tx)

    def ring(self, step_id: StepId, resource: Resource) -> None:
        """Ring this step's doorbell after the commit."""
        self.rings.append((step_id, resource))


@asynccontextmanager
async def _unit_of_work(
    engine: AsyncEngine, begin: str, owner_id: UserId | None, after_commit: AfterCommit, seal: AnswerSeal | None = None
) -> AsyncIterator[PostgresUnitOfWork]:
    async with transaction(engine, begin) as tx:
        uow = PostgresUnitOfWork(tx, owner_id, seal)
        yield uow
    if uow.committed_events or uow.rings:
        try:
            await after_commit(tuple(uow.committed_events), tuple(uow.rings))
        except Exception:  # the change is stored; bus and doorbell are hints, and catch up by themselves
            log.exception("unit_of_work.announce_failed", events=len(uow.committed_events), rings=len(uow.rings))


class PostgresUserUnitsOfWork:
    """Units of work in callers' names, for the API's login role."""

    def __init__(self, engine: AsyncEngine, after_commit: AfterCommit, seal: AnswerSeal) -> None:
        self._engine = engine
        self._after_commit = after_commit
        self._seal = seal

    def for_user(self, user: User) -> AbstractAsyncContextManager[PostgresUnitOfWork]:
        """One transaction in which row level security shows and takes only this user's rows."""
        return _unit_of_work(self._engine, begin_as_user(user), user.id, self._after_commit, self._seal)

    async def list_videos(self, user: User, query: VideoQuery) -> VideoPage:
        """One page of this user's videos, newest first, tombstones left out."""
        return await video_pages.list_videos(self._engine, user, query)

    async def search(self, user: User, query: SearchQuery) -> Sequence[FoundVideo]:
        """This user's videos that match, best first."""
        return await search.search(self._engine, user, query)

    async def watchable_owner(self, video_id: VideoId) -> UserId | None:
        """Whose this video is, if it is unlisted or public."""
        return await watching.watchable_owner(self._engine, video_id)

    async def hint_upload(self, video_id: VideoId, key: str) -> None:
        """A worker looks for the object of this upload at once, if it is open and has exactly this key."""
        await upload_hints.hint_upload(self._engine, video_id, key)

    async def event_heads(self, owner_ids: Sequence[UserId]) -> Mapping[UserId, int]:
        """The newest event number of each of these owners; 0 when there was never any."""
        return await statistics.event_heads(self._engine, owner_ids)

    async def queue_statistics(self) -> Sequence[QueueStatistics]:
        """Counts by resource class, over everybody."""
        return await statistics.queue_statistics(self._engine)


class PostgresWorkerUnitsOfWork:
    """Units of work of the service role, for the worker's login role."""

    def __init__(self, engine: AsyncEngine, after_commit: AfterCommit) -> None:
        self._engine = engine
        self._after_commit = after_commit

    def for_worker(self) -> AbstractAsyncContextManager[PostgresUnitOfWork]:
        """One transaction that sees every row."""
        return _unit_of_work(self._engine, BEGIN_AS_SERVICE, None, self._after_commit)
