"""What can go wrong while bytes arrive. Long, because one protocol's cases are looked up in one place."""

import asyncio
import base64
import errno
import os
import random
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import google_crc32c
import pytest
from echo_storage_local import uploads
from echo_storage_local.holds import Hold
from echo_storage_local.receiving import BATCH_BYTES, BodyReceiver, Ending
from echo_storage_local.uploads import Mark, OpenUpload

from echo_core.plugin_api import (
    BeginUpload,
    InsufficientStorageError,
    NotFoundError,
    ReadObject,
    ReadUrl,
    ResumeUpload,
    UploadRef,
    UploadTicket,
)

MIB = 1 << 20
DATA = random.Random(1).randbytes(3 * MIB + 777)  # noqa: S311 - the same in every process that collects


async def begin(storage, size: int | None = len(DATA), **more: Any) -> UploadTicket:
    return await storage.begin_upload(BeginUpload(key="v/a", content_type="video/mp4", size_bytes=size, **more))


async def read_all(storage, key: str = "v/a") -> bytes:
    return b"".join([piece async for piece in storage.open_read(ReadObject(key=key))])


async def offset(storage, ticket: UploadTicket) -> int:
    return (await storage.upload_offset(UploadRef(key="v/a", state=ticket.state))).offset_bytes


def content_range(start: int, end: int, total: int | str = len(DATA)) -> dict[str, str]:
    return {"content-range": f"bytes {start}-{end - 1}/{total}"}


class Sender:
    """A connection whose body the test sends piece by piece."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def put(cls, url: str, length: int, headers: dict[str, str] | None = None) -> "Sender":
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        lines = {"host": "echo.test", "content-length": str(length), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"PUT {parts.path}?{parts.query} HTTP/1.1\r\n{head}\r\n".encode())
        return cls(reader, writer)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int:
        return int((await self._reader.readline()).split()[1])

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def until_receiving(storage, ticket: UploadTicket) -> None:
    """Wait until a request waits for bytes of this upload."""
    async with asyncio.timeout(10):
        while getattr(storage.holds.peek(ticket.state), "deadline", None) is None:  # noqa: ASYNC110 - there is no sign
            await asyncio.sleep(0)


@pytest.mark.matrix(13)
async def test_bytes_of_a_broken_connection_are_kept(storage, http) -> None:
    ticket = await begin(storage)
    sender = await Sender.put(ticket.url, len(DATA))
    await sender.send(DATA[: 2 * MIB + 5])
    await sender.close()
    answer = await http.put(ticket.url, headers={"content-range": "bytes */*"})
    assert answer.status_code == 308
    kept = int(answer.headers["range"].removeprefix("bytes=0-")) + 1
    assert 0 < kept <= 2 * MIB + 5
    answer = await http.put(ticket.url, content=DATA[kept:], headers=content_range(kept, len(DATA)))
    assert answer.status_code == 200
    assert await read_all(storage) == DATA


async def test_newer_request_takes_over_and_the_older_keeps_its_bytes(storage, http) -> None:
    ticket = await begin(storage)
    older = await Sender.put(ticket.url, len(DATA))
    await older.send(DATA[:MIB])
    await until_receiving(storage, ticket)
    answer = await http.put(ticket.url, content=DATA, headers=content_range(0, len(DATA)))
    assert answer.status_code == 200
    assert await older.status() == 409
    await older.close()
    assert await read_all(storage) == DATA


@pytest.mark.matrix(12)
async def test_many_requests_at_once_store_the_bytes_once(storage, http) -> None:
    ticket = await begin(storage)
    sends = (http.put(ticket.url, content=DATA, headers=content_range(0, len(DATA))) for _ in range(8))
    statuses = {answer.status_code for answer in await asyncio.gather(*sends)}
    assert 200 in statuses
    assert statuses <= {200, 409}
    assert await read_all(storage) == DATA


async def test_silent_client_is_sent_away_and_its_bytes_are_kept(serve_store, http) -> None:
    async with serve_store(idle_timeout_s=0.05) as served:
        ticket = await begin(served.storage)
        sender = await Sender.put(ticket.url, len(DATA))
        await sender.send(DATA[:MIB])
        assert await sender.status() == 408
        await sender.close()
        kept = await offset(served.storage, ticket)
        answer = await http.put(ticket.url, content=DATA[kept:], headers=content_range(kept, len(DATA)))
        assert answer.status_code == 200
        assert await read_all(served.storage) == DATA


async def test_abort_ends_the_request_that_is_sending(storage, http) -> None:
    ticket = await begin(storage)
    sender = await Sender.put(ticket.url, len(DATA))
    await sender.send(DATA[:MIB])
    await until_receiving(storage, ticket)
    await storage.abort_upload(UploadRef(key="v/a", state=ticket.state))
    assert await sender.status() == 409
    await sender.close()
    with pytest.raises(NotFoundError):
        await offset(storage, ticket)


async def test_another_process_at_the_same_upload_is_told_to_come_back(storage, http) -> None:
    ticket = await begin(storage)
    held = await storage.threads.run(storage.uploads.open, ticket.state)
    try:
        answer = await http.put(ticket.url, content=DATA, headers=content_range(0, len(DATA)))
        assert (answer.status_code, answer.json()["code"]) == (503, "upload_busy")
        assert answer.headers["retry-after"] == "1"
    finally:
        held.close()
    assert (await http.put(ticket.url, content=DATA)).status_code == 200


async def test_upload_goes_on_in_the_next_process_with_the_right_checksum(serve_store, http) -> None:
    async with serve_store() as served:
        ticket = await begin(served.storage)
        await http.put(ticket.url, content=DATA[:MIB], headers=content_range(0, MIB))
    async with serve_store() as served:
        resume = ResumeUpload(key="v/a", state=ticket.state, content_type="video/mp4", size_bytes=len(DATA))
        fresh = await served.storage.resume_upload(resume)
        assert await offset(served.storage, fresh) == MIB
        answer = await http.put(fresh.url, content=DATA[MIB:], headers=content_range(MIB, len(DATA)))
        crc32c = google_crc32c.value(DATA)
        assert answer.json()["crc32c"] == base64.b64encode(crc32c.to_bytes(4, "big")).decode()
        assert (await served.storage.stat("v/a")).checksum == f"crc32c:{crc32c:08x}"
        assert await read_all(served.storage) == DATA


async def test_bytes_that_were_never_vouched_for_do_not_count(served, storage, http) -> None:
    ticket = await begin(storage)
    await http.put(ticket.url, content=DATA[:MIB], headers=content_range(0, MIB))
    data = served.data_dir / "objects" / "uploads" / ticket.state / "object" / "data"
    with data.open("ab") as file:
        file.write(b"written by a process that was killed before it could sync" * 100_000)
    assert await offset(storage, ticket) == MIB
    answer = await http.put(ticket.url, content=DATA[MIB:], headers=content_range(MIB, len(DATA)))
    assert answer.status_code == 200
    assert (served.data_dir / "objects" / "objects" / "v" / "a@" / "data").read_bytes() == DATA


@pytest.mark.parametrize("damage", [b"", b"\0" * 128, b"nonsense"])
async def test_damaged_mark_only_costs_the_bytes(served, storage, http, damage: bytes) -> None:
    ticket = await begin(storage)
    await http.put(ticket.url, content=DATA[:MIB], headers=content_range(0, MIB))
    (served.data_dir / "objects" / "uploads" / ticket.state / "mark").write_bytes(damage)
    assert await offset(storage, ticket) == 0
    assert (await http.put(ticket.url, content=DATA)).status_code == 200
    assert await read_all(storage) == DATA


async def test_commit_that_was_killed_half_way_can_be_repeated(served, storage, http) -> None:
    ticket = await begin(storage)
    folder = served.data_dir / "objects" / "uploads" / ticket.state / "object"
    (folder / "meta.json").write_text("{")
    assert (await http.put(ticket.url, content=DATA)).status_code == 200
    assert (await storage.stat("v/a")).size_bytes == len(DATA)


async def test_upload_whose_last_byte_came_and_whose_end_did_not_is_ended_by_asking(storage, http) -> None:
    ticket = await begin(storage)
    killed = storage.uploads.open(ticket.state)
    killed.write([DATA])
    killed.sync(storage.uploads.now_s())
    killed.close()
    assert await offset(storage, ticket) == len(DATA)
    answer = await http.put(ticket.url, headers={"content-range": f"bytes */{len(DATA)}"})
    assert answer.status_code == 200
    assert await read_all(storage) == DATA


async def test_what_does_not_fit_is_refused_before_a_byte_is_read(serve_store, http) -> None:
    async with serve_store() as served:
        ticket = await begin(served.storage, None)
    async with serve_store(min_free_bytes=1 << 60) as served:
        url = ticket.url.replace(urlsplit(ticket.url).netloc, urlsplit(served.base_url).netloc)
        sender = await Sender.put(url, len(DATA))
        assert await sender.status() == 507
        await sender.close()
        assert await offset(served.storage, ticket) == 0
        with pytest.raises(InsufficientStorageError):
            await served.storage.begin_upload(BeginUpload(key="b", content_type="video/mp4", size_bytes=1))


async def test_two_uploads_are_not_both_let_into_the_same_room(storage, http) -> None:
    free = (await storage.usage()).free_bytes
    ticket = await storage.begin_upload(BeginUpload(key="v/a", content_type="video/mp4", size_bytes=free // 2))
    headers = {"content-range": f"bytes 0-{MIB - 1}/{free // 2}"}
    assert (await http.put(ticket.url, content=DATA[:MIB], headers=headers)).status_code == 308
    with pytest.raises(InsufficientStorageError):
        await storage.begin_upload(BeginUpload(key="v/b", content_type="video/mp4", size_bytes=free * 2 // 3))
    await storage.abort_upload(UploadRef(key="v/a", state=ticket.state))
    await storage.begin_upload(BeginUpload(key="v/b", content_type="video/mp4", size_bytes=free * 2 // 3))


@pytest.mark.matrix(9)
async def test_full_disk_in_the_middle_answers_507_and_keeps_what_fitted(storage, http, monkeypatch) -> None:
    ticket = await begin(storage)
    write, left = os.pwritev, 2 * MIB

    def write_while_there_is_room(fd: int, pieces: list[bytes], at: int) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(fd, pieces, at)
        left -= written
        return written

    monkeypatch.setattr(uploads.os, "pwritev", write_while_there_is_room)
    answer = await http.put(ticket.url, content=DATA)
    assert (answer.status_code, answer.json()["code"]) == (507, "insufficient_storage")
    assert answer.json()["remedy"]
    kept = await offset(storage, ticket)
    assert 0 < kept < len(DATA)
    left = len(DATA)
    answer = await http.put(ticket.url, content=DATA[kept:], headers=content_range(kept, len(DATA)))
    assert answer.status_code == 200
    assert await read_all(storage) == DATA


@pytest.fixture
async def opened(storage) -> AsyncIterator[OpenUpload]:
    ticket = await begin(storage, None)
    opened = await storage.threads.run(storage.uploads.open, ticket.state)
    yield opened
    opened.close()


def fail_once(number: int) -> Callable[..., None]:
    failures = [OSError(number, os.strerror(number))]

    def call(*args: object) -> None:
        if failures:
            raise failures.pop()

    return call


async def test_nothing_is_written_behind_a_piece_that_failed(opened, monkeypatch) -> None:
    opened.write([b"first"])
    with monkeypatch.context() as patch:
        patch.setattr(uploads.os, "pwritev", fail_once(errno.ENOSPC))
        with pytest.raises(OSError, match="space"):
            opened.write([b"second"])
    with pytest.raises(OSError, match="space"):
        opened.write([b"third"])
    opened.sync(0)
    assert (opened.mark.offset_bytes, opened.mark.crc32c) == (5, google_crc32c.value(b"first"))


async def test_disk_that_lost_pages_is_not_believed_the_second_time(opened, monkeypatch) -> None:
    opened.write([b"first"])
    monkeypatch.setattr(uploads, "_sync_data", fail_once(errno.EIO))
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            opened.sync(0)
    assert opened.mark.offset_bytes == 0


async def test_disk_that_fails_is_reported_and_nothing_is_promised(storage, http, monkeypatch) -> None:
    ticket = await begin(storage)
    monkeypatch.setattr(uploads, "_sync_data", fail_once(errno.EIO))
    answer = await http.put(ticket.url, content=DATA[:MIB], headers=content_range(0, MIB))
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")
    assert await offset(storage, ticket) == 0


@pytest.mark.parametrize(("crc32c", "status"), [(google_crc32c.value(DATA), 200), (1, 400)])
async def test_checksum_that_the_client_sends_is_verified(storage, http, crc32c: int, status: int) -> None:
    ticket = await begin(storage)
    value = base64.b64encode(crc32c.to_bytes(4, "big")).decode()
    answer = await http.put(ticket.url, content=DATA, headers={"x-goog-hash": f"md5=AAAA,crc32c={value}"})
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["code"] == "checksum_mismatch"
        with pytest.raises(NotFoundError):
            await storage.stat("v/a")


async def test_body_of_unknown_length_that_grows_too_long_is_not_stored(storage, http) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield DATA[:MIB]

    ticket = await begin(storage, None, max_size_bytes=2 * MIB)
    answer = await http.put(ticket.url, content=endless())
    assert (answer.status_code, answer.json()["code"]) == (400, "body_too_long")
    assert await offset(storage, ticket) == 0
    answer = await http.put(ticket.url, content=DATA[: 2 * MIB])
    assert answer.status_code == 200


async def test_total_once_said_is_binding(storage, http) -> None:
    ticket = await begin(storage, None)
    await http.put(ticket.url, content=DATA[:MIB], headers=content_range(0, MIB))
    answer = await http.put(ticket.url, content=DATA[MIB : 2 * MIB], headers=content_range(MIB, 2 * MIB, 2 * MIB))
    assert (answer.status_code, answer.json()["code"]) == (400, "size_mismatch")


async def test_chunks_need_not_be_multiples_of_256_kib(storage, http) -> None:
    ticket = await begin(storage)
    answer = await http.put(ticket.url, content=DATA[:1000], headers=content_range(0, 1000))
    assert (answer.status_code, answer.headers["range"]) == (308, "bytes=0-999")


@pytest.mark.matrix(12)
@pytest.mark.parametrize("seed", range(8))
async def test_parts_in_any_order_never_spoil_the_bytes(storage, http, seed: int) -> None:
    """Whatever was refused, what the server says it has is what was sent, and the whole is whole."""
    rng = random.Random(seed)  # noqa: S311
    ticket = await begin(storage)
    kept = 0
    while kept < len(DATA):
        start = rng.choice([kept, kept, 0, rng.randrange(len(DATA)), max(0, kept - 1000), kept + 1])
        end = min(len(DATA), start + rng.choice([1, 1000, 300_000, MIB]))
        if start >= end:
            continue
        answer = await http.put(ticket.url, content=DATA[start:end], headers=content_range(start, end))
        expected = {200, 308} if start == kept else {200, 308, 409, 503}
        assert answer.status_code in expected, answer.text
        now = await offset(storage, ticket)
        assert now >= kept
        assert now in {kept, max(kept, end)}
        kept = now
    assert await read_all(storage) == DATA


async def test_url_for_uploads_does_not_read_and_the_other_way_round(storage, http) -> None:
    ticket = await begin(storage)
    assert (await http.put(ticket.url, content=DATA)).status_code == 200
    read = (await storage.read_url(ReadUrl(key="v/a", expires_in_s=60))).url
    assert (await http.get(ticket.url)).status_code == 405
    assert (await http.put(read, content=DATA)).status_code == 405
    crossed = ticket.url.split("?")[0] + "?" + urlsplit(read).query
    answer = await http.put(crossed, content=DATA)
    assert (answer.status_code, answer.json()["code"]) == (403, "signed_url_invalid")


async def test_expired_upload_url_says_so_and_a_fresh_one_goes_on(storage, http, clock) -> None:
    ticket = await begin(storage, expires_in_s=60)
    await http.put(ticket.url, content=DATA[:MIB], headers=content_range(0, MIB))
    clock.advance(61)
    answer = await http.put(ticket.url, content=DATA[MIB:], headers=content_range(MIB, len(DATA)))
    assert (answer.status_code, answer.json()["code"]) == (403, "signed_url_expired")
    assert answer.headers["content-type"] == "application/problem+json"
    resume = ResumeUpload(key="v/a", state=ticket.state, content_type="video/mp4", size_bytes=len(DATA))
    fresh = await storage.resume_upload(resume)
    answer = await http.put(fresh.url, content=DATA[MIB:], headers=content_range(MIB, len(DATA)))
    assert answer.status_code == 200


async def test_memory_holds_one_batch_being_written_and_one_being_gathered(storage) -> None:
    ticket = await begin(storage, None)
    opened = await storage.threads.run(storage.uploads.open, ticket.state)
    piece = bytes(64 * 1024)
    receiver = BodyReceiver(opened, storage.threads, skip_bytes=0, room_bytes=None)
    most = 0

    async def receive() -> dict[str, Any]:
        nonlocal most
        most = max(most, receiver.gathered_bytes)
        return {"type": "http.request", "body": piece, "more_body": opened.offset_bytes < 32 * MIB}

    try:
        assert await receiver.receive_all(receive, Hold(), 60) is Ending.WHOLE
    finally:
        opened.close()
    assert most < BATCH_BYTES


async def test_cancelled_request_still_stores_what_it_received(storage) -> None:
    ticket = await begin(storage, None)
    opened = await storage.threads.run(storage.uploads.open, ticket.state)
    receiver = BodyReceiver(opened, storage.threads, skip_bytes=0, room_bytes=None)
    sent = asyncio.Event()
    pieces = [DATA[:MIB], DATA[MIB : 2 * MIB], DATA[2 * MIB :]]

    async def receive() -> dict[str, Any]:
        if not pieces:
            sent.set()
            await asyncio.Event().wait()
        return {"type": "http.request", "body": pieces.pop(0), "more_body": True}

    task = asyncio.create_task(receiver.receive_all(receive, Hold(), 60))
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert opened.offset_bytes == len(DATA)
    assert opened.crc32c == google_crc32c.value(DATA)
    opened.close()


async def test_stale_uploads_are_swept_and_live_ones_are_not(served, storage, clock) -> None:
    stale = await begin(storage)
    clock.advance(storage.config.upload_ttl_s - 10)
    fresh = await begin(storage)
    touched = await storage.begin_upload(BeginUpload(key="v/c", content_type="video/mp4", size_bytes=1))
    clock.advance(20)
    assert await storage.threads.run(storage.sweep) == 1
    with pytest.raises(NotFoundError):
        await offset(storage, stale)
    assert await offset(storage, fresh) == 0
    clock.advance(storage.config.upload_ttl_s - 20)
    await storage.resume_upload(ResumeUpload(key="v/c", state=touched.state, content_type="video/mp4"))
    clock.advance(20)
    assert await storage.threads.run(storage.sweep) == 1
    assert {path.name for path in (served.data_dir / "objects" / "uploads").iterdir()} == {touched.state}


async def test_open_sweeps_what_killed_processes_left(open_store, tmp_path) -> None:
    async with open_store():
        pass
    left = tmp_path / "objects" / "trash" / "left" / "object"
    left.mkdir(parents=True)
    (left / "data").write_bytes(b"x")
    async with open_store() as storage:
        await storage.threads.run(storage.sweep)
    assert not left.parent.exists()


@pytest.mark.parametrize("total", [None, 0, 7, 2**60])
def test_mark_reads_what_it_wrote(total: int | None) -> None:
    mark = Mark(offset_bytes=2**50 + 1, crc32c=0xDEADBEEF, total_bytes=total, touched_at=1_800_000_000)
    assert Mark.decode(mark.encode()) == mark
    assert len(mark.encode()) == 128
