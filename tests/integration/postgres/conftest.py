"""Units of work over a fresh database, and entities to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork, PostgresWorkerUnitsOfWork
from echo_core.application.pipeline import Pipeline, RegisteredStep
from echo_core.domain.artefacts import Artefact
from echo_core.domain.ids import StepId, UserId, VideoId, new_artefact_id, new_video_id
from echo_core.domain.jobs import Job, JobKind
from echo_core.domain.users import User
from echo_core.domain.videos import Video, VideoStatus
from echo_core.plugin_api.events import Event
from echo_core.plugin_api.specs import StepSpec
from echo_core.plugin_api.steps import Resource
from tests.fakes.api import SEAL

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Announcements:
    """What was told after commits; raises ``error`` instead if there is one."""

    events: list[Event] = field(default_factory=list)
    rings: list[tuple[StepId, Resource]] = field(default_factory=list)
    error: Exception | None = None

    async def __call__(self, events: Sequence[Event], rings: Sequence[tuple[StepId, Resource]]) -> None:
        if self.error is not None:
            raise self.error
        self.events += events
        self.rings += rings


@pytest.fixture
def announced() -> Announcements:
    return Announcements()


@pytest.fixture
async def api_engine(database) -> AsyncIterator[AsyncEngine]:
    async with open_engine(database.api_url, pool_size=5) as engine:
        yield engine


@pytest.fixture
async def worker_engine(database) -> AsyncIterator[AsyncEngine]:
    async with open_engine(database.worker_url, pool_size=20) as engine:
        yield engine


@pytest.fixture
def api(api_engine, announced) -> PostgresUserUnitsOfWork:
    return PostgresUserUnitsOfWork(api_engine, announced, SEAL)


@pytest.fixture
def worker(worker_engine, announced) -> PostgresWorkerUnitsOfWork:
    return PostgresWorkerUnitsOfWork(worker_engine, announced)


@pytest.fixture
def alice() -> User:
    return User(id=UserId(uuid4()), email="alice@example.org", claims={"aal": "aal1"})


@pytest.fixture
def bob() -> User:
    return User(id=UserId(uuid4()), email="bob@example.org")


@pytest.fixture
def new_video() -> Callable[..., Video]:
    def make(owner: User, **changes: object) -> Video:
        values = {
            "id": new_video_id(),
            "owner_id": owner.id,
            "status": VideoStatus.PROCESSING,
            "title": "Sea lions",
            "filename": "sea_lions.mp4",
            "content_type": "video/mp4",
            "created_at": NOW,
            "updated_at": NOW,
        }
        return Video(**{**values, **changes})

    return make


def _step(name: str, resource: Resource = Resource.CPU, **more: object) -> RegisteredStep:
    return RegisteredStep(plugin="kernel", spec=StepSpec(name=name, open=None, resource=resource, **more))


PIPELINE = Pipeline(
    process=(
        _step("inspect", Resource.LIGHT, produces=("media",), optional=False),
        _step("ladder", consumes=("media",), produces=("renditions",), optional=False, weight=1.0),
        _step("poster", consumes=("media",), weight=0.5),
    ),
    purge=(_step("remove", Resource.LIGHT),),
)


@pytest.fixture
def new_job() -> Callable[..., Job]:
    def make(video: Video, *, kind: JobKind = JobKind.PROCESS, now: datetime = NOW) -> Job:
        return PIPELINE.new_job(kind, video_id=video.id, owner_id=video.owner_id, now=now)

    return make


@pytest.fixture
def new_artefact() -> Callable[..., Artefact]:
    def make(video: Video, **changes: object) -> Artefact:
        values = {
            "id": new_artefact_id(),
            "video_id": video.id,
            "owner_id": video.owner_id,
            "step": "ladder",
            "lease_token": 1,
            "kind": "rendition",
            "name": "720p",
            "storage_key": f"videos/{video.id}/ladder/1/720p.mp4",
            "content_type": "video/mp4",
            "size_bytes": 1000,
            "checksum": "crc32c:abc",
            "generation": "1",
            "backend": "local",
            "producer": "ffmpeg 1",
            "created_at": NOW,
            "facts": {"type": "video", "width": 1280},
        }
        return Artefact(**{**values, **changes})

    return make


@pytest.fixture
def stored(api, new_video, new_job) -> Callable[..., object]:
    """Stores a video of somebody, with its processing job unless told otherwise; returns both."""

    async def store(owner: User, *, job: bool = True, **changes: object) -> tuple[Video, Job | None]:
        video = new_video(owner, **changes)
        made = new_job(video) if job else None
        async with api.for_user(owner) as uow:
            await uow.videos.add(video)
            if made is not None:
                await uow.jobs.add(made)
        return video, made

    return store


@pytest.fixture
def unknown_video_id() -> VideoId:
    return new_video_id()
