"""A whole API over fakes: users with tokens, a database and a storage in memory, and an HTTP client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import httpx2
from starlette.types import ASGIApp

from echo_core.adapters.sealing import AnswerSeal
from echo_core.application.pipeline import Pipeline, RegisteredStep
from echo_core.application.ports import QuestionEmbedder, UserUnitsOfWork
from echo_core.application.services import AISetup, ApiServices, Limits, PluginReport, SignIn
from echo_core.domain.artefacts import Artefact
from echo_core.domain.ids import UserId, VideoId, new_artefact_id
from echo_core.domain.jobs import Job
from echo_core.domain.users import User
from echo_core.entrypoints.http.app import create_app
from echo_core.plugin_api import AuthError, StepSpec
from echo_core.plugin_api.steps import Resource
from echo_core.plugin_api.transcoder import Segment
from echo_core.testing.fake_storage import FakeStorage
from echo_core.testing.manual_clock import ManualClock
from tests.fakes.database import FakeDatabase

OWNER = User(id=UserId(UUID("01900000-0000-7000-8000-00000000000a")), email="owner@example.org")
OTHER = User(id=UserId(UUID("01900000-0000-7000-8000-00000000000b")), email="other@example.org")
FILE = b"the bytes of a video"
SEAL = AnswerSeal(bytes(range(32)))
LIMITS = Limits(
    public_url="http://echo.test",
    max_upload_bytes=1 << 20,
    upload_expires_in_s=3600,
    url_expires_in_s=600,
    max_body_bytes=4096,
    cors_origins=("https://app.test",),
)


class FakeTokens:
    """``user:<uuid>`` is a bearer token, ``play:<owner>:<video>`` a playback token."""

    def __init__(self) -> None:
        self.minted = 0

    async def verify(self, token: str) -> User:
        if token == "expired":
            raise AuthError("The token has expired.", code="token_expired", remedy="Sign in again.")
        for user in (OWNER, OTHER):
            if token == f"user:{user.id}":
                return user
        raise AuthError("The token is not valid.", code="token_invalid", remedy="Sign in again.")

    def mint_playback(self, owner_id: UUID, video_id: UUID) -> str:
        self.minted += 1
        return f"play:{owner_id}:{video_id}"

    def verify_playback(self, token: str, video_id: UUID) -> UserId:
        kind, _, rest = token.partition(":")
        owner, _, video = rest.partition(":")
        if kind != "play" or video != str(video_id):
            raise AuthError("The playback token is not valid.", code="token_invalid")
        return UserId(UUID(owner))


def _step(name: str, *, resource: Resource = Resource.LIGHT, **changes: Any) -> RegisteredStep:
    def unopened(context: object) -> Any:
        raise AssertionError("the API never opens a step")

    return RegisteredStep(plugin="kernel", spec=StepSpec(name=name, open=unopened, resource=resource, **changes))


PIPELINE = Pipeline(
    process=(
        _step("inspect", produces=("media",), optional=False),
        _step("encode", consumes=("media",), resource=Resource.CPU, produces=("ladder",), optional=False),
        _step("poster", consumes=("media",), resource=Resource.CPU),
    ),
    purge=(_step("purge", optional=False),),
)


@dataclass
class FakeApi:
    clock: ManualClock = field(default_factory=ManualClock)
    tokens: FakeTokens = field(default_factory=FakeTokens)
    limits: Limits = LIMITS
    plugins: tuple[PluginReport, ...] = ()
    sign_in: SignIn = field(default_factory=SignIn)
    ai: AISetup = field(default_factory=AISetup)
    pipeline: Pipeline = PIPELINE
    embedder: QuestionEmbedder | None = None
    units_of_work: UserUnitsOfWork | None = None
    """A real database in place of the one in memory."""

    def __post_init__(self) -> None:
        self.database = FakeDatabase(self.clock)
        self.storage = FakeStorage(clock=self.clock)

    @property
    def services(self) -> ApiServices:
        return ApiServices(
            units_of_work=self.units_of_work or self.database,
            storage=self.storage,
            storage_name="fake",
            tokens=self.tokens,
            pipeline=self.pipeline,
            limits=self.limits,
            clock=self.clock,
            plugins=self.plugins,
            sign_in=self.sign_in,
            embedder=self.embedder,
            ai=self.ai,
        )

    @asynccontextmanager
    async def client(self, user: User | None = OWNER, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
        async with self.client_of(create_app(self.services, **options), user) as client:
            yield client

    @asynccontextmanager
    async def client_of(self, app: ASGIApp, user: User | None = OWNER) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(app=app)
        headers = bearer(user) if user is not None else {}
        async with httpx2.AsyncClient(transport=transport, base_url="http://echo.test", headers=headers) as client:
            yield client

    def store_upload(self, video_id: UUID, data: bytes = FILE) -> None:
        """Put the bytes where the upload's URL would have."""
        upload = self.database.tables.uploads[video_id]
        self.storage.store(upload.storage_key, data, upload.content_type)

    def job_of(self, video_id: UUID) -> Job:
        return next(j for j in self.database.tables.jobs.values() if j.video_id == video_id)

    def change_job(self, job: Job) -> None:
        self.database.tables.jobs[job.id] = job

    async def add_artefact(self, video_id: UUID, kind: str, name: str, **changes: Any) -> Artefact:
        artefact = Artefact(
            id=new_artefact_id(),
            video_id=VideoId(video_id),
            owner_id=OWNER.id,
            step="encode",
            lease_token=1,
            kind=kind,
            name=name,
            storage_key=f"videos/{video_id}/encode/1/{name}",
            content_type="video/mp4",
            size_bytes=1100,
            checksum="crc32c:00000000",
            generation="1",
            backend="fake",
            producer="test 1",
            created_at=self.clock.now(),
        )
        artefact = replace(artefact, **changes)
        self.database.tables.artefacts.append(artefact)
        return artefact

    async def add_rendition(self, video_id: UUID, name: str = "720p", **facts: Any) -> Artefact:
        described = {
            "type": "video",
            "codecs": "avc1.64001f",
            "width": 1280,
            "height": 720,
            "fps": 30.0,
            "duration_s": 8.0,
            "peak_bitrate_bps": 3_000_000,
            "average_bitrate_bps": 2_000_000,
        }
        return await self.add_artefact(
            video_id,
            "rendition",
            f"{name}.mp4",
            facts={**described, **facts},
            init_length_bytes=100,
            segments=(
                Segment(duration_s=4.0, offset_bytes=100, length_bytes=600),
                Segment(duration_s=4.0, offset_bytes=700, length_bytes=400),
            ),
        )


def ai_step(name: str) -> RegisteredStep:
    """A step of AI, planned as in the API."""
    return _step(name, consumes=("media",))


def bearer(user: User) -> dict[str, str]:
    return {"Authorization": f"Bearer user:{user.id}"}


async def begin(client: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    body = {"filename": "My film.mp4", "contentType": "video/mp4", "sizeBytes": len(FILE)} | changes
    response = await client.post("/api/v1/videos/signed-upload-url", json=body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


def completion(begun: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "videoId": begun["videoId"],
        "originalFilename": "My film.mp4",
        "storagePath": begun["storagePath"],
        "contentType": "video/mp4",
        "sizeBytes": len(FILE),
    } | changes


async def uploaded(api: FakeApi, client: httpx2.AsyncClient) -> tuple[UUID, UUID]:
    """A video whose job has started: (video id, job id)."""
    begun = await begin(client)
    api.store_upload(UUID(begun["videoId"]))
    response = await client.post("/api/v1/videos/upload-complete", json=completion(begun))
    assert response.status_code == 202, response.text
    return UUID(begun["videoId"]), UUID(response.json()["jobId"])
