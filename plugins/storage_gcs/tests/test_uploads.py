"""Uploads that browsers make to the bucket themselves: what goes wrong on the way, and that it never shows."""

import asyncio
import base64
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
from echo_storage_gcs.backend import open_gcs_storage
from echo_storage_gcs.sessions import Seal, UploadState
from google.resumable_media.requests import ResumableUpload
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echo_core.plugin_api import (
    BeginUpload,
    NotFoundError,
    ReadObject,
    ResumeUpload,
    UnavailableError,
    UploadRef,
)
from echo_core.testing.manual_clock import ManualClock
from tests.fakes.gcs.server import FakeGcs

from .conftest import BUCKET, ORIGIN, make_context

GRANULE = 256 * 1024
KEY = "videos/1/source/film.mp4"
DATA = os.urandom(3 * GRANULE + 12_345)
ALL = f"bytes 0-{len(DATA) - 1}/{len(DATA)}"


@pytest.fixture
def http():
    with httpx2.Client(timeout=30) as client:
        yield client


def begin(storage, data: bytes = DATA, **terms: Any):
    size = terms.pop("size_bytes", len(data))
    return storage.begin_upload(BeginUpload(key=KEY, content_type="video/mp4", size_bytes=size, origin=ORIGIN, **terms))


async def read_all(storage, key: str = KEY) -> bytes:
    return b"".join([piece async for piece in storage.open_read(ReadObject(key=key))])


def send(http: httpx2.Client, url: str, data: bytes, start: int, end: int) -> httpx2.Response:
    return http.put(url, content=data[start:end], headers={"content-range": f"bytes {start}-{end - 1}/{len(data)}"})


# --- sessions


async def test_session_knows_size_type_origin_and_that_nothing_may_be_there(storage, gcs: FakeGcs) -> None:
    await begin(storage)
    (opened,) = [r for r in gcs.log if r.method == "POST" and "uploadType=resumable" in r.query]
    headers = {name.lower(): value for name, value in opened.headers.items()}
    assert headers["x-upload-content-length"] == str(len(DATA))
    assert headers["x-upload-content-type"] == "video/mp4"
    assert headers["origin"] == ORIGIN
    assert "ifGenerationMatch=0" in opened.query


async def test_what_is_kept_of_an_upload_hides_the_session(storage) -> None:
    ticket = await begin(storage)
    secret = re.search(r"upload_id=([^&]+)", ticket.url)[1]
    kept = base64.urlsafe_b64decode(ticket.state)
    assert secret.encode() not in kept
    assert b"upload" not in kept
    assert "upload_id" not in ticket.state


def test_seal_is_bound_to_key_and_instance() -> None:
    state = UploadState(kind="session", uri="https://storage.example/secret", size_bytes=3)
    sealed = Seal(b"k" * 32).close("a", state)
    assert Seal(b"k" * 32).open("a", sealed) == state
    assert sealed != Seal(b"k" * 32).close("a", state)
    for key, cipher, text in [
        ("b", b"k", sealed),
        ("a", b"x", sealed),
        ("a", b"k", sealed[:-2]),
        ("a", b"k", ""),
        ("a", b"k", "ü"),
        ("a", b"k", base64.urlsafe_b64encode(b"\x02" + base64.urlsafe_b64decode(sealed)[1:]).decode()),
    ]:
        with pytest.raises(NotFoundError) as caught:
            Seal(cipher * 32).open(key, text)
        assert caught.value.code == "upload_gone"


async def test_browsers_get_the_public_address(open_storage, gcs: FakeGcs) -> None:
    public = gcs.url.replace("127.0.0.1", "localhost")
    async with open_storage(public_endpoint=public) as storage:
        ticket = await begin(storage)
        assert ticket.url.startswith(f"{public}/")
        unknown = await begin(storage, size_bytes=None, max_size_bytes=10)
        assert unknown.url.startswith(f"{public}/")
        assert (await storage.upload_offset(UploadRef(key=KEY, state=ticket.state))).offset_bytes == 0


async def test_pages_can_read_how_far_an_upload_is(storage, http) -> None:
    """Without the exposed Range header no page can go on."""
    ticket = await begin(storage)
    sent = {"content-range": f"bytes 0-{GRANULE - 1}/{len(DATA)}", "origin": ORIGIN}
    answer = http.put(ticket.url, content=DATA[:GRANULE], headers=sent)
    assert answer.status_code == 308
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "range" in answer.headers["access-control-expose-headers"].lower()


async def test_google_client_uploads(storage) -> None:
    ticket = await begin(storage)

    def run() -> None:
        with requests.Session() as session:
            session.trust_env = False
            upload = ResumableUpload(ticket.url, GRANULE)
            upload._resumable_url = ticket.url  # the session is open: nothing has to be initiated
            upload._stream, upload._total_bytes, upload._content_type = io.BytesIO(DATA), len(DATA), "video/mp4"
            while not upload.finished:
                upload.transmit_next_chunk(session, timeout=30)

    await asyncio.to_thread(run)
    assert await read_all(storage) == DATA


# --- what goes wrong


async def test_answer_to_the_last_byte_is_lost(storage, gcs: FakeGcs, http) -> None:
    ticket = await begin(storage)
    gcs.faults.add(method="PUT", path="upload_id", drop_response=True)
    with pytest.raises(httpx2.TransportError):
        http.put(ticket.url, content=DATA, headers={"content-range": ALL})
    found = await storage.upload_offset(UploadRef(key=KEY, state=ticket.state))
    assert (found.offset_bytes, found.complete) == (len(DATA), True)
    again = http.put(ticket.url, content=DATA, headers={"content-range": ALL})
    assert again.status_code == 200
    assert await read_all(storage) == DATA


async def test_half_of_the_bytes_are_kept(storage, gcs: FakeGcs, http) -> None:
    ticket = await begin(storage)
    gcs.faults.add(method="PUT", path="upload_id", keep_bytes=GRANULE)
    answer = http.put(ticket.url, content=DATA, headers={"content-range": ALL})
    assert (answer.status_code, answer.headers["range"]) == (308, f"bytes=0-{GRANULE - 1}")
    found = await storage.upload_offset(UploadRef(key=KEY, state=ticket.state))
    assert (found.offset_bytes, found.complete) == (GRANULE, False)
    assert send(http, ticket.url, DATA, GRANULE, len(DATA)).status_code == 200
    assert await read_all(storage) == DATA


@pytest.mark.parametrize("status", [404, 410])
async def test_session_is_gone_half_way(storage, gcs: FakeGcs, http, status: int) -> None:
    ticket = await begin(storage)
    send(http, ticket.url, DATA, 0, GRANULE)
    gcs.faults.add(method="PUT", path="upload_id", session_gone=status)
    assert send(http, ticket.url, DATA, GRANULE, len(DATA)).status_code == status
    for ask in (
        storage.upload_offset(UploadRef(key=KEY, state=ticket.state)),
        storage.resume_upload(
            ResumeUpload(key=KEY, state=ticket.state, content_type="video/mp4", size_bytes=len(DATA))
        ),
    ):
        with pytest.raises(NotFoundError) as caught:
            await ask
        assert caught.value.code == "upload_gone"
    # The kernel begins anew under the same key.
    fresh = await begin(storage)
    assert send(http, fresh.url, DATA, 0, len(DATA)).status_code == 200
    assert await read_all(storage) == DATA


async def test_finished_session_is_forgotten_and_its_object_is_not(storage, gcs: FakeGcs, http) -> None:
    ticket = await begin(storage)
    send(http, ticket.url, DATA, 0, len(DATA))
    gcs.faults.add(method="PUT", path="upload_id", session_gone=404)
    found = await storage.upload_offset(UploadRef(key=KEY, state=ticket.state))
    assert (found.offset_bytes, found.complete) == (len(DATA), True)


async def test_second_uploader_of_the_same_name_changes_nothing(storage, http) -> None:
    first, second = await begin(storage), await begin(storage)
    other = bytes(len(DATA))
    assert send(http, first.url, DATA, 0, len(DATA)).status_code == 200
    before = await storage.stat(KEY)
    assert send(http, second.url, other, 0, len(other)).status_code == 412
    assert await storage.stat(KEY) == before
    assert await read_all(storage) == DATA


async def test_more_than_was_announced_is_not_stored(storage, gcs: FakeGcs, http) -> None:
    ticket = await begin(storage, size_bytes=1_000_000)
    data = os.urandom(2_000_000)
    for answer in (
        http.put(ticket.url, content=data),
        send(http, ticket.url, data, 0, len(data)),
        http.put(ticket.url, content=data, headers={"content-range": "bytes 0-1999999/*"}),
    ):
        assert 400 <= answer.status_code < 500
    assert gcs.objects(BUCKET) == {}


async def test_bound_of_a_session_of_unknown_size(storage, gcs: FakeGcs, http) -> None:
    ticket = await begin(storage, size_bytes=None, max_size_bytes=GRANULE)
    assert http.put(ticket.url, content=bytes(GRANULE + 1)).status_code == 400
    assert gcs.objects(BUCKET) == {}
    ticket = await begin(storage, size_bytes=None, max_size_bytes=GRANULE)
    assert http.put(ticket.url, content=bytes(GRANULE)).status_code == 200
    assert (await storage.stat(KEY)).size_bytes == GRANULE


async def test_aborted_session_frees_its_bytes(storage, gcs: FakeGcs, http) -> None:
    ticket = await begin(storage)
    send(http, ticket.url, DATA, 0, GRANULE)
    for _ in range(2):
        await storage.abort_upload(UploadRef(key=KEY, state=ticket.state))
    assert gcs.sessions() == []
    assert send(http, ticket.url, DATA, GRANULE, len(DATA)).status_code in {404, 410, 499}


async def test_session_of_another_origin_is_ended_and_begun_anew(storage, gcs: FakeGcs, http) -> None:
    """The storage would let the other page send, and hide how far it has come."""
    ticket = await begin(storage)
    resume = {"key": KEY, "state": ticket.state, "content_type": "video/mp4", "size_bytes": len(DATA)}
    for origin in (ORIGIN, None):  # the same page, and a program, go on
        assert (await storage.resume_upload(ResumeUpload(**resume, origin=origin))).url == ticket.url
    with pytest.raises(NotFoundError) as caught:
        await storage.resume_upload(ResumeUpload(**resume, origin="https://other.example"))
    assert caught.value.code == "upload_gone"
    assert gcs.sessions() == []


async def test_session_that_a_program_opened_is_not_handed_to_a_page(storage, gcs: FakeGcs) -> None:
    request = BeginUpload(key=KEY, content_type="video/mp4", size_bytes=len(DATA))
    ticket = await storage.begin_upload(request)
    with pytest.raises(NotFoundError):
        await storage.resume_upload(
            ResumeUpload(key=KEY, state=ticket.state, content_type="video/mp4", size_bytes=len(DATA), origin=ORIGIN)
        )


async def test_beginning_has_one_deadline_for_all_it_does(open_storage, gcs: FakeGcs) -> None:
    async with open_storage(deadline_s=1) as storage:
        gcs.faults.add(path="/b/", delay_s=0.8, times=100)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError):
            await begin(storage)
        assert asyncio.get_running_loop().time() - begun < 1.5
        gcs.faults.clear()


async def test_bucket_that_is_away_is_no_lost_upload(storage, gcs: FakeGcs) -> None:
    ticket = await begin(storage)
    fault = gcs.faults.add(method="PUT", path="upload_id", status=503, times=1000)
    with pytest.raises(UnavailableError):
        await storage.upload_offset(UploadRef(key=KEY, state=ticket.state))
    assert fault.fired > 1  # it was tried again
    gcs.faults.clear()
    assert (await storage.upload_offset(UploadRef(key=KEY, state=ticket.state))).offset_bytes == 0


async def test_session_that_is_a_week_old_is_gone(storage, gcs: FakeGcs, clock) -> None:
    ticket = await begin(storage, expires_in_s=30 * 24 * 3600)
    assert (ticket.expires_at - clock.now()).days == 7
    gcs.advance(7 * 24 * 3600 + 60)
    with pytest.raises(NotFoundError):
        await storage.upload_offset(UploadRef(key=KEY, state=ticket.state))


# --- one signed PUT


async def test_small_file_goes_in_one_signed_put(storage, gcs: FakeGcs, http) -> None:
    data = b"a small film"
    ticket = await begin(storage, data, protocols=("google-resumable", "signed-put"))
    assert (ticket.protocol, ticket.chunk_size_bytes) == ("signed-put", None)
    reference = UploadRef(key=KEY, state=ticket.state)
    assert not (await storage.upload_offset(reference)).complete
    answer = http.put(ticket.url, content=data, headers=dict(ticket.headers))
    assert answer.status_code == 200
    assert (await storage.upload_offset(reference)).complete
    info = await storage.stat(KEY)
    assert (info.size_bytes, info.content_type) == (len(data), "video/mp4")
    again = http.put(ticket.url, content=data, headers=dict(ticket.headers))
    assert again.status_code == 412
    assert await storage.stat(KEY) == info


@pytest.mark.parametrize("change", ["longer", "shorter", "content-type", "precondition", "size", "left out"])
async def test_signed_put_is_good_for_nothing_else(storage, gcs: FakeGcs, http, change: str) -> None:
    data = b"a small film"
    ticket = await begin(storage, data, protocols=("google-resumable", "signed-put"))
    headers = dict(ticket.headers)
    body = {"longer": data + b"!", "shorter": data[:-1]}.get(change, data)
    if change == "content-type":
        headers["content-type"] = "text/html"
    elif change == "precondition":
        headers["x-goog-if-generation-match"] = "1"
    elif change == "size":
        headers["x-goog-content-length-range"] = "0,99999999"
    elif change == "left out":
        del headers["x-goog-if-generation-match"]
    assert 400 <= http.put(ticket.url, content=body, headers=headers).status_code < 500
    assert gcs.objects(BUCKET) == {}


async def test_signed_put_that_was_not_made_goes_on_as_a_session(storage, http) -> None:
    data = b"a small film"
    ticket = await begin(storage, data, protocols=("google-resumable", "signed-put"))
    resume = ResumeUpload(key=KEY, state=ticket.state, content_type="video/mp4", size_bytes=len(data), origin=ORIGIN)
    fresh = await storage.resume_upload(resume)
    assert fresh.protocol == "google-resumable"
    assert send(http, fresh.url, data, 0, len(data)).status_code == 200
    assert await read_all(storage) == data


async def test_large_files_and_clients_that_cannot_get_a_session(storage) -> None:
    assert (await begin(storage)).protocol == "google-resumable"
    large = await begin(storage, size_bytes=2 << 20, protocols=("google-resumable", "signed-put"))
    assert large.protocol == "google-resumable"


# --- any order of chunks, losses and repeats


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.integers(1, 6 * GRANULE),
    moves=st.lists(
        st.tuples(
            st.sampled_from(["send", "again", "lost", "short", "503", "ask", "resume", "gap"]), st.integers(1, 4)
        ),
        max_size=12,
    ),
)
@pytest.mark.matrix(12)
async def test_any_way_ends_in_the_very_object_once(
    serving: FakeGcs, size: int, moves: Sequence[tuple[str, int]]
) -> None:
    serving.reset()
    data = os.urandom(size)
    async with open_gcs_storage(make_context(serving, ManualClock(), Path())) as storage:
        with httpx2.Client(timeout=30) as http:
            ticket = await begin(storage, data)
            url = ticket.url
            reference = UploadRef(key=KEY, state=ticket.state)
            for move, granules in moves:
                found = await storage.upload_offset(reference)
                start = found.offset_bytes
                if found.complete:
                    break
                end = min(size, start + granules * GRANULE)
                if move == "again":
                    start = 0
                elif move == "lost":
                    serving.faults.add(method="PUT", path="upload_id", drop_response=True)
                elif move == "short":
                    serving.faults.add(method="PUT", path="upload_id", keep_bytes=GRANULE)
                elif move == "503":
                    serving.faults.add(method="PUT", path="upload_id", fail_after=GRANULE)
                elif move == "resume":
                    resume = ResumeUpload(key=KEY, state=reference.state, content_type="video/mp4", size_bytes=size)
                    ticket = await storage.resume_upload(resume)
                    url, reference = ticket.url, UploadRef(key=KEY, state=ticket.state)
                    continue
                elif move == "gap":
                    start, end = min(size - 1, start + GRANULE), size
                    if start == found.offset_bytes:
                        continue
                elif move == "ask":
                    continue
                try:
                    answer = send(http, url, data, start, end)
                    if move == "gap":
                        assert answer.status_code >= 400
                except httpx2.TransportError:
                    assert move == "lost"
                serving.faults.clear()
            while not (found := await storage.upload_offset(reference)).complete:
                send(http, url, data, found.offset_bytes, size)
            assert await read_all(storage) == data
            assert list(serving.objects(BUCKET)) == [KEY]
            assert (await storage.stat(KEY)).size_bytes == size
