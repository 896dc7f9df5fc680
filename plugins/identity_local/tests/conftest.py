"""The identity on a real PostgreSQL, made by the migrations, behind a real server on a loopback port."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import uvicorn
from echo_identity_local.config import IdentityConfig
from echo_identity_local.opening import open_local_identity
from echo_identity_local.provider import LocalIdentity
from echo_identity_local.tables import MIGRATIONS, SCHEMA
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.routing import Mount

from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.plugin_schemas import migrate_plugin
from echo_core.plugin_api import IdentityContext
from echo_core.testing.manual_clock import ManualClock
from tests.integration.conftest import Database, Server, postgres

__all__ = ["postgres"]  # the fixture of the session

ROLE_PASSWORD = "identity-password"
PASSWORD = "correct horse battery"


def migrate(database: Database) -> None:
    asyncio.run(migrate_plugin(database.owner_url, role=SCHEMA, password=ROLE_PASSWORD, migrations=MIGRATIONS))


@pytest.fixture
def database(postgres: Server) -> Iterator[Database]:
    with postgres.database("echo_template") as fresh:
        migrate(fresh)
        yield fresh


def identity_url(database: Database) -> str:
    return database.server.url(database.name, user=SCHEMA, password=ROLE_PASSWORD)


@dataclass
class Served:
    """A running identity and a client of it."""

    identity: LocalIdentity
    http: httpx2.AsyncClient
    clock: ManualClock
    context: IdentityContext = field(repr=False)

    async def post(self, path: str, body: Any = None, *, bearer: str = "", **headers: str) -> httpx2.Response:
        sent = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return await self.http.post(path, json=body, headers={**sent, **headers})

    async def sign_up(self, email: str = "ada@example.org", password: str = PASSWORD) -> dict[str, Any]:
        response = await self.post("/signup", {"email": email, "password": password, "data": {"name": "Ada"}})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def refresh(self, token: str) -> httpx2.Response:
        return await self.post("/token?grant_type=refresh_token", {"refresh_token": token})

    async def user(self, bearer: str) -> httpx2.Response:
        return await self.http.get("/user", headers={"Authorization": f"Bearer {bearer}"})

    async def run(self, sql: str, **values: Any) -> Any:
        async with self.context.database.begin() as tx:
            return await tx.execute(text(sql), values)


@asynccontextmanager
async def serve(
    database: Database, clock: ManualClock, *, production: bool = False, **config: Any
) -> AsyncIterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with _serve(listener, database, clock, production=production, **config) as served:
            yield served


@asynccontextmanager
async def _serve(
    listener: socket.socket, database: Database, clock: ManualClock, *, production: bool, **config: Any
) -> AsyncIterator[Served]:
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with open_engine(identity_url(database)) as engine:
        context = IdentityContext(
            plugin="identity_local",
            config=IdentityConfig(**({"account_tries_per_minute": 1000, "address_tries_per_minute": 1000} | config)),
            data_dir=None,  # type: ignore[arg-type] # it keeps nothing on disk
            routes_url="",
            clock=clock,
            derive_key=lambda label: hashlib.sha256(f"test:{label}".encode()).digest(),
            database=engine.execution_options(isolation_level="READ COMMITTED"),
            issuer=f"{base_url}/auth/v1",
            audience="authenticated",
            role="authenticated",
            production=production,
        )
        async with open_local_identity(context) as identity:
            app = Starlette(routes=[Mount("/auth/v1", routes=list(identity.routes()))])
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                async with httpx2.AsyncClient(base_url=f"{base_url}/auth/v1", timeout=30, trust_env=False) as http:
                    yield Served(identity, http, clock, context)
            finally:
                server.should_exit = True
                await serving


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def served(database: Database, clock: ManualClock) -> AsyncIterator[Served]:
    async with serve(database, clock) as running:
        yield running


@pytest.fixture
def serve_identity(database: Database, clock: ManualClock) -> Callable[..., AbstractAsyncContextManager[Served]]:
    """``async with serve_identity(**config)`` for tests that need a configuration."""
    return lambda **config: serve(database, clock, **config)


@pytest.fixture
def password() -> str:
    return PASSWORD


@pytest.fixture
def migrate_again(database: Database) -> Callable[[], None]:
    return lambda: migrate(database)


@pytest.fixture
def role_url(database: Database) -> str:
    return identity_url(database)
