"""A store on a temporary folder, served by uvicorn on a loopback port."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from echo_storage_local.backend import LocalStorage, open_local_storage
from echo_storage_local.config import LocalStorageConfig
from echo_storage_local.routes import make_routes
from starlette.applications import Starlette
from starlette.routing import Mount

from echo_core.plugin_api import PluginContext


class ManualClock:
    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


def make_context(
    data_dir: Path, clock: ManualClock, *, base_url: str = "http://127.0.0.1:1", **config: Any
) -> PluginContext:
    return PluginContext(
        plugin="storage_local",
        config=LocalStorageConfig(**({"min_free_bytes": 0} | config)),
        data_dir=data_dir,
        routes_url=f"{base_url}/plugins/storage_local",
        clock=clock,
        derive_key=lambda label: hashlib.sha256(f"test:{label}".encode()).digest(),
    )


@dataclass
class Served:
    storage: LocalStorage
    clock: ManualClock
    base_url: str
    data_dir: Path


@asynccontextmanager
async def serve(data_dir: Path, clock: ManualClock, **config: Any) -> AsyncIterator[Served]:
    """A store behind a real server in this event loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with open_local_storage(make_context(data_dir, clock, base_url=base_url, **config)) as storage:

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
            yield {"storage": storage}

        app = Starlette(routes=[Mount("/plugins/storage_local", routes=make_routes())], lifespan=lifespan)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Served(storage, clock, base_url, data_dir)
        finally:
            server.should_exit = True
            await serving


Opener = Callable[..., AsyncIterator[Served]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def served(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Served]:
    async with serve(tmp_path, clock) as served:
        yield served


@pytest.fixture
def storage(served: Served) -> LocalStorage:
    return served.storage


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as client:
        yield client
