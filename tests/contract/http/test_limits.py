"""What a process takes on at once, and how deep a body may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from echo_core.entrypoints.http.app import PluginRoutes, create_app
from echo_core.plugin_api.specs import RoutesSpec
from tests.fakes.api import LIMITS, FakeApi

METADATA = "/api/v1/videos/01900000-0000-7000-8000-00000000000c/metadata"


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = response.json()
    assert body["code"] == code
    assert body["detail"]
    return body


@pytest.mark.parametrize("transfer", [False, True])
async def test_requests_over_the_limit_are_told_to_come_back_and_others_are_not_held_up(transfer: bool) -> None:
    entered, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def slow(request: Request) -> Response:
        entered.release()
        await go_on.wait()
        return PlainTextResponse("done")

    api = FakeApi(limits=replace(LIMITS, max_requests=2, max_transfers=2))
    transfers = PluginRoutes(plugin="store", spec=RoutesSpec(routes=[Route("/slow", slow)], auth="none"))
    app = create_app(api.services, plugin_routes=[transfers], extra_routes=[Route("/api/slow", slow)])
    mine, other = ("/plugins/store/slow", "/api/v1/videos") if transfer else ("/api/slow", "/plugins/store/none")
    async with api.client_of(app) as client, asyncio.timeout(20):
        running = [asyncio.create_task(client.get(mine)) for _ in range(2)]
        await entered.acquire()
        await entered.acquire()
        refused = await client.get(mine)
        body = problem(refused, 503, "server_busy")
        assert refused.headers["retry-after"] == "1"
        assert ("http.max_transfers" if transfer else "http.max_requests") in str(body["detail"])
        assert (await client.get(other)).status_code != 503
        assert (await client.get("/healthz")).status_code == 200
        go_on.set()
        assert [r.text for r in await asyncio.gather(*running)] == ["done", "done"]
        assert (await client.get(mine)).text == "done"


async def test_body_that_does_not_go_on_is_given_up() -> None:
    api = FakeApi(limits=replace(LIMITS, body_idle_timeout_s=0.05))

    async def body() -> AsyncIterator[bytes]:
        yield b'{"title": '
        await asyncio.sleep(30)

    async with api.client() as client, asyncio.timeout(20):
        response = await client.put(METADATA, content=body(), headers={"Content-Type": "application/json"})
    assert problem(response, 408, "body_timeout")["remedy"]
    assert response.headers["connection"] == "close"


async def test_body_as_deep_as_it_is_long_is_refused_and_not_recursed_into() -> None:
    deep = b"[" * 1500 + b"]" * 1500
    async with FakeApi().client() as client:
        response = await client.put(
            METADATA, content=b'{"tags": ' + deep + b"}", headers={"Content-Type": "application/json"}
        )
    problem(response, 400, "malformed_json")
