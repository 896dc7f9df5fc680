"""Rate limits as callers meet them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp
from structlog.testing import capture_logs
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from echo_core.adapters.limits import rate_policies_of
from echo_core.adapters.settings import HttpSettings, Settings
from echo_core.application.rate_limiting import RateLimiter, RatePolicy
from echo_core.entrypoints.http.app import PluginRoutes, create_app
from echo_core.entrypoints.http.rate_limits import address_of
from echo_core.plugin_api import RoutesSpec
from tests.fakes.api import OTHER, OWNER, FakeApi, bearer, uploaded

LIST = "/api/v1/videos"


class Alone:
    async def add(self, policy: RatePolicy, taken: Mapping[str, int]) -> Mapping[str, float]:
        return {}


def limiter(**quotas: int) -> RateLimiter:
    names = {"users": "user", "addresses": "address", "failures": "unauthenticated"}
    policies: dict[str, Any] = {
        key: RatePolicy(name=names[key], quota=quota, setting=f"http.{key}") for key, quota in quotas.items()
    }
    return RateLimiter(Alone(), **policies)


def client_at(app: ASGIApp, address: str, headers: Mapping[str, str] | None = None) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, client=(address, 1))
    return httpx2.AsyncClient(transport=transport, base_url="http://echo.test", headers=dict(headers or {}))


async def test_a_user_who_asks_too_often_is_told_when_to_come_back() -> None:
    async with FakeApi().client(rate_limiter=limiter(users=3)) as client:
        answers = [await client.get(LIST) for _ in range(4)]
        somebody_else = await client.get(LIST, headers=bearer(OTHER))
        health = await client.get("/healthz")
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert [a.headers["ratelimit-policy"] for a in answers] == ['"user";q=3;w=60'] * 4
    assert [a.headers["ratelimit"] for a in answers] == [
        '"user";r=2;t=20',
        '"user";r=1;t=40',
        '"user";r=0;t=60',
        '"user";r=0;t=20',
    ]
    refused = answers[3]
    problem = refused.json()
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] == "20"
    assert (problem["code"], problem["status"]) == ("rate_limited", 429)
    assert "http.users" in problem["detail"]
    assert "20 s" in problem["remedy"]
    assert problem["requestId"] == refused.headers["x-request-id"]
    assert (somebody_else.status_code, health.status_code) == (200, 200)


async def test_fields_are_structured_fields() -> None:
    """RFC 9651: a string with integer parameters is all that the draft needs."""
    async with FakeApi().client(rate_limiter=limiter(users=3)) as client:
        headers = (await client.get(LIST)).headers
    assert re.fullmatch(r'"[a-z]+"(;[a-z]+=\d+)+', headers["ratelimit"])
    assert re.fullmatch(r'"[a-z]+"(;[a-z]+=\d+)+', headers["ratelimit-policy"])


async def test_limits_are_readable_from_allowed_origins_even_when_they_are_hit() -> None:
    async with FakeApi().client(rate_limiter=limiter(users=1, addresses=2)) as client:
        answers = [await client.get(LIST, headers={"Origin": "https://app.test"}) for _ in range(3)]
    assert [a.status_code for a in answers] == [200, 429, 429]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "https://app.test"
        assert "RateLimit" in answer.headers["access-control-expose-headers"]
    assert answers[2].headers["ratelimit-policy"] == '"address";q=2;w=60'


async def test_an_address_is_limited_whoever_asks_but_not_its_neighbours() -> None:
    app = create_app(FakeApi().services, rate_limiter=limiter(addresses=2))
    async with client_at(app, "192.0.2.1") as here, client_at(app, "192.0.2.2") as there:
        answers = [await here.get(LIST, headers=bearer(user)) for user in (OWNER, OTHER, OWNER)]
        quiet = [await here.get(path) for path in ("/healthz", "/readyz", "/metrics")]
        elsewhere = await there.get(LIST, headers=bearer(OWNER))
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert [a.status_code for a in quiet] == [200, 200, 200]
    assert elsewhere.status_code == 200


async def test_failed_sign_ins_are_limited_by_address_and_good_tokens_are_let_in_all_the_same() -> None:
    app = create_app(FakeApi().services, rate_limiter=limiter(failures=2))
    async with client_at(app, "192.0.2.1") as here, client_at(app, "192.0.2.2") as there:
        bad = [await here.get(LIST, headers={"Authorization": "Bearer guess"}) for _ in range(3)]
        missing = await here.get(LIST)
        good = await here.get(LIST, headers=bearer(OWNER))
        elsewhere = await there.get(LIST)
    assert [a.status_code for a in bad] == [401, 401, 429]
    assert bad[2].json()["code"] == "rate_limited"
    assert int(bad[2].headers["retry-after"]) > 0
    assert (missing.status_code, good.status_code, elsewhere.status_code) == (429, 200, 401)


async def hello(request: Request) -> Response:
    return Response("hello")


async def test_signed_bytes_are_not_counted_and_other_routes_of_plugins_are() -> None:
    routes = [
        PluginRoutes(plugin="signed", spec=RoutesSpec(routes=[Route("/x", hello)], auth="none")),
        PluginRoutes(plugin="known", spec=RoutesSpec(routes=[Route("/x", hello)])),
    ]
    async with FakeApi().client(plugin_routes=routes, rate_limiter=limiter(addresses=4, users=1)) as client:
        signed = [await client.get("/plugins/signed/x") for _ in range(20)]
        known = [await client.get("/plugins/known/x") for _ in range(2)]
    assert {a.status_code for a in signed} == {200}
    assert [a.status_code for a in known] == [200, 429]


async def test_those_who_watch_do_not_use_up_the_limit_of_the_owner() -> None:
    api = FakeApi()
    app = create_app(api.services, rate_limiter=limiter(users=5))
    async with client_at(app, "192.0.2.1", bearer(OWNER)) as owner:
        video_id, _ = await uploaded(api, owner)
        await api.add_artefact(video_id, "poster", "poster.jpg", content_type="image/jpeg")
        (item,) = (await owner.get(LIST)).json()["items"]
        watched = [await owner.get(item["posterUrl"], headers={"Authorization": ""}) for _ in range(20)]
        still = await owner.get(LIST)
    assert {a.status_code for a in watched} == {302}
    assert still.status_code == 200


async def test_a_policy_with_quota_zero_is_off() -> None:
    off = HttpSettings(user_requests_per_minute=0, address_requests_per_minute=0, address_failures_per_minute=0)
    policies = rate_policies_of(Settings(http=off))
    assert policies == {"users": None, "addresses": None, "failures": None}
    async with FakeApi().client(rate_limiter=RateLimiter(Alone(), **policies)) as client:
        response = await client.get(LIST)
    assert "ratelimit" not in response.headers


def test_the_defaults_are_far_above_a_page_that_polls() -> None:
    policies = rate_policies_of(Settings())
    assert policies["users"] is not None
    # Ten tabs, each asking for its job, its list and its details every second.
    assert policies["users"].quota >= 10 * 3 * 60 * 5
    assert policies["users"].setting == "http.user_requests_per_minute"


# --- whose address --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("evil\r\nhost", "unknown"),
        ("9" * 10_000, "unknown"),
    ],
)
def test_whom_an_address_is_counted_as(host: str, counted_as: str) -> None:
    assert address_of({"type": "http", "client": (host, 1)}) == counted_as
    assert address_of({"type": "http", "client": None}) == "unknown"


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted_as"),
    [
        ("203.0.113.9", "192.0.2.1", "203.0.113.9"),  # not a proxy of ours: its word counts for nothing
        ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.66, 192.0.2.1", "192.0.2.1"),  # the client may write what it likes on the left
        ("10.0.0.1", "198.51.100.66, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("10.0.0.1", "192.0.2.1:4711", "192.0.2.1"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::/64"),
        ("10.0.0.1", "_hidden", "unknown"),
    ],
)
async def test_only_trusted_proxies_say_who_the_client_is(peer: str, forwarded: str, counted_as: str) -> None:
    """The middleware is uvicorn's, as the server starts it."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(address_of(scope))
        await Response()(scope, receive, send)

    trusted = list(HttpSettings(trusted_proxies=("10.0.0.0/8",)).trusted_proxies)
    behind: Any = ProxyHeadersMiddleware(app, trusted_hosts=trusted)
    async with client_at(behind, peer) as client:
        await client.get("/", headers={"X-Forwarded-For": forwarded})
    assert seen == [counted_as]


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.1/8", ""])
def test_a_proxy_is_named_by_address_or_network(proxy: str) -> None:
    with pytest.raises(ValueError, match="address or a network"):
        HttpSettings(trusted_proxies=(proxy,))


async def test_a_proxy_that_nobody_named_is_told_of_once() -> None:
    app = create_app(FakeApi().services, rate_limiter=limiter(addresses=10))
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with client_at(app, "10.0.0.1", {"X-Forwarded-For": "192.0.2.1"}) as client:
            for _ in range(3):
                await client.get("/docs")
    (warning,) = (entry for entry in logs if entry["event"] == "http.proxy_not_trusted")
    assert "http.trusted_proxies" in warning["remedy"]
