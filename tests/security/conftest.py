"""One Echo for two strangers: real PostgreSQL, real tokens, real files, and a pool of a single connection."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio
from echo_storage_local.backend import LocalStorage, open_local_storage
from echo_storage_local.config import LocalStorageConfig
from echo_storage_local.routes import make_routes
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from echo_core.adapters.clock import SystemClock
from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork, PostgresWorkerUnitsOfWork
from echo_core.adapters.settings import Settings
from echo_core.adapters.tokens import JwtTokens, issue_embedded_token, open_tokens
from echo_core.application.ports import UnitOfWork
from echo_core.application.services import ApiServices, Limits
from echo_core.domain.artefacts import Artefact
from echo_core.domain.caption_tracks import CaptionSource, CaptionTrack
from echo_core.domain.captions import Cue
from echo_core.domain.ids import SuggestionId, UserId, VideoId, new_artefact_id, new_suggestion_id
from echo_core.domain.suggestions import Suggestion, SuggestionState
from echo_core.domain.users import User
from echo_core.entrypoints.http.app import PluginRoutes, create_app
from echo_core.plugin_api import PluginContext, PutFile, RoutesSpec, Segment
from tests.fakes.api import PIPELINE, SEAL
from tests.integration.conftest import Database, Server, postgres

__all__ = ["postgres"]  # the fixture of the session

SECRET = b"s" * 32
SETTINGS = Settings()
CLOCK = SystemClock()
STORE_URL = "http://echo.test/plugins/storage_local"
LIMITS = Limits(
    public_url="http://echo.test",
    max_upload_bytes=1 << 20,
    upload_expires_in_s=3600,
    url_expires_in_s=600,
    max_body_bytes=16384,
    cors_origins=(),
)
ALICE = User(id=UserId(UUID("01900000-0000-7000-8000-00000000a11c")), email="alice@example.org")
BOB = User(id=UserId(UUID("01900000-0000-7000-8000-00000000000b")), email="bob@example.org")


@dataclass(frozen=True, kw_only=True)
class Made:
    """A video with everything that a finished one has."""

    owner: User
    video_id: UUID
    job_id: UUID
    title: str
    begun: dict[str, Any]
    size_bytes: int
    playback_token: str
    keys: tuple[str, ...]
    suggestion_id: UUID


@dataclass(frozen=True, kw_only=True)
class World:
    """The API, and what lies behind it."""

    app: Starlette
    client: httpx2.AsyncClient
    tokens: JwtTokens
    storage: LocalStorage
    api: PostgresUserUnitsOfWork
    api_engine: AsyncEngine
    worker: PostgresWorkerUnitsOfWork
    scratch: Path

    def bearer(self, user: User) -> dict[str, str]:
        return {"Authorization": f"Bearer {issue_embedded_token(user, SETTINGS, SECRET, 3600)}"}

    async def make(self, owner: User, title: str = "film") -> Made:
        """Upload a video of ``owner`` over HTTP, and give it the artefacts of a finished one."""
        headers, data = self.bearer(owner), f"bytes of {title} of {owner.email}".encode()
        announced = {"filename": f"{title}.mp4", "contentType": "video/mp4", "sizeBytes": len(data)}
        begun = (await self.client.post("/api/v1/videos/signed-upload-url", json=announced, headers=headers)).json()
        assert (await self.client.put(begun["uploadUrl"], content=data)).status_code == 200
        complete = {
            "videoId": begun["videoId"],
            "storagePath": begun["storagePath"],
            "originalFilename": f"{title}.mp4",
            "contentType": "video/mp4",
            "sizeBytes": len(data),
        }
        done = await self.client.post("/api/v1/videos/upload-complete", json=complete, headers=headers)
        assert done.status_code == 202, done.text
        video_id = VideoId(UUID(begun["videoId"]))
        rows = [await self._artefact(owner, video_id, *which) for which in PARTS]
        async with self.worker.for_worker() as uow:
            await uow.artefacts.put(rows)
            suggestion_id = await _spoken_about(uow, owner, video_id)
        return Made(
            owner=owner,
            video_id=video_id,
            job_id=UUID(done.json()["jobId"]),
            title=title,
            begun=begun,
            size_bytes=len(data),
            playback_token=self.tokens.mint_playback(owner.id, video_id),
            keys=(begun["storagePath"], *(row.storage_key for row in rows)),
            suggestion_id=suggestion_id,
        )

    async def _artefact(self, owner: User, video_id: VideoId, kind: str, name: str, content: bytes) -> Artefact:
        path = self.scratch / f"{video_id}-{name}"
        path.write_bytes(content + owner.email.encode())
        key = f"videos/{video_id}/encode/1/{name}"
        stored = await self.storage.put_file(PutFile(key=key, path=path, content_type="video/mp4"))
        return Artefact(
            id=new_artefact_id(),
            video_id=video_id,
            owner_id=owner.id,
            step="encode",
            lease_token=1,
            kind=kind,
            name=name,
            storage_key=key,
            content_type="text/vtt" if name.endswith("vtt") else "video/mp4",
            size_bytes=stored.size_bytes,
            checksum=stored.checksum,
            generation=stored.generation,
            backend="local",
            producer="test 1",
            created_at=CLOCK.now(),
            facts={"type": "video", "codecs": "avc1.64001f", "width": 1280, "height": 720, "fps": 30.0},
            init_length_bytes=4 if kind == "rendition" else 0,
            segments=(Segment(duration_s=4.0, offset_bytes=4, length_bytes=4),) if kind == "rendition" else (),
        )


async def _spoken_about(uow: UnitOfWork, owner: User, video_id: VideoId) -> SuggestionId:
    """Captions ``auto-en``, and a suggestion that waits."""
    now = CLOCK.now()
    await uow.caption_tracks.put(
        CaptionTrack(
            video_id=video_id,
            owner_id=owner.id,
            name="auto-en",
            language="en",
            source=CaptionSource.TRANSCRIBED,
            cues=(Cue(start_s=0.0, end_s=1.0, text="Hello"),),
            created_at=now,
            updated_at=now,
        )
    )
    suggestion = Suggestion(
        id=new_suggestion_id(),
        video_id=video_id,
        owner_id=owner.id,
        field="title",
        value="A day out",
        state=SuggestionState.PENDING,
        provider="local",
        model="m",
        prompt_version="1",
        evidence=(),
        cost_usd=0.0,
        created_at=now,
    )
    await uow.suggestions.add(suggestion)
    return suggestion.id


PARTS = (
    ("rendition", "720p.mp4", b"initdata"),
    ("poster", "poster-2.jpg", b"jpeg"),
    ("preview", "preview.webp", b"webp"),
    ("captions", "embedded-1.vtt", b"WEBVTT\n\n00:00.000 --> 00:02.000\nwords\n"),
    ("storyboard", "storyboard.vtt", b"WEBVTT\n\n00:00.000 --> 00:02.000\nsheet-000.jpg#xywh=0,0,160,90\n\nNOTE "),
    ("storyboard_sheet", "sheet-000.jpg", b"jpeg"),
)


@pytest.fixture(scope="module")
def shared_database(postgres: Server) -> Any:
    with postgres.database("echo_template") as fresh:
        yield fresh


async def _announce(events: object, rings: object) -> None:
    """Nobody listens here."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Shared by the tests of a module, so each makes its own videos."""
    context = PluginContext(
        plugin="storage_local",
        config=LocalStorageConfig(min_free_bytes=0),
        data_dir=tmp_path_factory.mktemp("data"),
        routes_url=STORE_URL,
        clock=CLOCK,
        derive_key=lambda label: hashlib.sha256(f"test:{label}".encode()).digest(),
    )
    async with AsyncExitStack() as stack:
        tokens = await stack.enter_async_context(open_tokens(SETTINGS, secret=SECRET, clock=CLOCK))
        storage = await stack.enter_async_context(open_local_storage(context))
        api_engine = await stack.enter_async_context(open_engine(shared_database.api_url, pool_size=1))
        worker_engine = await stack.enter_async_context(open_engine(shared_database.worker_url, pool_size=1))
        api = PostgresUserUnitsOfWork(api_engine, _announce, SEAL)
        services = ApiServices(
            units_of_work=api,
            storage=storage,
            storage_name="local",
            tokens=tokens,
            pipeline=PIPELINE,
            limits=LIMITS,
            clock=CLOCK,
            plugins=(),
        )
        routes = PluginRoutes(plugin="storage_local", spec=RoutesSpec(routes=make_routes(), auth="none"))
        app = create_app(services, plugin_routes=[routes])
        client = await stack.enter_async_context(
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://echo.test")
        )
        yield World(
            app=app,
            client=client,
            tokens=tokens,
            storage=storage,
            api=api,
            api_engine=api_engine,
            worker=PostgresWorkerUnitsOfWork(worker_engine, _announce),
            scratch=tmp_path_factory.mktemp("scratch"),
        )
