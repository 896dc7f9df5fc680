"""What browsers are told: CORS by exact origin, and headers that keep answers from being anything but data."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest

from echo_core.adapters.settings import HttpSettings
from echo_core.entrypoints.http.api import KERNEL_OPERATIONS
from tests.contract.http.test_errors import path
from tests.fakes.api import LIMITS, OWNER, FakeApi, bearer, uploaded

HOSTILE_ORIGINS = [
    "null",
    "https://evil.test",
    "http://app.test",
    "https://app.test.evil.test",
    "https://evilapp.test",
    "https://app.test:444",
    "https://app.test@evil.test",
    "https://app.test/",
    "HTTPS://APP.TEST",
    "https://app.test, https://evil.test",
    "https://app.test\u00a0",
    "",
    "file://",
]


def preflight(origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization",
    }


@pytest.mark.parametrize("origin", HOSTILE_ORIGINS)
async def test_no_origin_but_the_listed_ones_is_let_in(origin: str) -> None:
    raw = origin.encode("latin-1")
    async with FakeApi().client() as client:
        asked = await client.get("/api/v1/videos", headers={"Origin": raw})
        refused = await client.options(
            "/api/v1/videos", headers=[(k, raw if k == "Origin" else v) for k, v in preflight("x").items()]
        )
    for response in (asked, refused):
        assert "access-control-allow-origin" not in response.headers
        assert "access-control-allow-credentials" not in response.headers
    assert refused.status_code == 400


async def test_a_listed_origin_is_let_in_without_credentials() -> None:
    async with FakeApi().client() as client:
        for response in (
            await client.get("/api/v1/videos", headers={"Origin": "https://app.test"}),
            await client.options("/api/v1/videos", headers=preflight("https://app.test")),
        ):
            assert response.headers["access-control-allow-origin"] == "https://app.test"
            assert "access-control-allow-credentials" not in response.headers


async def test_a_star_lets_everybody_in_and_nobody_with_credentials() -> None:
    async with FakeApi(limits=replace(LIMITS, cors_origins=("*",))).client() as client:
        for origin in ("https://evil.test", "null"):
            response = await client.get("/api/v1/videos", headers={"Origin": origin})
            assert response.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize("origins", [("https://app.test",), ("*",)])
async def test_a_cache_never_gives_one_origins_answer_to_another(origins: tuple[str, ...]) -> None:
    """A poster that an ``<img>`` has loaded, without an Origin, must not be what a script is given."""
    async with FakeApi(limits=replace(LIMITS, cors_origins=origins)).client() as client:
        for headers in ({}, {"Origin": "https://app.test"}, {"Origin": "https://evil.test"}):
            response = await client.get("/openapi.json", headers=headers)
            allowed = response.headers.get("access-control-allow-origin")
            assert allowed == "*" or "Origin" in response.headers.get("vary", "")


@pytest.mark.parametrize("origin", ["null", "app.test", "https://app.test/", "https://*.app.test/x", "javascript:x"])
def test_what_is_no_origin_cannot_be_listed(origin: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        HttpSettings(cors_origins=(origin,))


async def answers() -> list[httpx2.Response]:
    """One of every operation, and of what is none."""
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await api.add_rendition(video_id)
        await api.add_artefact(video_id, "poster", "poster.jpg", content_type="image/jpeg")
        made = [
            await client.request(o.method, path(o, str(video_id)), json={} if o.body else None)
            for o in KERNEL_OPERATIONS
            if o.method != "DELETE"
        ]
        return [*made, await client.get("/nothing"), await client.request("BREW", "/api/v1/videos")]


async def test_no_answer_can_be_sniffed_framed_run_or_tells_its_address_and_none_sets_a_cookie() -> None:
    for response in await answers():
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in response.headers
        assert "server" not in response.headers


async def test_only_what_players_and_pictures_load_may_be_embedded_elsewhere() -> None:
    embeddable = {r.url.path for r in await answers() if "cross-origin" in r.headers["cross-origin-resource-policy"]}
    assert {p.rpartition("/")[2] for p in embeddable} >= {"master.m3u8", "poster.jpg"}
    assert all(p.startswith("/api/v1/stream/video/") for p in embeddable)


async def test_the_page_for_people_runs_nothing() -> None:
    async with FakeApi().client(user=None) as client:
        response = await client.get("/docs")
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert "<script" not in response.text


async def test_a_page_elsewhere_cannot_act_in_a_users_name() -> None:
    """Nothing but the Authorization header says who asks, and a page elsewhere cannot send that without a preflight."""
    async with FakeApi().client(user=None) as client:
        form = {"Content-Type": "text/plain", "Origin": "https://evil.test", "Cookie": f"token=user:{OWNER.id}"}
        posted = await client.post("/api/v1/videos/signed-upload-url", content=b"{}", headers=form)
        in_query = await client.get(f"/api/v1/videos?token=user:{OWNER.id}")
        simple = await client.post(
            "/api/v1/videos/signed-upload-url", content=b"{}", headers={"Content-Type": "text/plain"} | bearer(OWNER)
        )
    assert (posted.status_code, in_query.status_code, simple.status_code) == (401, 401, 415)
