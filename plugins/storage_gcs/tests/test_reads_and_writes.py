"""Bytes between the worker and the bucket, and addresses for browsers."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta

import httpx2
import pytest
from echo_storage_gcs import transfers
from echo_storage_gcs.transfers import PART_BYTES

from echo_core.plugin_api import (
    FetchFile,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
    ProviderError,
    PutFile,
    ReadObject,
    ReadUrl,
    UnavailableError,
)
from echo_core.testing.storage_probe import put_bytes, raises_code, read_bytes
from tests.fakes.gcs.server import FakeGcs

from .conftest import BUCKET, ORIGIN

MIB = 1 << 20


def wait_for(what: str, found: Callable[[], bool], deadline_s: float = 20) -> None:
    end = time.monotonic() + deadline_s
    while not found():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def made_by(gcs: FakeGcs, method: str, part: str):
    return [r for r in gcs.log if r.method == method and part in f"{r.path}?{r.query}"]


# --- reading


async def test_stream_goes_on_where_the_connection_broke(storage, gcs: FakeGcs, tmp_path) -> None:
    data = os.urandom(6 * MIB)
    await put_bytes(storage, tmp_path, "a", data)
    gcs.faults.add(method="GET", path="alt=media", nth=2, truncate=MIB // 2)
    assert await read_bytes(storage, ReadObject(key="a")) == data


async def test_first_piece_comes_within_the_deadline_or_not_at_all(open_storage, gcs: FakeGcs, tmp_path) -> None:
    """Requests of the API read little, and somebody waits for them."""
    async with open_storage(deadline_s=1) as storage:
        await put_bytes(storage, tmp_path, "a", bytes(3 * MIB))
        gcs.faults.add(method="GET", path="alt=media", status=503, times=1000)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError):
            await read_bytes(storage, ReadObject(key="a"))
        assert asyncio.get_running_loop().time() - begun < 3


async def test_stream_that_nobody_reads_any_more_asks_no_more(storage, gcs: FakeGcs, tmp_path) -> None:
    await put_bytes(storage, tmp_path, "a", bytes(20 * MIB))
    outage = gcs.faults.add(method="GET", path="alt=media", nth=2, status=503, times=1000)
    begun = asyncio.get_running_loop().time()
    async with aclosing(storage.open_read(ReadObject(key="a"))) as pieces:
        await anext(pieces)
        await asyncio.to_thread(wait_for, "the next block is asked for", lambda: outage.fired > 0)
    assert asyncio.get_running_loop().time() - begun < 10
    asked = outage.fired
    await asyncio.sleep(1)
    assert outage.fired <= asked + 1


async def test_nothing_is_asked_behind_our_back(storage, gcs: FakeGcs, tmp_path) -> None:
    """Google's client would read the bucket's settings, for traces, with a permission that is not needed otherwise."""
    gcs.deny("storage.buckets.get")
    await put_bytes(storage, tmp_path, "a", b"x")
    assert await read_bytes(storage, ReadObject(key="a")) == b"x"
    await storage.delete("a")
    await asyncio.sleep(0.2)
    assert [r.path for r in gcs.log if r.path == f"/storage/v1/b/{BUCKET}"] == []


async def test_stream_asks_for_little_when_little_is_read(storage, gcs: FakeGcs, tmp_path) -> None:
    await put_bytes(storage, tmp_path, "a", bytes(20 * MIB))
    async with aclosing(storage.open_read(ReadObject(key="a"))) as pieces:
        await anext(pieces)
    await asyncio.sleep(0.2)
    assert len(made_by(gcs, "GET", "alt=media")) <= 2


@pytest.mark.matrix(26)
@pytest.mark.parametrize("how", ["replaced", "deleted"])
async def test_object_that_changes_while_it_is_read_is_a_failure(storage, gcs: FakeGcs, tmp_path, how: str) -> None:
    data = os.urandom(12 * MIB)
    await put_bytes(storage, tmp_path, "a", data)
    read = b""
    with pytest.raises((PreconditionFailedError, NotFoundError)):  # noqa: PT012 - what comes first is part of it
        async with aclosing(storage.open_read(ReadObject(key="a"))) as pieces:
            async for piece in pieces:
                if not read:
                    if how == "replaced":
                        gcs.put_object(BUCKET, "a", os.urandom(12 * MIB))
                    else:
                        gcs.delete_object(BUCKET, "a")
                read += piece
    assert data.startswith(read)


async def test_pin_of_another_storage_is_no_pin_that_holds(storage, tmp_path) -> None:
    await put_bytes(storage, tmp_path, "a")
    for generation in ("0123abcd", "-", "1"):
        with raises_code(PreconditionFailedError, "object_changed"):
            await read_bytes(storage, ReadObject(key="a", generation=generation))
    with raises_code(PreconditionFailedError, "object_changed"):
        await storage.read_url(ReadUrl(key="a", expires_in_s=60, generation="0123abcd"))


# --- fetching


async def test_big_source_comes_in_parts(storage, gcs: FakeGcs, tmp_path) -> None:
    data = os.urandom(2 * PART_BYTES + 3 * MIB)
    info = await put_bytes(storage, tmp_path, "a", data)
    gcs.faults.add(method="GET", path="alt=media", nth=2, truncate=MIB)
    await storage.fetch_file(FetchFile(key="a", path=tmp_path / "target", generation=info.generation))
    assert (tmp_path / "target").read_bytes() == data
    assert len(made_by(gcs, "GET", "alt=media")) == 4  # three parts, one of them twice
    assert all(f"ifGenerationMatch={info.generation}" in r.query for r in made_by(gcs, "GET", "alt=media"))


async def test_damaged_bytes_are_not_taken_for_the_source(storage, gcs: FakeGcs, tmp_path) -> None:
    data = os.urandom(MIB)
    await put_bytes(storage, tmp_path, "a", data)
    gcs.faults.add(method="GET", path="alt=media", corrupt=True)
    await storage.fetch_file(FetchFile(key="a", path=tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == data  # it was fetched again
    (tmp_path / "target").unlink()
    gcs.faults.add(method="GET", path="alt=media", corrupt=True, times=2)
    with raises_code(ProviderError, "checksum_mismatch"):
        await storage.fetch_file(FetchFile(key="a", path=tmp_path / "target"))
    assert not (tmp_path / "target").exists()


async def test_cancelled_fetch_leaves_nothing_and_does_not_go_on(storage, gcs: FakeGcs, tmp_path) -> None:
    await put_bytes(storage, tmp_path, "a", bytes(3 * PART_BYTES))
    gcs.faults.add(method="GET", path="alt=media", delay_s=0.3, times=100)
    fetching = asyncio.create_task(storage.fetch_file(FetchFile(key="a", path=tmp_path / "target")))
    await asyncio.sleep(0.1)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert not (tmp_path / "target").exists()


# --- writing


async def test_answer_to_a_write_is_lost(storage, gcs: FakeGcs, tmp_path) -> None:
    data = os.urandom(MIB)
    gcs.faults.add(method="POST", path="uploadType=multipart", drop_response=True)
    info = await put_bytes(storage, tmp_path, "a", data)
    assert info == await storage.stat("a")
    assert len(made_by(gcs, "POST", "uploadType=multipart")) == 2
    assert await read_bytes(storage, ReadObject(key="a")) == data


async def test_big_write_survives_a_broken_chunk(storage, gcs: FakeGcs, tmp_path) -> None:
    data = os.urandom(20 * MIB)
    gcs.faults.add(method="PUT", path="upload_id", nth=2, fail_after=MIB)
    gcs.faults.add(method="PUT", path="upload_id", nth=4, drop_response=True)
    info = await put_bytes(storage, tmp_path, "a", data)
    assert info.size_bytes == len(data)
    assert await read_bytes(storage, ReadObject(key="a")) == data


@pytest.mark.parametrize("kept", [0, MIB, 8 * MIB])
@pytest.mark.parametrize("nth", [1, 3])
async def test_big_write_goes_on_where_a_short_308_says(storage, gcs: FakeGcs, tmp_path, nth: int, kept: int) -> None:
    data = os.urandom(20 * MIB)
    gcs.faults.add(method="PUT", path="upload_id", nth=nth, keep_bytes=min(kept, 2 * MIB) if nth == 3 else kept)
    info = await put_bytes(storage, tmp_path, "a", data)
    assert info.size_bytes == len(data)
    assert await read_bytes(storage, ReadObject(key="a")) == data


@pytest.mark.parametrize("before", [{"drop": True}, {"status": 503}])
async def test_big_write_begins_anew_when_asking_tells_that_its_session_is_forgotten(
    storage, gcs: FakeGcs, tmp_path, before: dict[str, object]
) -> None:
    """The usual way to learn of it: something breaks off, and whoever asks is told that there is nothing any more."""
    data = os.urandom(20 * MIB)
    gcs.faults.add(method="PUT", path="upload_id", nth=2, **before)
    gcs.faults.add(method="PUT", path="upload_id", nth=3, session_gone=410)
    assert (await put_bytes(storage, tmp_path, "a", data)).size_bytes == len(data)
    assert await read_bytes(storage, ReadObject(key="a")) == data


async def test_bucket_that_forgets_every_session_is_away(storage, gcs: FakeGcs, tmp_path) -> None:
    gcs.faults.add(method="PUT", path="upload_id", session_gone=410, times=100)
    with pytest.raises(UnavailableError):
        await put_bytes(storage, tmp_path, "a", os.urandom(10 * MIB))


async def test_bucket_that_keeps_nothing_is_asked_ever_more_slowly(
    storage, gcs: FakeGcs, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "TRANSFER_RETRY_S", 2.0)
    greedy = gcs.faults.add(method="PUT", path="upload_id", keep_bytes=0, times=100_000)
    with pytest.raises(UnavailableError):
        await put_bytes(storage, tmp_path, "a", os.urandom(10 * MIB))
    assert greedy.fired < 12


async def test_part_that_breaks_off_goes_on_for_as_long_as_something_comes(
    storage, gcs: FakeGcs, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the time since the last byte, not since the first."""
    data = os.urandom(12 * MIB)
    await put_bytes(storage, tmp_path, "a", data)
    monkeypatch.setattr(transfers, "TRANSFER_RETRY_S", 2.0)
    broken = gcs.faults.add(method="GET", path="alt=media", truncate=MIB, delay_s=0.3, times=11)
    await storage.fetch_file(FetchFile(key="a", path=tmp_path / "target"))
    assert broken.fired == 11
    assert (tmp_path / "target").read_bytes() == data


@pytest.mark.parametrize("status", [404, 410])
async def test_big_write_begins_anew_when_its_session_is_forgotten(
    storage, gcs: FakeGcs, tmp_path, status: int
) -> None:
    data = os.urandom(20 * MIB)
    gcs.faults.add(method="PUT", path="upload_id", nth=2, session_gone=status)
    assert (await put_bytes(storage, tmp_path, "a", data)).size_bytes == len(data)
    assert await read_bytes(storage, ReadObject(key="a")) == data


async def test_big_write_to_a_taken_key_is_refused(storage, gcs: FakeGcs, tmp_path) -> None:
    data = os.urandom(10 * MIB)
    first = await put_bytes(storage, tmp_path, "a", data)
    assert await put_bytes(storage, tmp_path, "a", data) == first
    with raises_code(PreconditionFailedError, "object_exists"):
        await put_bytes(storage, tmp_path, "a", os.urandom(10 * MIB))
    assert await storage.stat("a") == first


@pytest.mark.parametrize("size", [MIB, 20 * MIB])
async def test_bytes_that_are_damaged_on_the_way_once_are_sent_again(
    storage, gcs: FakeGcs, tmp_path, size: int
) -> None:
    data = os.urandom(size)
    gcs.faults.add(path="/upload/", nth=1 if size == MIB else 4, corrupt=True)
    info = await put_bytes(storage, tmp_path, "a", data)
    assert info.size_bytes == size
    assert await read_bytes(storage, ReadObject(key="a")) == data


async def test_bytes_that_arrive_damaged_are_refused(storage, gcs: FakeGcs, tmp_path) -> None:
    gcs.faults.add(method="POST", path="uploadType=multipart", corrupt=True, times=100)
    with raises_code(ProviderError, "checksum_mismatch"):
        await put_bytes(storage, tmp_path, "a", os.urandom(MIB))
    gcs.faults.clear()
    assert gcs.objects(BUCKET) == {}
    assert (tmp_path / "put-file").exists()


async def test_file_that_shrinks_while_it_is_sent_is_not_stored(storage, gcs: FakeGcs, tmp_path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(os.urandom(20 * MIB))
    gcs.faults.add(method="POST", path="uploadType=resumable", delay_s=0.3)
    putting = asyncio.create_task(storage.put_file(PutFile(key="a", path=path, content_type="video/mp4")))
    await asyncio.sleep(0.15)
    os.truncate(path, MIB)
    with raises_code(InvalidRequestError, "file_changed"):
        await putting
    assert gcs.objects(BUCKET) == {}


async def test_objects_may_be_kept_by_browsers_and_by_no_one_between(storage, gcs: FakeGcs, tmp_path) -> None:
    await put_bytes(storage, tmp_path, "a")
    with httpx2.Client() as http:
        answer = http.get((await storage.read_url(ReadUrl(key="a", expires_in_s=60))).url)
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"


# --- addresses


async def test_addresses_are_given_out_again_while_they_are_fresh(storage, clock, tmp_path) -> None:
    wanted = ReadUrl(key="a", expires_in_s=1000)
    first = await storage.read_url(wanted)
    assert first.expires_at == clock.now() + timedelta(seconds=1000)
    clock.advance(190)
    assert await storage.read_url(wanted) == first
    others = [
        await storage.read_url(ReadUrl(key="a", expires_in_s=999)),
        await storage.read_url(ReadUrl(key="a", expires_in_s=1000, content_type="video/mp4")),
        await storage.read_url(ReadUrl(key="a", expires_in_s=1000, filename="a.mp4")),
        await storage.read_url(ReadUrl(key="a", expires_in_s=1000, generation="1")),
        await storage.read_url(ReadUrl(key="a", expires_in_s=1000, method="HEAD")),
        await storage.read_url(ReadUrl(key="b", expires_in_s=1000)),
    ]
    assert len({signed.url for signed in (first, *others)}) == 7
    clock.advance(20)
    assert (await storage.read_url(wanted)).expires_at == clock.now() + timedelta(seconds=1000)


async def test_addresses_live_a_week_at_most(storage, clock) -> None:
    signed = await storage.read_url(ReadUrl(key="a", expires_in_s=90 * 24 * 3600))
    assert signed.expires_at - clock.now() == timedelta(days=7)


async def test_pages_of_the_instance_can_play(storage, tmp_path) -> None:
    await put_bytes(storage, tmp_path, "a", b"0123456789")
    with httpx2.Client() as http:
        url = (await storage.read_url(ReadUrl(key="a", expires_in_s=60))).url
        answer = http.get(url, headers={"origin": ORIGIN, "range": "bytes=2-4"})
        stranger = http.get(url, headers={"origin": "https://evil.example", "range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in stranger.headers


async def test_hostile_file_name_stays_one_header(storage, tmp_path) -> None:
    await put_bytes(storage, tmp_path, "a")
    name = 'a"; x=1\r\nset-cookie: b=c\\\udc80€.mp4'
    with httpx2.Client() as http:
        answer = http.get((await storage.read_url(ReadUrl(key="a", expires_in_s=60, filename=name))).url)
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-disposition"].startswith('attachment; filename="a_; x=1__set-cookie: b=c_?_.mp4";')


async def test_nothing_is_asked_of_a_bucket_that_is_away_for_ever(open_storage, gcs: FakeGcs, tmp_path) -> None:
    async with open_storage(deadline_s=1) as storage:
        gcs.faults.add(hang=True, times=1000)
        calls = [
            storage.stat("a"),
            storage.check(),
            storage.delete("a"),
            read_bytes(storage, ReadObject(key="a")),
        ]
        loop = asyncio.get_running_loop()
        begun = loop.time()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, UnavailableError) for result in results), results
        assert loop.time() - begun < 30  # far from the minutes of Google's defaults
        gcs.faults.clear()
