"""Signed URLs of the local storage over HTTP: nothing but what was signed, the way it was signed, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from echo_core.plugin_api import BeginUpload, NotFoundError, ReadObject, ReadUrl
from tests.security.conftest import ALICE, BOB, World

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

ACCEPTED = {200, 201, 206, 304, 308, 416, 499}
"""What only a good signature is answered with."""
BYTES = b"the bytes that were agreed on"


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


async def ask(
    world: World, method: str, target: str, *, body: list[bytes] | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request whose path and query go to the server as they are: a client would tidy them up."""
    raw_path, _, query = target.partition("?")
    answer, pieces = Answer(), list(body or [])
    fields = {"host": "echo.test", **(headers or {})}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(errors="replace"),
        "query_string": query.encode(errors="replace"),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        "client": ("192.0.2.1", 1),
        "server": ("echo.test", 80),
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        assert body is not None, "the body was read before the signature"
        return {"type": "http.request", "body": pieces.pop(0) if pieces else b"", "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await world.app(scope, receive, send)
    return answer


def meaning(target: str) -> tuple[str, list[tuple[str, str]]]:
    """What a server understands; two spellings of it are one URL."""
    path, _, query = target.partition("?")
    return unquote(path), sorted(parse_qsl(query, keep_blank_values=True))


def relative(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


@dataclass(frozen=True)
class Urls:
    """URLs of two videos, whose uploads are not complete, and of their finished neighbours."""

    read: str
    read_of_another: str
    upload: str
    upload_of_another: str
    upload_key: str

    @property
    def kinds(self) -> dict[str, tuple[str, str]]:
        """By kind: the URL, and one like it that is for something else."""
        return {"read": (self.read, self.read_of_another), "upload": (self.upload, self.upload_of_another)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(world: World) -> AsyncIterator[Urls]:
    mine, other = await world.make(ALICE), await world.make(BOB)
    reads = []
    for made in (mine, other):
        request = ReadUrl(
            key=made.keys[0],
            expires_in_s=600,
            generation=(await world.storage.stat(made.keys[0])).generation,
            content_type="video/mp4",
            filename="a b&c=d.mp4",
        )
        reads.append(relative((await world.storage.read_url(request)).url))
    uploads = []
    for name in ("mine", "other"):
        begin = BeginUpload(
            key=f"videos/{name}/source/a.mp4",
            content_type="video/mp4",
            size_bytes=len(BYTES),
            max_size_bytes=len(BYTES),
        )
        uploads.append(relative((await world.storage.begin_upload(begin)).url))
    yield Urls(reads[0], reads[1], uploads[0], uploads[1], "videos/mine/source/a.mp4")


async def accepted(world: World, target: str, kind: str) -> bool:
    if kind == "read":
        return (await ask(world, "GET", target)).status in ACCEPTED
    asked = {"content-range": "bytes */*", "content-length": "0"}
    return (await ask(world, "PUT", target, body=[], headers=asked)).status in ACCEPTED


@pytest.mark.parametrize("kind", ["read", "upload"])
async def test_what_was_signed_is_accepted_in_every_spelling(world: World, urls: Urls, kind: str) -> None:
    target = urls.kinds[kind][0]
    path, _, query = target.partition("?")
    shuffled = "&".join(reversed(query.split("&")))
    spelled = path[:-2] + "".join(f"%{ord(letter):02x}" for letter in path[-2:])
    for same in (target, f"{path}?{shuffled}", f"{spelled}?{query}"):
        assert await accepted(world, same, kind)


@pytest.mark.parametrize("kind", ["read", "upload"])
async def test_every_field_counts(world: World, urls: Urls, kind: str) -> None:
    target, other = urls.kinds[kind]
    path, _, query = target.partition("?")
    fields = dict(parse_qsl(query, keep_blank_values=True))
    theirs = dict(parse_qsl(other.partition("?")[2], keep_blank_values=True))
    assert {"expires", "signature", "type"} <= set(fields)
    assert ("size" in fields, "generation" in fields) == (kind == "upload", kind == "read")
    changed: list[dict[str, str]] = []
    for name, value in fields.items():
        changed += [{**fields, name: value + "0"}, {**fields, name: ""}, {**fields, name: value[:-1]}]
        changed += [{**fields, name: value.swapcase() + " "}, {n: v for n, v in fields.items() if n != name}]
        changed += [{n: v for n, v in fields.items() if n != name} | {name.upper(): value}]
        if theirs.get(name) != value:
            changed.append({**fields, name: theirs[name]})
    for delta in (-1, 1, 3600):
        changed.append({**fields, "expires": str(int(fields["expires"]) + delta)})
    changed += [{**fields, "extra": "1"}, {**fields, "type": "text/html"}, {**fields, "size": "99999999"}]
    for case in changed:
        assert not await accepted(world, f"{path}?{urlencode(case)}", kind), case
    for name, value in fields.items():
        for twice in (f"{query}&{urlencode({name: value})}", f"{urlencode({name: 'x'})}&{query}"):
            assert not await accepted(world, f"{path}?{twice}", kind), name
    assert not await accepted(world, f"{path}?{query.replace('&', ';')}", kind)
    assert not await accepted(world, path, kind)


@pytest.mark.parametrize("kind", ["read", "upload"])
async def test_the_path_counts(world: World, urls: Urls, kind: str) -> None:
    target, other = urls.kinds[kind]
    path, _, query = target.partition("?")
    head, _, name = path.rpartition("/")
    paths = [
        other.partition("?")[0],
        path + "/",
        path + "%00",
        path.upper(),
        f"{head}/./{name}",
        f"{head}/x/../{name}",
        f"{head}//{name}",
        f"{head}/{name}%20",
        path.replace("/videos/", "/videos%252f"),
        quote(path, safe="/").replace("videos", "%2576ideos"),
        f"{head}\\{name}",
    ]
    if kind == "upload":
        paths.append(path.replace("/uploads/", "/objects/"))
    for changed in paths:
        assert not await accepted(world, f"{changed}?{query}", kind), changed


@pytest.mark.parametrize("kind", ["read", "upload"])
async def test_a_signature_is_for_its_own_kind_and_methods(world: World, urls: Urls, kind: str) -> None:
    target = urls.kinds[kind][0]
    good = {"read": {"GET", "HEAD"}, "upload": {"PUT", "POST", "DELETE"}}[kind]
    for method in {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "MOVE"} - good:
        assert (await ask(world, method, target, body=[BYTES])).status == 405, method
    path, _, query = target.partition("?")
    crossed = urls.kinds["upload" if kind == "read" else "read"][0].partition("?")[0]
    assert not await accepted(world, f"{crossed}?{query}", "upload" if kind == "read" else "read")
    assert path.startswith("/plugins/storage_local/")


LETTERS = st.sampled_from("aAzZ09-_=&?%/.+;# \x00\xff")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(kind=st.sampled_from(["read", "upload"]), data=st.data())
async def test_no_changed_url_is_accepted(world: World, urls: Urls, kind: str, data: st.DataObject) -> None:
    target = urls.kinds[kind][0]
    changed = target
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(len("/plugins/storage_local/"), len(changed)))
        until = at + data.draw(st.integers(0, 2))
        changed = changed[:at] + data.draw(st.text(LETTERS, max_size=3)) + changed[until:]
    assume(meaning(changed.partition("#")[0]) != meaning(target))
    assert not await accepted(world, changed, kind)


async def test_a_bad_signature_is_refused_before_the_body_and_tells_nothing(world: World, urls: Urls) -> None:
    bodies = []
    for target in (urls.read, urls.upload):
        path, _, query = target.partition("?")
        method = "GET" if target is urls.read else "PUT"
        for where in (path, path.replace("videos", "nothing")):
            answer = await ask(world, method, f"{where}?{query}x")
            assert answer.status == 403
            bodies.append(answer.body.partition(b'"requestId"')[0])
    assert len(set(bodies)) == 1


async def test_reads_cannot_become_pages_of_our_origin(world: World, urls: Urls) -> None:
    answer = await ask(world, "GET", urls.read)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["content-type"] == "video/mp4"


async def begin(world: World, key: str) -> str:
    request = BeginUpload(key=key, content_type="video/mp4", size_bytes=len(BYTES), max_size_bytes=len(BYTES))
    return relative((await world.storage.begin_upload(request)).url)


async def stored(world: World, key: str) -> bytes | None:
    try:
        return b"".join([piece async for piece in world.storage.open_read(ReadObject(key=key))])
    except NotFoundError:
        return None


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-length": "30"}, [BYTES, b"x"]),
        ({}, [BYTES, b"x"]),
        ({}, [BYTES * 1000]),
        ({"content-range": "bytes 0-29/30", "content-length": "30"}, [BYTES + b"x"]),
        ({"content-range": "bytes 0-28/30", "content-length": "29"}, [BYTES]),
        ({"content-range": "bytes 0-28/*", "content-length": "29"}, [BYTES, b"x"]),
        ({"content-range": "bytes 0-9999999999999999999999/9999999999999999999999"}, [BYTES]),
        ({"content-range": "bytes 5-33/29", "content-length": "29"}, [BYTES]),
        ({"content-length": "28"}, [BYTES[:-1]]),
    ],
    ids=range(9),
)
async def test_bytes_beyond_what_was_signed_are_not_stored(
    world: World, request: pytest.FixtureRequest, headers: dict[str, str], body: list[bytes]
) -> None:
    key = f"videos/long-{request.node.callspec.id}/a.mp4"
    target = await begin(world, key)
    answer = await ask(world, "PUT", target, body=body, headers=headers)
    assert answer.status in {400, 413, 503}
    assert await stored(world, key) is None


async def test_an_object_is_written_once(world: World) -> None:
    key = "videos/once/a.mp4"
    target = await begin(world, key)
    html = {"content-type": "text/html"}
    assert (await ask(world, "PUT", target, body=[BYTES], headers=html)).status == 200
    assert (await world.storage.stat(key)).content_type == "video/mp4"
    generation = (await world.storage.stat(key)).generation
    for body in (BYTES[::-1], b"", BYTES * 2):
        await ask(world, "PUT", target, body=[body])
    await ask(world, "DELETE", target, body=[])
    assert await stored(world, key) == BYTES
    assert (await world.storage.stat(key)).generation == generation


async def test_an_upload_that_was_given_up_stays_so(world: World) -> None:
    target = await begin(world, "videos/given-up/a.mp4")
    assert (await ask(world, "DELETE", target, body=[])).status == 499
    assert (await ask(world, "PUT", target, body=[BYTES])).status == 410
    assert await stored(world, "videos/given-up/a.mp4") is None
