"""The shape of errors, over every operation."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echo_core.domain.errors import LeaseLostError
from echo_core.entrypoints.http import api
from echo_core.entrypoints.http.app import PluginRoutes
from echo_core.entrypoints.http.errors import _STATUS_BY_CLASS, status_of
from echo_core.entrypoints.http.operations import Operation
from echo_core.plugin_api import AuthError, RateLimitedError, RoutesSpec, errors
from tests.fakes.api import LIMITS, OTHER, FakeApi, bearer, begin

ID = "01900000-0000-7000-8000-000000000001"
OPERATIONS = api.KERNEL_OPERATIONS

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.id)
authenticated = pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.auth != "none"], ids=lambda o: o.id)
with_ids = pytest.mark.parametrize("operation", [o for o in OPERATIONS if "Id}" in o.path], ids=lambda o: o.id)
with_body = pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.body], ids=lambda o: o.id)


def path(operation: Operation, an_id: str = ID) -> str:
    return re.sub(r"{\w+Id}", an_id, operation.path).replace("{name}", "x")


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "code", "remedy", "requestId"} <= problem.keys()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["detail"]
    assert problem["remedy"]
    assert problem["requestId"] == response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    return problem


@authenticated
@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "token_missing"),
        ("Basic abc", "token_missing"),
        ("Bearer ", "token_missing"),
        ("Bearer nonsense", "token_invalid"),
        ("Bearer expired", "token_expired"),
        ("Bearer " + "x" * 9000, "token_invalid"),
    ],
)
async def test_without_a_good_token_it_is_401_with_a_challenge(
    operation: Operation, header: str | None, code: str
) -> None:
    async with FakeApi().client(user=None) as client:
        headers = {"Authorization": header} if header is not None else {}
        response = await client.request(operation.method, path(operation), headers=headers)
    assert_problem(response, 401, code)
    assert response.headers["www-authenticate"].startswith("Bearer")


@with_ids
@pytest.mark.parametrize("bad", ["nonsense", "1", ID + "0", "%00", "{" + ID + "}"])
async def test_what_is_no_id_is_not_found(operation: Operation, bad: str) -> None:
    async with FakeApi().client() as client:
        response = await client.request(operation.method, path(operation, bad), json={})
    assert_problem(response, 404, "not_found")


@with_ids
async def test_an_unknown_id_is_not_found(operation: Operation) -> None:
    async with FakeApi().client() as client:
        response = await client.request(operation.method, path(operation), json=operation.body_example or {})
    assert_problem(response, 404, "not_found")


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if "{videoId}" in o.path], ids=lambda o: o.id)
async def test_somebody_elses_video_is_not_found(operation: Operation) -> None:
    api_ = FakeApi()
    async with api_.client() as client:
        begun = await begin(client)
        url = path(operation, begun["videoId"])
        response = await client.request(operation.method, url, json=operation.body_example or {}, headers=bearer(OTHER))
    assert_problem(response, 404, "not_found")


@with_body
@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a": nope}', b'"\\ud800"'])
async def test_what_is_no_json_is_400(operation: Operation, body: bytes) -> None:
    async with FakeApi().client() as client:
        response = await client.request(
            operation.method, path(operation), content=body, headers={"Content-Type": "application/json"}
        )
    assert_problem(response, 400, "malformed_json")


@with_body
@pytest.mark.parametrize("body", [b"[]", b"7", b'"x"', b"null"])
async def test_json_that_is_no_object_is_422(operation: Operation, body: bytes) -> None:
    async with FakeApi().client() as client:
        response = await client.request(
            operation.method, path(operation), content=body, headers={"Content-Type": "application/json"}
        )
    assert_problem(response, 422, "validation_failed")


@with_body
async def test_unknown_fields_are_refused_by_name(operation: Operation) -> None:
    async with FakeApi().client() as client:
        response = await client.request(operation.method, path(operation), json={"ownerId": ID, "a/b~c": 1})
    problem = assert_problem(response, 422, "validation_failed")
    assert {"/ownerId", "/a~1b~0c"} <= {e["pointer"] for e in problem["errors"]}


@with_body
async def test_another_media_type_is_415(operation: Operation) -> None:
    async with FakeApi().client() as client:
        response = await client.request(
            operation.method, path(operation), content=b"a=b", headers={"Content-Type": "text/plain"}
        )
    assert_problem(response, 415, "unsupported_media_type")


@with_body
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_413_and_names_the_limit(operation: Operation, announced: bool) -> None:
    body = b'"' + b"x" * LIMITS.max_body_bytes + b'"'

    async def stream() -> Any:
        yield body[:100]
        yield body[100:]

    async with FakeApi().client() as client:
        response = await client.request(
            operation.method,
            path(operation),
            content=body if announced else stream(),
            headers={"Content-Type": "application/json"},
        )
    problem = assert_problem(response, 413, "body_too_large")
    assert str(LIMITS.max_body_bytes) in problem["detail"]
    assert "http.max_body_bytes" in problem["detail"]


async def test_all_that_is_wrong_is_told_at_once() -> None:
    async with FakeApi().client() as client:
        response = await client.post(
            "/api/v1/videos/upload-complete",
            json={"videoId": 7, "storagePath": "a\0b", "contentType": "", "sizeBytes": "20", "extra": True},
        )
    problem = assert_problem(response, 422, "validation_failed")
    pointers = [error["pointer"] for error in problem["errors"]]
    assert sorted(pointers) == [
        "/contentType",
        "/extra",
        "/originalFilename",
        "/sizeBytes",
        "/storagePath",
        "/videoId",
    ]
    assert all(error["message"] for error in problem["errors"])


@each_operation
async def test_another_method_is_405_with_allow(operation: Operation) -> None:
    async with FakeApi().client() as client:
        response = await client.request("PATCH", path(operation))
    assert_problem(response, 405, "method_not_allowed")
    assert operation.method in response.headers["allow"]


@pytest.mark.parametrize("url", ["/api/v1/nothing", "/api/v1/videos/", "/api", "/x%00y", "/api/v1/videos/jobs"])
async def test_an_unknown_address_is_404(url: str) -> None:
    async with FakeApi().client() as client:
        assert_problem(await client.get(url), 404, "not_found")


@authenticated
async def test_a_database_that_is_down_is_503_with_retry_after(operation: Operation) -> None:
    api_ = FakeApi()
    api_.database.down = True
    if operation.body is not None or operation.id in {"listPlugins", "search"}:
        pytest.skip("refused before the database is asked, or without it")
    async with api_.client() as client:
        response = await client.request(operation.method, path(operation))
    assert_problem(response, 503, "database_unavailable")
    assert int(response.headers["retry-after"]) > 0


@authenticated
async def test_a_defect_is_500_and_tells_nothing_of_itself(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    api_ = FakeApi()

    async def broken(token: str) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(api_.tokens, "verify", broken)
    async with api_.client() as client:
        response = await client.request(operation.method, path(operation))
    assert_problem(response, 500, "internal_error")
    assert "hunter2" not in response.text


@pytest.mark.parametrize("error", [ConnectionResetError("10.0.0.3"), TimeoutError()])
async def test_a_broken_connection_behind_us_is_503(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    api_ = FakeApi()

    async def broken(token: str) -> None:
        raise error

    monkeypatch.setattr(api_.tokens, "verify", broken)
    async with api_.client() as client:
        response = await client.get("/api/v1/videos")
    assert_problem(response, 503, "unavailable")
    assert "10.0.0.3" not in response.text


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a,b", "x" * 300, "host:port", "<script>"])
async def test_a_malformed_host_is_400(host: str) -> None:
    async with FakeApi().client() as client:
        assert_problem(await client.get("/healthz", headers={"Host": host}), 400, "invalid_host")


def test_a_provider_that_refuses_our_credentials_is_not_the_callers_401() -> None:
    assert status_of(AuthError("The bucket refused us.")) == 502
    assert status_of(AuthError("No.", code="token_expired")) == 401


def test_every_error_class_has_a_status() -> None:
    known = [getattr(errors, name) for name in dir(errors)]
    classes = [c for c in known if isinstance(c, type) and issubclass(c, errors.EchoError)]
    assert all(400 <= status_of(cls("x")) < 600 for cls in [*classes, LeaseLostError])
    assert errors.EchoError in _STATUS_BY_CLASS


async def test_routes_of_plugins_stand_under_the_same_errors_and_their_auth() -> None:
    async def limited(request: Request) -> Response:
        raise RateLimitedError("Slow down.", retry_after_s=17)

    async def whoami(request: Request) -> Response:
        assert request.state.storage is api_.storage
        return Response(str(request.state.user.email), headers={"told": request.state.request_id})

    api_ = FakeApi()
    routes = [
        PluginRoutes(plugin="open", spec=RoutesSpec(routes=[Route("/limited", limited)], auth="none")),
        PluginRoutes(plugin="closed", spec=RoutesSpec(routes=[Route("/me", whoami)])),
    ]
    async with api_.client(user=None, plugin_routes=routes) as client:
        slow = await client.get("/plugins/open/limited")
        anonymous = await client.get("/plugins/closed/me")
        known = await client.get("/plugins/closed/me", headers=bearer(OTHER))
        missing = await client.get("/plugins/open/nothing")
        closed_missing = await client.get("/plugins/closed/nothing")
    assert_problem(slow, 503, "provider_rate_limited")
    assert slow.headers["retry-after"] == "17"
    assert_problem(anonymous, 401, "token_missing")
    assert known.text == OTHER.email
    assert known.headers["told"] == known.headers["x-request-id"]
    assert_problem(missing, 404, "not_found")
    assert_problem(closed_missing, 401, "token_missing")


async def test_routes_of_plugins_pass_on_hints_of_which_only_keys_of_sources_count() -> None:
    async def notify(request: Request) -> Response:
        await request.state.upload_hints.object_stored((await request.body()).decode())
        return Response(status_code=204)

    api_ = FakeApi()
    routes = [
        PluginRoutes(plugin="bucket", spec=RoutesSpec(routes=[Route("/", notify, methods=["POST"])], auth="none"))
    ]
    async with api_.client(plugin_routes=routes) as client:
        begun = await begin(client)
        video_id, key = begun["videoId"], begun["storagePath"]
        others = [
            "",
            "\0",
            "x" * 5000,
            key.replace("/source/", "/encode/"),
            key.replace(video_id, video_id.upper()),
            key.replace(video_id, "01900000"),
            f"{key}/../../{video_id}",
            f"other/{key}",
            f"{key}.part",
        ]
        told = [(await client.post("/plugins/bucket/", content=other)).status_code for other in others]
        assert set(told) == {204}
        assert api_.database.hints == []
        assert (await client.post("/plugins/bucket/", content=key)).status_code == 204
        assert api_.database.hints == [UUID(video_id)]
        api_.database.down = True
        away = await client.post("/plugins/bucket/", content=key)
    assert_problem(away, 503, "database_unavailable")
