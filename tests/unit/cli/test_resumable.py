"""Google's resumable protocol: whatever the network and the storage do, the bytes arrive once and in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echo_core.entrypoints.cli.backoff import Backoff, parsed_retry_after
from echo_core.entrypoints.cli.problems import ApiError, CliError
from echo_core.entrypoints.cli.resumable import (
    GRANULE_BYTES,
    Destination,
    ResumableSender,
    SessionGoneError,
    content_range,
    next_chunk,
    parsed_range,
)
from echo_core.entrypoints.cli.sources import SourceFile, source_file

KIB = 1024


class Storage:
    """The server's side of the protocol. ``script``: what happens to one request after another; then all goes well.

    ``keep:n`` stores n bytes of the chunk, ``drop:n`` stores n and then the connection breaks, a number is a status.
    """

    def __init__(self, size: int, script: list[str] | None = None, *, forever: str | None = None) -> None:
        self.size = size
        self.stored = bytearray()
        self.script = script or []
        self.forever = forever
        self.requests: list[str] = []

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        span = request.headers["content-range"]
        self.requests.append(span)
        body = await request.aread()
        does = self.forever or (self.script.pop(0) if self.script else "")
        if does.isdigit():
            return httpx2.Response(int(does), headers={"Retry-After": "7"})
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", span)
        if match is None:
            assert span == f"bytes */{self.size}"
        else:
            start, end = int(match[1]), int(match[2]) + 1
            assert (len(body), int(match[3])) == (end - start, self.size)
            assert start <= len(self.stored), "a gap"
            kept = min(len(body), int(does.partition(":")[2])) if ":" in does else len(body)
            self.stored[start:] = body[:kept]
        if does.startswith("drop"):
            raise httpx2.ReadError("connection reset", request=request)
        if len(self.stored) == self.size:
            return httpx2.Response(200)
        return httpx2.Response(308, headers={"Range": f"bytes=0-{len(self.stored) - 1}"} if self.stored else {})


class Waits:
    def __init__(self) -> None:
        self.waited: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)


async def send(
    source: SourceFile, storage: Storage, *, chunk: int | None = None, fresh: bool = True, tries: int = 10
) -> Waits:
    waits = Waits()
    to = Destination(url="https://bucket.example/u?sig=secret", headers={}, chunk_size_bytes=chunk)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(storage.answer)) as client:
        backoff = Backoff(max_tries=tries, sleep=waits.sleep, random=lambda: 1.0)
        await ResumableSender(client, source, to, backoff=backoff, on_sent=lambda n: None).send(fresh=fresh)
    return waits


@pytest.fixture
def source(tmp_path: Path) -> SourceFile:
    path = tmp_path / "a.mp4"
    path.write_bytes((bytes(range(251)) * 2612)[: 5 * GRANULE_BYTES // 2])
    return source_file(path)


async def test_without_a_chunk_size_the_file_goes_in_one_piece(source: SourceFile) -> None:
    storage = Storage(source.size_bytes)
    await send(source, storage)
    assert storage.requests == [f"bytes 0-{source.size_bytes - 1}/{source.size_bytes}"]


async def test_resuming_asks_first_and_sends_only_the_rest(source: SourceFile) -> None:
    storage = Storage(source.size_bytes)
    storage.stored[:] = source.path.read_bytes()[:1000]
    await send(source, storage, fresh=False)
    assert storage.requests == [
        f"bytes */{source.size_bytes}",
        content_range(1000, source.size_bytes, source.size_bytes),
    ]
    assert bytes(storage.stored) == source.path.read_bytes()


async def test_resuming_what_is_whole_sends_nothing(source: SourceFile) -> None:
    storage = Storage(source.size_bytes)
    storage.stored[:] = source.path.read_bytes()
    await send(source, storage, fresh=False)
    assert storage.requests == [f"bytes */{source.size_bytes}"]


@pytest.mark.parametrize("status", ["408", "429", "500", "502", "503", "504"])
async def test_passing_trouble_is_waited_out_as_long_as_the_server_asks(source: SourceFile, status: str) -> None:
    storage = Storage(source.size_bytes, [status])
    waits = await send(source, storage)
    assert waits.waited == [7.0]
    assert storage.requests[1] == f"bytes */{source.size_bytes}"
    assert bytes(storage.stored) == source.path.read_bytes()


async def test_broken_connection_costs_only_what_was_not_stored(source: SourceFile) -> None:
    storage = Storage(source.size_bytes, ["drop:300000"])
    await send(source, storage)
    assert storage.requests[2] == content_range(300000, source.size_bytes, source.size_bytes)
    assert bytes(storage.stored) == source.path.read_bytes()


async def test_waits_grow_and_end(source: SourceFile) -> None:
    storage = Storage(source.size_bytes, forever="drop:0")
    waits = Waits()
    to = Destination(url="https://bucket.example/u?sig=secret", headers={})
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(storage.answer)) as client:
        backoff = Backoff(max_tries=5, sleep=waits.sleep, random=lambda: 1.0)
        with pytest.raises(CliError) as caught:
            await ResumableSender(client, source, to, backoff=backoff, on_sent=lambda n: None).send(fresh=True)
    assert waits.waited == [0.5, 1.0, 2.0, 4.0]
    assert caught.value.code == "cannot_connect"
    assert "secret" not in caught.value.message


async def test_storage_that_keeps_nothing_is_given_up(source: SourceFile) -> None:
    with pytest.raises(CliError) as caught:
        await send(source, Storage(source.size_bytes, forever="keep:0"), tries=4)
    assert caught.value.code == "upload_stalled"


async def test_storage_that_never_finishes_is_given_up(source: SourceFile) -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        return httpx2.Response(308, headers={"Range": f"bytes=0-{source.size_bytes - 1}"})

    storage: Any = Storage(source.size_bytes)
    storage.answer = answer
    with pytest.raises(CliError) as caught:
        await send(source, storage, tries=4)
    assert caught.value.code == "upload_stalled"


async def test_progress_forgives_earlier_failures(source: SourceFile) -> None:
    script = [step for _ in range(8) for step in ("503", "", "keep:10000")]
    storage = Storage(source.size_bytes, script)
    await send(source, storage, tries=3)
    assert bytes(storage.stored) == source.path.read_bytes()


@pytest.mark.parametrize("status", ["401", "403", "404", "410", "412"])
async def test_dead_address_is_told_to_the_caller(source: SourceFile, status: str) -> None:
    with pytest.raises(SessionGoneError):
        await send(source, Storage(source.size_bytes, [status]))


async def test_refusal_is_final(source: SourceFile) -> None:
    storage = Storage(source.size_bytes, ["400"])
    with pytest.raises(ApiError) as caught:
        await send(source, storage)
    assert caught.value.status == 400
    assert len(storage.requests) == 1


@pytest.mark.complaint(8)
async def test_body_limit_of_a_proxy_halves_the_chunks(source: SourceFile) -> None:
    storage = Storage(source.size_bytes, ["413"])
    await send(source, storage)
    sent = [r for r in storage.requests if "*" not in r]
    assert sent[:2] == [
        content_range(0, source.size_bytes, source.size_bytes),
        content_range(0, GRANULE_BYTES, source.size_bytes),
    ]
    assert bytes(storage.stored) == source.path.read_bytes()


@pytest.mark.complaint(8)
async def test_body_limit_below_the_smallest_chunk_names_the_setting(source: SourceFile) -> None:
    with pytest.raises(ApiError) as caught:
        await send(source, Storage(source.size_bytes, forever="413"))
    assert "client_max_body_size" in caught.value.remedy


@given(size=st.integers(1, 1 << 50), data=st.data(), chunk=st.none() | st.integers(1, 1 << 40))
def test_chunks_are_never_empty_never_too_long_and_whole_granules(
    size: int, data: st.DataObject, chunk: int | None
) -> None:
    offset = data.draw(st.integers(0, size - 1))
    start, end = next_chunk(offset, size, chunk)
    assert start == offset < end <= size
    assert end == size or (end - start) % GRANULE_BYTES == 0
    assert chunk is None or end - start <= max(chunk, GRANULE_BYTES)


@given(st.integers(0, (1 << 63) - 1))
def test_range_of_stored_bytes_is_read_back(last: int) -> None:
    assert parsed_range(f"bytes=0-{last}") == last + 1


@pytest.mark.parametrize("header", ["bytes=1-2", "bytes 0-1", "0-1", "bytes=0-", "bytes=0-x", ""])
def test_other_ranges_make_no_sense(header: str) -> None:
    with pytest.raises(ValueError, match="Range"):
        parsed_range(header)


def test_no_range_means_nothing_stored() -> None:
    assert parsed_range(None) == 0


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 900 * KIB),
    chunk=st.none() | st.sampled_from([GRANULE_BYTES, 2 * GRANULE_BYTES]),
    script=st.lists(
        st.sampled_from(["", "503", "429", "500", "keep:0", "drop:0"])
        | st.integers(0, 600 * KIB).map(lambda n: f"keep:{n}")
        | st.integers(0, 600 * KIB).map(lambda n: f"drop:{n}"),
        max_size=12,
    ),
    fresh=st.booleans(),
)
async def test_bytes_arrive_whatever_happens(
    tmp_path: Path, size: int, chunk: int | None, script: list[str], fresh: bool
) -> None:
    path = tmp_path / "p.mp4"
    path.write_bytes((b"0123456789abcdef!" * (size // 17 + 1))[:size])
    storage = Storage(size, list(script))
    await send(source_file(path), storage, chunk=chunk, fresh=fresh, tries=30)
    assert bytes(storage.stored) == path.read_bytes()


@given(failures=st.integers(1, 10_000), chance=st.floats(0, 1), asked=st.none() | st.floats(0, 1e9))
def test_waits_are_bounded_and_never_shorter_than_asked(failures: int, chance: float, asked: float | None) -> None:
    delay = Backoff(random=lambda: chance).delay_s(failures, asked)
    assert 0.25 <= delay <= 120
    assert asked is None or delay >= min(asked, 120)


@pytest.mark.parametrize(("header", "seconds"), [("5", 5.0), (None, None), ("", None), ("soon", None), ("-1", None)])
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert parsed_retry_after(header) == seconds
