"""What a list of 50 videos costs the server, beside the same rows on FastAPI and on bare ASGI.

    python bench/list_videos.py [--requests 1500] [--rounds 5] [--out bench/results/list_videos.json]

Echo is the real API process (``echoctl up``): bearer token, row level security, request log, metrics and all. The peers
serve the same columns of the same rows and nothing else: ``raw`` is a bare ASGI function over asyncpg and msgspec,
``fastapi`` an ORM query and a response model, as its tutorial has it. One client sends over 8 connections; what
counts is the processor time of the server process by request, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import msgspec
import psutil
import uvicorn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from echo_core.adapters.addresses import addresses  # noqa: E402
from echo_core.adapters.postgres.engine import driver_url, open_engine  # noqa: E402
from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork  # noqa: E402
from echo_core.adapters.secrets import load_instance_secret  # noqa: E402
from echo_core.bootstrap import issue_token, load_settings  # noqa: E402
from echo_core.domain.artefacts import POSTER_KIND, RENDITION_KIND, Artefact  # noqa: E402
from echo_core.domain.ids import UserId, VideoId, new_artefact_id, new_video_id  # noqa: E402
from echo_core.domain.videos import Video, VideoStatus  # noqa: E402

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
    """Ready videos with their renditions and posters."""

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
        producer="bench", created_at=now, facts={"type": "video"},
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
    before = process.cpu_times()
    await load(port, requests, token)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / requests * 1e6


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.TransportError:
            assert process.poll() is None, f"{url}: the server ended"
        assert time.monotonic() < deadline, f"{url}: the server is not ready"
        time.sleep(0.1)


def run(requests: int, rounds: int, peers: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="echo-bench-") as folder:
        port = _free_port()
        os.environ |= {"ECHO_DATA_DIR": folder, "ECHO_HTTP__PORT": str(port), "XDG_STATE_HOME": f"{folder}/state"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        up = subprocess.Popen([sys.executable, "-m", "echo_core.entrypoints.cli", "up"], **quiet)  # type: ignore[call-overload]
        started: list[subprocess.Popen[bytes]] = [up]
        try:
            _wait_for(f"http://127.0.0.1:{port}/readyz", up)
            settings = load_settings()
            token = asyncio.run(issue_token(settings, "bench@example.org", 3600))
            payload = token.split(".")[1]
            owner = str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])
            where = addresses(settings, load_instance_secret(settings))
            asyncio.run(seed(where.worker_url, UserId(UUID(owner))))
            api = next(p for p in psutil.Process(up.pid).children(recursive=True) if "serve" in p.cmdline())
            servers = {"echo": (api, port)}
            for peer in peers:
                peer_port = _free_port()
                arguments = ["--serve", peer, str(peer_port), where.worker_url, owner]
                process = subprocess.Popen([sys.executable, __file__, *arguments], **quiet)  # type: ignore[call-overload]
                started.append(process)
                servers[peer] = (psutil.Process(process.pid), peer_port)
                _wait_for(f"http://127.0.0.1:{peer_port}/api/v1/videos", process)
            costs: dict[str, list[float]] = {name: [] for name in servers}
            for number in range(rounds + 1):
                for name, (process, server_port) in servers.items():
                    cost = asyncio.run(cost_us(process, server_port, requests, token))
                    if number:  # the first round warms up
                        costs[name].append(cost)
            return {name: statistics.median(found) for name, found in costs.items()}
        finally:
            for one in reversed(started):
                one.terminate()
                one.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/list_videos.json")
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--serve", nargs=4, metavar=("PEER", "PORT", "URL", "OWNER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        peer, port, url, owner = options.serve
        serve(peer, int(port), url, owner)
        return
    costs = run(options.requests, options.rounds, options.peers)
    print(f"{'server':<10}{'CPU us/request':>16}{'x raw':>8}")
    for name, cost in costs.items():
        print(f"{name:<10}{cost:>16.0f}{cost / costs.get('raw', cost):>8.2f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"requests": options.requests, "cpu_us_per_request": costs}, indent=1))


if __name__ == "__main__":
    main()
