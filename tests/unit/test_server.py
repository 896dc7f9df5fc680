"""The API process and the hub beside its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from echo_core.adapters.settings import Settings
from echo_core.entrypoints.http import server


class Uvicorn:
    def __init__(self, config: object) -> None:
        self.should_exit = False
        servers.append(self)

    async def serve(self) -> None:
        while not self.should_exit:
            await asyncio.sleep(0.01)


servers: list[Uvicorn] = []


def with_hub(hub: object, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def open_api(settings: Settings) -> AsyncIterator[object]:
        limiter = SimpleNamespace(run=asyncio.Event().wait)
        yield SimpleNamespace(realtime=SimpleNamespace(hub=hub), rate_limiter=limiter)

    servers.clear()
    monkeypatch.setattr(server, "open_api", open_api)
    monkeypatch.setattr(server, "_Server", Uvicorn)
    monkeypatch.setattr(server, "_config", lambda settings, api: None)


async def test_hub_ends_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        ended = False

        async def run(self) -> None:
            try:
                servers[0].should_exit = True
                await asyncio.Event().wait()
            finally:
                Hub.ended = True

    with_hub(Hub(), monkeypatch)
    async with asyncio.timeout(20):
        await server._serve(Settings())
    assert Hub.ended


async def test_server_does_not_live_on_without_its_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        async def run(self) -> None:
            raise ZeroDivisionError

    with_hub(Hub(), monkeypatch)
    async with asyncio.timeout(20):
        with pytest.raises(ExceptionGroup) as raised:
            await server._serve(Settings())
    assert raised.group_contains(ZeroDivisionError)
