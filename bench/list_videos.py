"""What a list of 50 videos costs the server, beside the same rows on FastAPI and on bare ASGI.

    python bench/list_videos.py [--requests 1500] [--rounds 5] [--quick]

Echo is the real API process (``echoctl up``): bearer token, row level security, request log, metrics and all. The peers
serve most of the same columns of the same rows and nothing else: ``raw`` is a bare ASGI function over asyncpg and
msgspec, ``fastapi`` an ORM query and a response model, as its tutorial has it. One client sends over 8 connections, and
the processor time of the server process by request counts, in turns. Servers have one processor, PostgreSQL and the
client the other.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import psutil
import uvicorn
from harness import (
    CLIENT_CPU,
    SERVER_CPU,
    Instance,
    Row,
    cpu_s,
    free_port,
    instance,
    pin,
    running,
    wait_for,
    write_result,
)

from echo_core.adapters.postgres.engine import driver_url, open_engine
from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork
from echo_core.domain.artefacts import POSTER_KIND, RENDITION_KIND, Artefact
from echo_core.domain.ids import UserId, VideoId, new_artefact_id, new_video_id
from echo_core.domain.videos import Video, VideoStatus

NO_LIMIT = """
[http]
user_requests_per_minute = 1_000_000_000
address_requests_per_minute = 1_000_000_000
"""
"""Counted all the same."""
VIDEOS = 60
CONNECTIONS = 8
COLUMNS = (
    "id, status, title, filename, visibility, created_at, updated_at, duration_s, width, height, size_bytes, "
    "exists(select from echo.artefacts a where a.video_id = v.id and a.kind = 'rendition') as playable, "
    "exists(select from echo.artefacts a where a.video_id = v.id and a.kind = 'poster') as has_poster"
)
SQL = f"select {COLUMNS} from echo.videos v where owner_id = $1 and deleted_at is null order by id desc limit 50"


# --- the peers ------------------------------------------------------------------------------------------------------


class Item(msgspec.Struct):
    id: UUID
    status: str
    title: str
    filename: str
    visibility: str
    created_at: datetime
    updated_at: datetime
    duration_s: float | None
    width: int | None
    height: int | None
    size_bytes: int | None
    playable: bool
    has_poster: bool


def raw_app(url: str, owner: str) -> Any:
    pool: asyncpg.Pool | None = None
    encode = msgspec.json.Encoder().encode

    async def app(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        nonlocal pool
        if pool is None:
            pool = await asyncpg.create_pool(url, min_size=8, max_size=8, init=_as_service)
        async with pool.acquire() as connection:
            rows = await connection.fetch(SQL, UUID(owner))
        body = encode({"items": [Item(*row) for row in rows]})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def _as_service(connection: Any) -> None:
    await connection.execute("set role service_role")


def fastapi_app(url: str, owner: str) -> Any:
    from fastapi import Depends, FastAPI
    from pydantic import BaseModel, ConfigDict
    from sqlalchemy import event, select
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

    from echo_core.adapters.postgres.tables import VideoRow

    class VideoOut(BaseModel):
        model_config = ConfigDict(from_attributes=True)
        id: UUID
        status: str
        title: str
        filename: str
        visibility: str
        created_at: datetime
        updated_at: datetime
        duration_s: float | None
        width: int | None
        height: int | None
        size_bytes: int | None

    class VideosOut(BaseModel):
        items: list[VideoOut]

    engine = create_async_engine(driver_url(url), pool_size=8)

    @event.listens_for(engine.sync_engine, "connect")
    def become(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("set role service_role")
        cursor.close()
        connection.commit()

    sessions = async_sessionmaker(engine, expire_on_commit=False)
    app = FastAPI()

    async def session() -> Any:
        async with sessions() as opened:
            yield opened

    @app.get("/api/v1/videos", response_model=VideosOut)
    async def videos(opened: AsyncSession = Depends(session)) -> Any:  # noqa: B008 - as the tutorial has it
        page = select(VideoRow).where(VideoRow.owner_id == UUID(owner), VideoRow.deleted_at.is_(None))
        return {"items": (await opened.scalars(page.order_by(VideoRow.id.desc()).limit(50))).all()}

    return app


PEERS = {"raw": raw_app, "fastapi": fastapi_app}


def serve(peer: str, port: int, url: str, owner: str) -> None:
    app = PEERS[peer](url, owner)
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="error")


# --- the measuring ---------------------------------------------------------------------------------------------------


async def seed(worker_url: str, owner: UserId) -> None:
    """Ready videos with their jobs, renditions and posters."""

    async def nobody(*_: object) -> None:
        return

    async with open_engine(worker_url) as engine:
        for number in range(VIDEOS):
            async with PostgresWorkerUnitsOfWork(engine, nobody).for_worker() as uow:
                now = await uow.jobs.now()
                video = Video(
                    id=new_video_id(), owner_id=owner, status=VideoStatus.READY,
                    title=f"Holidays, part {number}: the long way home", filename=f"IMG_{number:04}.MOV",
                    content_type="video/quicktime", created_at=now, updated_at=now,
                    duration_s=61.5 + number, width=1920, height=1080, size_bytes=98_765_432,
                )  # fmt: skip
                await uow.videos.add(video)
                made = ((RENDITION_KIND, "720p.mp4"), (RENDITION_KIND, "360p.mp4"), (POSTER_KIND, "poster.jpg"))
                await uow.artefacts.put([_artefact(video.id, owner, kind, name, now) for kind, name in made])


def _artefact(video_id: VideoId, owner: UserId, kind: str, name: str, now: datetime) -> Artefact:
    return Artefact(
        id=new_artefact_id(), video_id=video_id, owner_id=owner, step="ladder", lease_token=1, kind=kind, name=name,
        storage_key=f"videos/{video_id}/{name}", content_type="video/mp4", size_bytes=1, checksum="", generation="1",
        backend="fake", producer="bench", created_at=now, facts={"type": "video"},
    )  # fmt: skip


async def load(port: int, requests: int, token: str) -> None:
    request = f"GET /api/v1/videos?limit=50 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(requests // CONNECTIONS):
            writer.write(request.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 " in head[:16], head
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))


async def cost_us(process: psutil.Process, port: int, requests: int, token: str) -> float:
    before = cpu_s(process)
    await load(port, requests, token)
    return (cpu_s(process) - before) / requests * 1e6


async def add_jobs(worker_url: str, owner: str) -> None:
    """A finished job for every video: straight into the table, since no engine has run."""
    connection = await asyncpg.connect(worker_url)
    await connection.execute("set role service_role")
    videos = await connection.fetch("select id from echo.videos")
    columns = ("id", "video_id", "owner_id", "kind", "state")
    rows = [(uuid4(), video["id"], UUID(owner), "process", "succeeded") for video in videos]
    await connection.copy_records_to_table("jobs", schema_name="echo", columns=columns, records=rows)
    await connection.close()


def run(requests: int, rounds: int, peers: Sequence[str]) -> dict[str, list[float]]:
    with ExitStack() as stack:
        echo: Instance = stack.enter_context(instance(config=NO_LIMIT))
        asyncio.run(seed(echo.worker_url, UserId(UUID(echo.owner))))
        asyncio.run(add_jobs(echo.worker_url, echo.owner))
        for process in (psutil.Process(), *echo.up.children(recursive=True)):
            pin(process.pid, CLIENT_CPU)
        servers = {"echo": (echo.api, echo.port)}
        for peer in peers:
            port = free_port()
            arguments = ["--serve", peer, str(port), echo.worker_url, echo.owner]
            process = stack.enter_context(running([sys.executable, __file__, *arguments]))
            servers[peer] = (psutil.Process(process.pid), port)
            wait_for(f"http://127.0.0.1:{port}/api/v1/videos", process)
        for process, _ in servers.values():
            pin(process.pid, SERVER_CPU)
        costs: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(rounds + 1):
            for name, (process, port) in servers.items():
                cost = asyncio.run(cost_us(process, port, requests, echo.token))
                if number:  # the first round warms up
                    costs[name].append(cost)
        return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="fewer requests and rounds")
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--serve", nargs=4, metavar=("PEER", "PORT", "URL", "OWNER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        peer, port, url, owner = options.serve
        serve(peer, int(port), url, owner)
        return
    requests, rounds = (500, 3) if options.quick else (options.requests, options.rounds)
    costs = run(requests, rounds, options.peers)
    middle = {name: statistics.median(found) for name, found in costs.items()}
    row = Row(
        measure="List of 50 videos: server CPU per request",
        unit="us",
        echo=middle.pop("echo"),
        peers={"raw ASGI + asyncpg": middle["raw"], "FastAPI + ORM": middle["fastapi"]} if len(middle) > 1 else {},
        limit=600,
    )
    write_result("list_videos", [row], {"requests": requests, "cpu_us_per_request": costs})


if __name__ == "__main__":
    main()
