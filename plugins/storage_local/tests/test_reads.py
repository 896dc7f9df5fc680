import asyncio
import errno
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from echo_storage_local import open_objects, sending
from echo_storage_local.read_routes import content_disposition
from echo_storage_local.sending import PIECE_BYTES, ObjectResponse
from hypothesis import given
from hypothesis import strategies as st

from echo_core.plugin_api import FetchFile, PutFile, ReadObject, ReadUrl

DATA = os.urandom(3 * PIECE_BYTES + 99)
BIG = 64 * PIECE_BYTES


@pytest.fixture
def put(storage, tmp_path: Path):
    async def put(key: str = "v/a.mp4", data: bytes = DATA, content_type: str = "video/mp4") -> str:
        source = tmp_path / "source"
        source.write_bytes(data)
        await storage.put_file(PutFile(key=key, path=source, content_type=content_type))
        return (await storage.read_url(ReadUrl(key=key, expires_in_s=60))).url

    return put


async def test_uploads_of_users_cannot_act_as_pages_of_ours(http, put) -> None:
    answer = await http.get(await put("a.html", b"<script>alert(1)</script>", "text/html"))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"


async def test_private_caches_may_keep_it_until_the_url_expires(http, put, clock) -> None:
    url = await put()
    clock.advance(20)
    assert (await http.get(url)).headers["cache-control"] == "private, max-age=40"


async def test_several_ranges_get_the_whole(http, put) -> None:
    answer = await http.get(await put(), headers={"range": "bytes=0-1,5-6"})
    assert (answer.status_code, answer.content) == (200, DATA)


async def test_head_ignores_range(http, put) -> None:
    answer = await http.head(await put(), headers={"range": "bytes=0-1"})
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(DATA)))


async def test_conditions(http, put) -> None:
    url = await put()
    etag = (await http.head(url)).headers["etag"]
    assert (await http.get(url, headers={"if-none-match": f'"x", W/{etag}'})).status_code == 304
    assert (await http.get(url, headers={"if-none-match": "*"})).status_code == 304
    assert (await http.get(url, headers={"if-none-match": '"x"'})).status_code == 200
    assert (await http.get(url, headers={"if-match": etag})).status_code == 200
    assert (await http.get(url, headers={"if-match": '"x"'})).status_code == 412
    weak = await http.get(url, headers={"range": "bytes=0-1", "if-range": f"W/{etag}"})
    assert weak.status_code == 200


async def test_errors_are_problem_documents(http, put, storage) -> None:
    url = await put()
    missing = (await storage.read_url(ReadUrl(key="not/there", expires_in_s=60))).url
    cases = [
        (await http.get(missing), 404, "object_not_found"),
        (await http.get(url + "x"), 403, "signed_url_invalid"),
        (await http.get(url, headers={"range": f"bytes={len(DATA)}-"}), 416, "range_not_satisfiable"),
    ]
    for answer, status, code in cases:
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        problem = answer.json()
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem.keys() == {"type", "title", "status", "detail", "code", "remedy", "requestId"}
        assert problem["remedy"]


async def test_expired_url_has_a_code_of_its_own(http, put, clock) -> None:
    url = await put()
    clock.advance(60)
    answer = await http.get(url)
    assert (answer.status_code, answer.json()["code"]) == (403, "signed_url_expired")


@pytest.mark.parametrize(
    "path", ["v%252Fa.mp4", "v//a.mp4", "v/./a.mp4", "v/../v/a.mp4", "v/a.mp4/", "v/%2e%2e/v/a.mp4", "v/a.mp4%00"]
)
async def test_other_spellings_of_the_path_are_refused(served, http, put, path: str) -> None:
    _, query = (await put()).split("?")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.base_url.rpartition(":")[2]))
    writer.write(f"GET /plugins/storage_local/objects/{path}?{query} HTTP/1.1\r\nhost: echo.test\r\n\r\n".encode())
    assert int((await reader.readline()).split()[1]) == 403
    writer.close()
    await writer.wait_closed()


async def test_escaped_slash_is_the_same_path_because_the_decoded_path_is_signed(http, put) -> None:
    url = await put()
    assert (await http.get(url.replace("v/a.mp4", "v%2Fa.mp4"))).status_code == 200


async def test_nginx_can_send_the_file(serve_store, http, tmp_path: Path) -> None:
    async with serve_store(accel_prefix="/_echo/") as served:
        source = tmp_path / "source"
        source.write_bytes(DATA)
        await served.storage.put_file(PutFile(key="v/a.mp4", path=source, content_type="video/mp4"))
        answer = await http.get((await served.storage.read_url(ReadUrl(key="v/a.mp4", expires_in_s=60))).url)
        assert answer.content == b""
        internal = unquote(answer.headers["x-accel-redirect"])
        assert internal.startswith("/_echo/")
        assert (tmp_path / "objects" / internal.removeprefix("/_echo/")).read_bytes() == DATA
        assert answer.headers["content-type"] == "video/mp4"


async def test_object_kept_open_is_forgotten_when_it_is_deleted_or_replaced(http, put, storage, tmp_path: Path) -> None:
    url = await put()
    assert (await http.get(url)).content == DATA
    await storage.fetch_file(FetchFile(key="v/a.mp4", path=tmp_path / "another-link"))
    await storage.delete("v/a.mp4")
    assert (await http.get(url)).status_code == 404
    await put(data=b"other")
    assert (await http.get(url)).content == b"other"


async def test_objects_are_not_kept_open_for_ever(open_store, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(open_objects, "KEPT_S", 0.0)
    async with open_store() as storage:
        (tmp_path / "source").write_bytes(DATA)
        await storage.put_file(PutFile(key="a", path=tmp_path / "source", content_type="video/mp4"))
        (await storage.reading.open("a", None)).close()
        assert len(storage.reading) == 1
        async with asyncio.timeout(10):
            while len(storage.reading):  # noqa: ASYNC110 - a timer gives no sign
                await asyncio.sleep(0)


class Recorder:
    """An ASGI server that a client leaves after ``leaves_after`` body messages."""

    def __init__(self, leaves_after: int | None = None) -> None:
        self.sent: list[bytes] = []
        self._leaves_after = leaves_after

    async def receive(self) -> dict[str, Any]:
        if self._leaves_after is None:
            return {"type": "http.request"}
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.sent.append(bytes(message["body"]))


async def respond(storage, recorder: Recorder, start: int, end: int) -> None:
    opened = await storage.threads.run(storage.objects.open, "v/a.mp4")
    response = ObjectResponse(opened, storage.threads, start=start, end=end, status_code=200, headers={})
    await response({"type": "http", "method": "GET"}, recorder.receive, recorder.send)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened.fd)


async def test_client_that_leaves_ends_the_reading(storage, put) -> None:
    await put(data=bytes(BIG))
    recorder = Recorder(leaves_after=0)
    await respond(storage, recorder, 0, BIG)
    assert len(recorder.sent) < 10


@pytest.mark.parametrize("refusal", [errno.EAGAIN, errno.EOPNOTSUPP, None])
async def test_reads_that_are_not_cached_take_a_thread(storage, put, monkeypatch, refusal: int | None) -> None:
    await put()
    preadv = os.preadv

    def refuse_nowait(fd: int, buffers: list[bytearray], at: int, flags: int = 0) -> int:
        if flags:
            raise OSError(refusal, "not now")
        return preadv(fd, [memoryview(buffers[0])[: len(buffers[0]) // 2 + 1]], at)

    if refusal is None:
        monkeypatch.setattr(sending, "_NOWAIT", None)
    monkeypatch.setattr(os, "preadv", refuse_nowait)
    recorder = Recorder(leaves_after=0)
    await respond(storage, recorder, 5, PIECE_BYTES)
    assert b"".join(recorder.sent) == DATA[5:PIECE_BYTES]


async def test_pieces_are_bounded(storage, put) -> None:
    await put()
    recorder = Recorder(leaves_after=0)
    await respond(storage, recorder, 0, len(DATA))
    assert b"".join(recorder.sent) == DATA
    assert max(map(len, recorder.sent)) == PIECE_BYTES


async def test_read_that_has_begun_outlives_a_delete(storage, put) -> None:
    data = os.urandom((1 << 20) + 5)
    await put(data=data)
    reading = storage.open_read(ReadObject(key="v/a.mp4"))
    first = await anext(reading)
    await storage.delete("v/a.mp4")
    assert first + b"".join([piece async for piece in reading]) == data


async def test_put_and_fetch_link_instead_of_copying(storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    inode = source.stat().st_ino
    await storage.put_file(PutFile(key="a", path=source, content_type="video/mp4"))
    assert not source.exists()
    await storage.fetch_file(FetchFile(key="a", path=tmp_path / "target"))
    assert (tmp_path / "target").stat().st_ino == inode


async def test_put_and_fetch_copy_where_links_do_not_work(storage, tmp_path: Path, monkeypatch) -> None:
    def cannot_link(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", cannot_link)
    source = tmp_path / "source"
    source.write_bytes(DATA)
    await storage.put_file(PutFile(key="a", path=source, content_type="video/mp4"))
    assert source.read_bytes() == DATA
    await storage.fetch_file(FetchFile(key="a", path=tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == DATA


async def test_symbolic_link_as_source_is_copied(storage, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(DATA)
    (tmp_path / "source").symlink_to(tmp_path / "real")
    await storage.put_file(PutFile(key="a", path=tmp_path / "source", content_type="video/mp4"))
    assert (tmp_path / "real").read_bytes() == DATA
    assert b"".join([piece async for piece in storage.open_read(ReadObject(key="a"))]) == DATA


@given(st.text(max_size=80))
def test_any_file_name_makes_a_clean_header(filename: str) -> None:
    header = content_disposition(filename)
    assert re.fullmatch(r"attachment; filename=\"[A-Za-z0-9 ._-]*\"; filename\*=UTF-8''[!-~]*", header)
    assert unquote(header.partition("UTF-8''")[2]) == filename.encode(errors="replace").decode()
