from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from joserfc.jwk import Key

from echo_core.adapters.settings import AuthSettings, Settings
from echo_core.adapters.tokens import JwtTokens, open_tokens
from tests.fakes.issuer import ISSUER, Issuer, MovableClock, new_key

SECRET = b"s" * 32
SHARED = "shared secret of more than thirty-two bytes"

Open = Callable[..., Any]


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def issuer(clock: MovableClock) -> AsyncIterator[Issuer]:
    made = Issuer(clock)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
        yield made


@pytest.fixture
def make_key() -> Callable[..., Key]:
    return new_key


@pytest.fixture
async def opened(issuer: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with AsyncExitStack() as stack:

        async def make(**auth: object) -> JwtTokens:
            wanted: dict[str, object] = {
                "issuer": ISSUER,
                "algorithms": ("ES256", "RS256"),
                "jwks_url": issuer.url,
            } | auth
            configured = Settings(auth=AuthSettings.model_validate(wanted))
            return await stack.enter_async_context(
                open_tokens(configured, secret=SECRET, clock=clock, monotonic=clock.monotonic)
            )

        yield make


@pytest.fixture
async def verifier(opened: Open) -> JwtTokens:
    made: JwtTokens = await opened()
    return made


@pytest.fixture
async def shared(opened: Open) -> JwtTokens:
    made: JwtTokens = await opened(algorithms=("HS256",), jwks_url="", hs256_secret=SHARED)
    return made
