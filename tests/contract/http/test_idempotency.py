from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route

from echo_core.adapters.settings import Settings
from echo_core.entrypoints.http import idempotency, server
from echo_core.entrypoints.http.app import PluginRoutes
from echo_core.entrypoints.http.operations import OperationEndpoint
from echo_core.plugin_api import DomainError, RoutesSpec
from tests.fakes.api import LIMITS, OTHER, FakeApi, bearer, begin, completion, uploaded

URL = "/api/v1/videos/signed-upload-url"
BODY = {"filename": "a.mp4", "contentType": "video/mp4", "sizeBytes": 5}
KEY = {"Idempotency-Key": "0198f3c2-7b1e-7c3a-9d52-1f0e6a4b8c21"}


async def test_the_same_request_is_done_once_and_answered_alike() -> None:
    api = FakeApi()
    async with api.client() as client:
        first = await client.post(URL, json=BODY, headers=KEY)
        second = await client.post(URL, json=BODY, headers=KEY)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["content-type"] == first.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(api.database.tables.videos) == 1


async def test_another_request_under_the_same_key_is_refused() -> None:
    api = FakeApi()
    async with api.client() as client:
        await client.post(URL, json=BODY, headers=KEY)
        body = await client.post(URL, json=BODY | {"sizeBytes": 6}, headers=KEY)
        one, two = (await begin(client), await begin(client))
        await client.post(f"/api/v1/videos/{one['videoId']}/upload/resume", headers=KEY)
        path = await client.post(f"/api/v1/videos/{two['videoId']}/upload/resume", headers=KEY)
    for response in (body, path):
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


async def test_keys_belong_to_their_route() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await client.post(URL, json=BODY, headers=KEY)
        resume = f"/api/v1/videos/{begun.json()['videoId']}/upload/resume"
        resumed = [await client.post(resume, headers=KEY) for _ in range(2)]
        again = await client.post(URL, json=BODY, headers=KEY)
    assert [r.status_code for r in resumed] == [200, 200]
    assert [r.headers.get("idempotency-replayed") for r in (*resumed, again)] == [None, "true", "true"]
    assert again.content == begun.content


async def test_keys_belong_to_their_user() -> None:
    api = FakeApi()
    async with api.client() as client:
        mine = await client.post(URL, json=BODY, headers=KEY)
        theirs = await client.post(URL, json=BODY, headers=KEY | bearer(OTHER))
    assert mine.json()["videoId"] != theirs.json()["videoId"]


async def test_while_the_first_is_at_work_the_second_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    at_work, go_on = asyncio.Event(), asyncio.Event()
    begin_upload = api.storage.begin_upload

    async def slow(request: object) -> object:
        at_work.set()
        await go_on.wait()
        return await begin_upload(request)  # type: ignore[arg-type]

    monkeypatch.setattr(api.storage, "begin_upload", slow)
    async with api.client() as client:
        first = asyncio.create_task(client.post(URL, json=BODY, headers=KEY))
        await at_work.wait()
        second = await client.post(URL, json=BODY, headers=KEY)
        go_on.set()
        third_status = (await first).status_code
    assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_progress")
    assert second.headers["retry-after"] == "1"
    assert third_status == 201


@pytest.mark.parametrize("error", [RuntimeError("bug"), asyncio.CancelledError()])
async def test_a_request_that_failed_may_be_sent_again(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()

    async def broken(request: object) -> object:
        raise error

    async with api.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(api.storage, "begin_upload", broken)
            try:
                failed = await client.post(URL, json=BODY, headers=KEY)
                assert failed.status_code == 500
            except asyncio.CancelledError:
                assert isinstance(error, asyncio.CancelledError)
        again = await client.post(URL, json=BODY, headers=KEY)
    assert again.status_code == 201


async def test_a_refused_request_may_be_corrected_under_its_key() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        early = await client.post("/api/v1/videos/upload-complete", json=completion(begun), headers=KEY)
        (upload,) = api.database.tables.uploads.values()
        api.storage.store(upload.storage_key, b"the bytes of a video", "video/mp4")
        late = await client.post("/api/v1/videos/upload-complete", json=completion(begun), headers=KEY)
    assert (early.status_code, late.status_code) == (409, 202)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "é"])
async def test_a_key_is_printable_and_bounded(key: str) -> None:
    async with FakeApi().client() as client:
        response = await client.post(URL, json=BODY, headers={"Idempotency-Key": key.encode("latin-1")})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")


async def test_two_keys_are_none() -> None:
    async with FakeApi().client() as client:
        response = await client.post(URL, json=BODY, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")


@pytest.mark.parametrize("action", ["cancel", "retry"])
async def test_jobs_are_cancelled_and_retried_once(action: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        _, job_id = await uploaded(api, client)
        if action == "retry":
            await client.post(f"/api/v1/videos/jobs/{job_id}/cancel")
        first = await client.post(f"/api/v1/videos/jobs/{job_id}/{action}", headers=KEY)
        again = await client.post(f"/api/v1/videos/jobs/{job_id}/{action}", headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["idempotency-replayed"] == "true"


async def test_an_unauthenticated_request_reserves_nothing() -> None:
    api = FakeApi()
    async with api.client(user=None) as client:
        assert (await client.post(URL, json=BODY, headers=KEY)).status_code == 401
    assert api.database.tables.keys == {}


async def answer(request: Request) -> Response:
    """What a plugin's POST might do: count itself, and say so in every way."""
    calls.append(await request.body())
    headers = {"Location": f"/things/{len(calls)}", "ETag": '"7"', "Retry-After": "3", "Set-Cookie": "a=b"}
    return JSONResponse({"calls": len(calls), "length": len(calls[-1])}, 202, headers)


async def long_answer(request: Request) -> Response:
    calls.append(b"")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (idempotency.MAX_KEPT_ANSWER_BYTES // 2)

    return StreamingResponse(pieces())


async def refusal(request: Request) -> Response:
    calls.append(b"")
    raise DomainError("Not now.", code="not_now")


calls: list[bytes] = []
PLUGIN = [
    PluginRoutes(
        plugin="things",
        spec=RoutesSpec(
            routes=[
                Route("/make/{name}", answer, methods=["POST", "PUT"]),
                Route("/long", long_answer, methods=["POST"]),
                Route("/refuse", refusal, methods=["POST"]),
            ]
        ),
    ),
    PluginRoutes(plugin="signed", spec=RoutesSpec(routes=[Route("/", answer, methods=["POST"])], auth="none")),
]


async def test_posts_of_plugins_that_know_their_caller_are_done_once() -> None:
    calls.clear()
    async with FakeApi().client(plugin_routes=PLUGIN) as client:
        first = await client.post("/plugins/things/make/a", json={"x": 1}, headers=KEY)
        again = await client.post("/plugins/things/make/a", json={"x": 1}, headers=KEY)
        other_body = await client.post("/plugins/things/make/a", json={"x": 2}, headers=KEY)
        other_path = await client.post("/plugins/things/make/b", json={"x": 1}, headers=KEY)
        somebody = await client.post("/plugins/things/make/a", json={"x": 1}, headers=KEY | bearer(OTHER))
        put = [await client.put("/plugins/things/make/a", headers=KEY) for _ in range(2)]
        too_long = await client.post("/plugins/things/make/a", content=b"x" * 5000, headers=KEY)
        without_key = await client.post("/plugins/things/make/a", content=b"x" * 5000)
    assert again.content == first.content
    assert (first.status_code, again.status_code) == (202, 202)
    for header in ("location", "etag", "retry-after", "content-type"):
        assert again.headers[header] == first.headers[header], header
    assert "set-cookie" not in again.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (other_body.status_code, other_body.json()["code"]) == (422, "idempotency_key_reused")
    assert [r.json()["calls"] for r in (first, other_path, somebody, *put)] == [1, 2, 3, 4, 5]
    assert (too_long.status_code, too_long.json()["code"]) == (413, "body_too_large")
    assert without_key.json()["length"] == 5000


async def test_a_body_under_a_key_that_does_not_go_on_is_given_up() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    api = FakeApi(limits=replace(LIMITS, body_idle_timeout_s=0.05))
    async with api.client(plugin_routes=PLUGIN) as client, asyncio.timeout(20):
        response = await client.post("/plugins/things/make/a", content=body(), headers=KEY)
    assert (response.status_code, response.json()["code"]) == (408, "body_timeout")


async def test_an_answer_of_a_plugin_that_is_too_long_to_keep_is_not_given_again_nor_the_request_done() -> None:
    calls.clear()
    async with FakeApi().client(plugin_routes=PLUGIN) as client:
        first = await client.post("/plugins/things/long", headers=KEY)
        again = await client.post("/plugins/things/long", headers=KEY)
    assert len(first.content) > idempotency.MAX_KEPT_ANSWER_BYTES
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_answer_not_kept")
    assert len(calls) == 1


async def test_a_refusal_of_a_plugin_leaves_its_key_free() -> None:
    calls.clear()
    async with FakeApi().client(plugin_routes=PLUGIN) as client:
        answers = [await client.post("/plugins/things/refuse", headers=KEY) for _ in range(2)]
    assert [a.json()["code"] for a in answers] == ["not_now", "not_now"]
    assert len(calls) == 2


# --- every POST -----------------------------------------------------------------------------------------------------


def served(api: FakeApi) -> Any:
    """The application as the API process serves it."""
    realtime = SimpleNamespace(
        tickets=SimpleNamespace(put=_put), clock=api.clock, limits=api.limits, tokens=api.tokens, hub=None
    )
    parts: Any = SimpleNamespace(
        services=api.services,
        realtime=realtime,
        checks=(),
        step_metrics=None,
        rate_limiter=None,
        identity=None,
        web_build=None,
        plugin_routes=[(group.plugin, group.spec) for group in PLUGIN],
    )
    return server._config(Settings(), parts).app


async def _put(key: str, user: object, *, expires_in_s: int) -> None:
    return


def posts(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, Route]]:
    """Every route that takes POST, with its path."""
    for route in routes:
        if isinstance(route, Mount):
            yield from posts(route.routes, prefix + route.path)
        elif isinstance(route, Route) and (route.methods is None or "POST" in route.methods):
            yield prefix + route.path, route


EVERY_POST = dict(posts(served(FakeApi()).routes))
CHECKS_FOR_ITSELF = {"/plugins/signed/"}
"""Routes of plugins with ``auth="none"``: their callers are unknown to the kernel."""


def test_the_walk_finds_the_posts() -> None:
    assert {URL, "/api/v1/ws-tickets", "/api/v1/videos/jobs/{jobId:uuid}/retry", "/plugins/things/long"} <= set(
        EVERY_POST
    )


@pytest.mark.parametrize("path", EVERY_POST)
async def test_every_post_honours_keys(path: str) -> None:
    """One that takes no notice of a key takes no offence at a bad one either."""
    if path in CHECKS_FOR_ITSELF:
        pytest.skip("its callers are unknown to the kernel")
    api = FakeApi()
    url = (
        path.replace("{jobId:uuid}", ID)
        .replace("{videoId:uuid}", ID)
        .replace("{suggestionId:uuid}", ID)
        .replace("{name}", "x")
    )
    async with api.client_of(served(api)) as client:
        response = await client.post(url, json={}, headers={"Idempotency-Key": b"\xe9"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")
    endpoint = EVERY_POST[path].endpoint
    assert not isinstance(endpoint, OperationEndpoint) or endpoint.operation.answer_is_kept or path == TICKETS


ID = "01900000-0000-7000-8000-000000000001"
TICKETS = "/api/v1/ws-tickets"


async def test_a_repeated_request_for_a_ticket_gets_a_fresh_one_and_none_is_kept() -> None:
    api = FakeApi()
    async with api.client_of(served(api)) as client:
        answers = [await client.post(TICKETS, headers=KEY) for _ in range(2)]
    assert [a.status_code for a in answers] == [201, 201]
    first, second = (json.loads(a.content)["ticket"] for a in answers)
    assert first != second
    assert api.database.tables.keys == {}
