"""The web application as browsers get it: files, pages, their policies, and what is none of theirs."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import Message

from echo_core.application.services import SignIn
from echo_core.entrypoints.http.app import create_app
from echo_core.entrypoints.http.web import WebApp, origin_of
from echo_core.entrypoints.http.web_files import load_build
from tests.contract.http.test_rate_limits import client_at, limiter
from tests.fakes.api import LIMITS, FakeApi

PAGE = "<!doctype html><html><head><title>Echo</title><!--echo:head--></head><body><div id=app></div></body></html>"
SCRIPT = "/assets/index-4f2a91.js"
SCRIPT_TEXT = "console.log('echo');" * 50
BROTLI = b"as if compressed"
CSP = "content-security-policy"


@pytest.fixture
def build(tmp_path: Path) -> Path:
    root = tmp_path / "dist"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text(PAGE)
    (root / "favicon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    script = root / SCRIPT.removeprefix("/")
    script.write_text(SCRIPT_TEXT)
    Path(f"{script}.br").write_bytes(BROTLI)
    Path(f"{script}.gz").write_bytes(gzip.compress(SCRIPT_TEXT.encode()))
    (root / "assets" / "font-1.woff2").write_bytes(b"wOF2")
    return root


def web_of(build: Path, **options: Any) -> WebApp:
    return WebApp(load_build(build), **{"public_url": LIMITS.public_url, **options})


@asynccontextmanager
async def browser(build: Path, api: FakeApi | None = None, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with (api or FakeApi()).client(user=None, web=web_of(build, **options)) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/", "/index.html", "/videos/x", "/auth/callback", "/auth", "/apiary", "/a.b/c.d", "/watch", "/watch/a/b"]
)
async def test_every_address_that_is_none_of_the_apis_is_the_page(build: Path, path: str) -> None:
    async with browser(build) as client:
        response = await client.get(path)
        head = await client.head(path)
    assert (response.status_code, response.text) == (200, PAGE)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(PAGE)))


@pytest.mark.parametrize(
    "path", ["/api/v1/nothing", "/api", "/api/", "/auth/v1/user", "/auth/v1", "/ws/nothing", "/plugins/x", "/plugins"]
)
async def test_what_the_api_does_not_know_is_a_problem_and_never_the_page(build: Path, path: str) -> None:
    async with browser(build) as client:
        response = await client.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_without_a_build_nothing_is_a_page() -> None:
    async with FakeApi().client(user=None) as client:
        for path in ("/videos/x", SCRIPT):
            assert (await client.get(path)).json()["code"] == "not_found"


@pytest.mark.parametrize("path", ["/", SCRIPT, "/favicon.svg"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
async def test_pages_and_files_are_only_read(build: Path, method: str, path: str) -> None:
    async with browser(build) as client:
        response = await client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD"


async def test_hashed_files_are_kept_for_ever_and_missing_ones_are_never_the_page(build: Path) -> None:
    async with browser(build) as client:
        script = await client.get(SCRIPT, headers={"Accept-Encoding": "identity"})
        font = await client.get("/assets/font-1.woff2")
        missing = await client.get("/assets/index-000000.js")
        twin = await client.get(f"{SCRIPT}.br")
    assert script.text == SCRIPT_TEXT
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert font.headers["content-type"] == "font/woff2"
    for gone in (missing, twin):
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
        assert gone.headers["cache-control"] == "no-store"


async def test_other_files_are_kept_for_a_while(build: Path) -> None:
    async with browser(build) as client:
        icon = await client.get("/favicon.svg")
    assert icon.headers["cache-control"] == "public, max-age=300"
    assert icon.headers["content-type"] == "image/svg+xml"
    assert "script-src" not in icon.headers[CSP]


@pytest.mark.parametrize("path", ["/", "/videos/x", SCRIPT, "/favicon.svg", "/embed/"])
async def test_what_a_browser_has_is_not_sent_again_and_keeps_its_policy(build: Path, path: str) -> None:
    async with browser(build) as client:
        first = await client.get(path)
        etag = first.headers["etag"]
        for named in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = await client.get(path, headers={"If-None-Match": named})
            assert (again.status_code, again.content) == (304, b"")
            kept = {"etag", "cache-control", CSP, "x-frame-options", "vary", "referrer-policy"}
            assert {n: again.headers.get(n) for n in kept} == {n: first.headers.get(n) for n in kept}
        for other in ('"other"', etag.strip('"'), ""):
            assert (await client.get(path, headers={"If-None-Match": other})).status_code == 200


async def test_a_new_build_has_new_tags(build: Path) -> None:
    async with browser(build) as client:
        before = (await client.get("/")).headers["etag"]
    (build / "index.html").write_text(PAGE.replace("app", "root"))
    async with browser(build) as client:
        response = await client.get("/", headers={"If-None-Match": before})
    assert response.status_code == 200


async def raw(app: Any, path: str, raw_path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What goes over the wire: a client would unpack the body, and tidy the path up."""
    sent: list[Message] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": raw_path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"echo.test"), *((n.encode(), v.encode()) for n, v in headers.items())],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answered = {n.decode(): v.decode() for n, v in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(m.get("body", b"") for m in sent[1:])


@pytest.mark.parametrize(
    ("accepts", "encoding"),
    [("gzip, deflate, br", "br"), ("gzip", "gzip"), ("br;q=0.1, gzip", "gzip"), ("identity", None), ("br;q=0", None)],
)
async def test_files_are_sent_as_the_build_has_compressed_them(build: Path, accepts: str, encoding: str | None) -> None:
    app = create_app(FakeApi().services, web=web_of(build))
    _, headers, body = await raw(app, SCRIPT, SCRIPT, **{"accept-encoding": accepts})
    assert headers.get("content-encoding") == encoding
    assert body == {"br": BROTLI, "gzip": gzip.compress(SCRIPT_TEXT.encode()), None: SCRIPT_TEXT.encode()}[encoding]
    assert headers["content-length"] == str(len(body))
    assert "Accept-Encoding" in headers["vary"]
    assert headers["content-type"] == "text/javascript; charset=utf-8"


async def test_each_encoding_has_a_tag_of_its_own(build: Path) -> None:
    app = create_app(FakeApi().services, web=web_of(build))
    tags = {(await raw(app, SCRIPT, SCRIPT, **{"accept-encoding": e}))[1]["etag"] for e in ("br", "gzip", "identity")}
    assert len(tags) == 3


@pytest.mark.parametrize(
    ("path", "raw_path"),
    [
        ("/../etc/passwd", "/../etc/passwd"),
        ("/assets/../../secret.txt", "/assets/%2e%2e/%2e%2e/secret.txt"),
        ("/assets/../index.html", "/assets/../index.html"),
        ("/..", "/.."),
        ("/./x", "/./x"),
        ("//evil.example/x", "//evil.example/x"),
        ("/a//b", "/a//b"),
        ("@evil.example", "@evil.example"),
        ("*", "*"),
        ("/assets/index-4f2a91.js", "/assets%2findex-4f2a91.js"),
        ("/a/b", "/a%2Fb"),
        ("/a\\b", "/a%5cb"),
        ("/x\0.js", "/x%00.js"),
        ("/x\nSet-Cookie: a=b", "/x%0aSet-Cookie:%20a=b"),
    ],
)
async def test_paths_that_no_link_of_ours_says_are_nothing(build: Path, path: str, raw_path: str) -> None:
    (build.parent / "secret.txt").write_text("secret")
    status, headers, body = await raw(create_app(FakeApi().services, web=web_of(build)), path, raw_path)
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert b"secret" not in body


def directives(response: httpx2.Response) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in response.headers[CSP].split(";"))


async def test_a_page_runs_and_talks_to_nothing_but_what_it_needs(build: Path) -> None:
    options = {
        "public_url": "https://video.example",
        "auth_url": "https://abc.supabase.co",
        "storage_origins": ["https://storage.example"],
    }
    async with browser(build, **options) as client:
        response = await client.get("/videos")
    assert directives(response) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob: https://video.example https://storage.example",
        "media-src": "'self' blob: https://video.example https://storage.example",
        "connect-src": (
            "'self' https://video.example wss://video.example https://abc.supabase.co https://storage.example"
        ),
        "worker-src": "'self' blob:",
        "font-src": "'self'",
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert response.headers["referrer-policy"] == "strict-origin-when-cross-origin"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "camera=()" in response.headers["permissions-policy"]


@pytest.mark.parametrize(
    ("public_url", "told"),
    [("https://video.example", True), ("http://[::1]:8000", True), ("http://echo.lan:8000", False)],
)
async def test_browsers_are_told_only_what_they_take_over_that_connection(
    build: Path, public_url: str, told: bool
) -> None:
    async with browser(build, public_url=public_url) as client:
        page = await client.get("/")
    assert ("cross-origin-opener-policy" in page.headers) is told


async def test_pages_to_embed_can_be_framed_by_anybody_and_no_others_can(build: Path) -> None:
    async with browser(build) as client:
        embed = await client.get("/embed/0198f3c2-7b1e-7c3a-9d52-1f0e6a4b8c21")
        others = [await client.get(path) for path in ("/embedded", "/embed", "/watch/x", "/")]
    assert directives(embed)["frame-ancestors"] == "*"
    assert directives(embed)["script-src"] == "'self'"
    assert "x-frame-options" not in embed.headers
    assert embed.headers["cross-origin-resource-policy"] == "cross-origin"
    for other in others:
        assert directives(other)["frame-ancestors"] == "'none'"
        assert other.headers["x-frame-options"] == "DENY"


LOCAL = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("public_url", "host", "headers", "redirected"),
    [
        (LOCAL, "localhost:8000", {}, True),
        (LOCAL, "[::1]:8000", {}, True),
        (LOCAL, "LOCALHOST:8000", {}, True),
        ("http://localhost:8000", "127.0.0.1:8000", {}, True),
        ("http://localhost", "127.0.0.1", {}, True),
        (LOCAL, "127.0.0.1:8000", {}, False),
        (LOCAL, "localhost:5173", {}, False),
        (LOCAL, "localhost", {}, False),
        (LOCAL, "localhost:99999", {}, False),
        (LOCAL, "[:::]:8000", {}, False),
        (LOCAL, "video.example:8000", {}, False),
        (LOCAL, "localhost.evil.example:8000", {}, False),
        ("https://video.example", "localhost:8000", {}, False),
        # A proxy that talks to Echo by another of its names would turn in a circle.
        (LOCAL, "localhost:8000", {"X-Forwarded-For": "127.0.0.1"}, False),
        (LOCAL, "localhost:8000", {"Via": "1.1 proxy"}, False),
    ],
)
async def test_another_name_of_this_machine_leads_to_the_public_address(
    build: Path, public_url: str, host: str, headers: dict[str, str], redirected: bool
) -> None:
    api = FakeApi(limits=replace(LIMITS, public_url=public_url))
    async with browser(build, api, public_url=public_url) as client:
        asked = {"Host": host, **headers}
        page = await client.get("/videos/a%20b?tab=x&y=%2F", headers=asked)
        script = await client.get(SCRIPT, headers=asked)
        instance = await client.get("/api/v1/instance", headers=asked)
    assert (script.status_code, instance.status_code) == (200, 200)
    if redirected:
        assert page.status_code == 307
        assert page.headers["location"] == f"{public_url}/videos/a%20b?tab=x&y=%2F"
        assert page.headers["cache-control"] == "no-store"
    else:
        assert page.status_code == 200


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://video.example/echo", "https://video.example"),
        ("https://VIDEO.example:443", "https://video.example"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/x", "http://[::1]:8000"),
        ("https://user:secret@video.example", "https://video.example"),
    ],
)
def test_origins_are_as_browsers_write_them(url: str, origin: str) -> None:
    assert origin_of(url) == origin


async def test_files_of_the_page_do_not_count_for_the_limit_of_an_address(build: Path) -> None:
    app = create_app(FakeApi().services, web=web_of(build), rate_limiter=limiter(addresses=2))
    async with client_at(app, "192.0.2.1") as client:
        files = [(await client.get(SCRIPT)).status_code for _ in range(5)]
        pages = [(await client.get("/")).status_code for _ in range(3)]
    assert (files, pages) == ([200] * 5, [200, 200, 429])


async def test_the_instance_says_what_a_front_end_needs_without_a_token() -> None:
    api = FakeApi(sign_in=SignIn(url="https://abc.supabase.co", key="sb_publishable_x"))
    async with api.client(user=None) as client:
        response = await client.get("/api/v1/instance")
    body = response.json()
    assert response.headers["cache-control"] == "no-cache"
    assert body.pop("version")
    assert body == {
        "name": "Echo",
        "publicUrl": "http://echo.test",
        "auth": {"url": "https://abc.supabase.co", "key": "sb_publishable_x"},
        "upload": {"maxSizeBytes": 1 << 20, "expiresInSeconds": 3600},
        "ai": {
            "transcribe": [],
            "describe": [],
            "translate": [],
            "embed": [],
            "translateTo": [],
            "acceptSuggestions": True,
        },
    }


async def test_an_instance_without_users_says_so() -> None:
    async with FakeApi().client(user=None) as client:
        assert (await client.get("/api/v1/instance")).json()["auth"] == {"url": None, "key": ""}
