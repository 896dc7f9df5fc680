"""A store on a temporary folder, served by uvicorn on a loopback port."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import hypothesis
import pytest
import uvicorn
from echo_storage_local.backend import LocalStorage, open_local_storage
from echo_storage_local.config import LocalStorageConfig
from echo_storage_local.routes import make_routes
from starlette.applications import Starlette
from starlette.routing import Mount

from echo_core.plugin_api import PluginContext
from echo_core.testing.manual_clock import ManualClock


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


hypothesis.settings.register_profile(
    "storage_local", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("storage_local")  # no test may depend on how fast the machine is


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


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def served(tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """A store; behind a server only where the test has an HTTP client, because starting one takes time."""
    if "http" in request.fixturenames:
        async with serve(tmp_path, clock) as served:
            yield served
    else:
        async with open_local_storage(make_context(tmp_path, clock)) as storage:
            yield Served(storage, clock, "", tmp_path)


@pytest.fixture
def serve_store(tmp_path: Path, clock: ManualClock) -> Callable[..., AbstractAsyncContextManager[Served]]:
    """``async with serve_store(**config)`` for tests that need a configuration, or to open it twice."""
    return lambda **config: serve(tmp_path, clock, **config)


@pytest.fixture
def open_store(tmp_path: Path, clock: ManualClock) -> Callable[..., AbstractAsyncContextManager[LocalStorage]]:
    """``async with open_store(**config)``: no server."""
    return lambda **config: open_local_storage(make_context(tmp_path, clock, **config))


@pytest.fixture
def storage(served: Served) -> LocalStorage:
    return served.storage


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        yield client
