"""Google's own client library uploads to the store: unmodified, and against a real server."""

import asyncio
import io
import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.resumable_media.common import InvalidResponse
from google.resumable_media.requests import ResumableUpload

from echo_core.plugin_api import BeginUpload, ReadObject, UploadRef

CHUNK = 256 * 1024
SIZE = 3 * CHUNK + 12345
DATA = os.urandom(SIZE)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


async def begin(storage, size: int | None) -> Any:
    return await storage.begin_upload(BeginUpload(key="v/a.mp4", content_type="video/mp4", size_bytes=size))


def transmit(upload: ResumableUpload, session: requests.Session) -> requests.Response:
    while not upload.finished:
        response = upload.transmit_next_chunk(session, timeout=30)
    return response


async def read_all(storage) -> bytes:
    return b"".join([piece async for piece in storage.open_read(ReadObject(key="v/a.mp4"))])


@pytest.mark.parametrize("size_known", [True, False])
async def test_google_client_uploads_and_its_checksum_agrees(storage, http, session, size_known: bool) -> None:
    ticket = await begin(storage, SIZE if size_known else None)
    upload = ResumableUpload(ticket.url, CHUNK, checksum="crc32c")

    def run() -> dict[str, str]:
        upload.initiate(session, io.BytesIO(DATA), {}, "video/mp4", stream_final=size_known, timeout=30)
        return transmit(upload, session).json()

    facts = await asyncio.to_thread(run)
    assert (facts["name"], facts["size"], facts["contentType"]) == ("v/a.mp4", str(SIZE), "video/mp4")
    assert await read_all(storage) == DATA
    assert facts["generation"] == (await storage.stat("v/a.mp4")).generation


async def test_google_client_uploads_nothing(storage, http, session) -> None:
    ticket = await begin(storage, 0)
    upload = ResumableUpload(ticket.url, CHUNK)

    def run() -> None:
        upload.initiate(session, io.BytesIO(b""), {}, "video/mp4", timeout=30)
        transmit(upload, session)

    await asyncio.to_thread(run)
    assert (await storage.stat("v/a.mp4")).size_bytes == 0


async def test_google_client_recovers_from_another_clients_half(storage, http, session) -> None:
    ticket = await begin(storage, SIZE)
    await http.put(ticket.url, content=DATA[:CHUNK], headers={"content-range": f"bytes 0-{CHUNK - 1}/{SIZE}"})
    upload = ResumableUpload(ticket.url, CHUNK)

    def run() -> None:
        upload.initiate(session, io.BytesIO(DATA), {}, "video/mp4", timeout=30)
        upload._make_invalid()  # what the library does itself when a chunk fails
        upload.recover(session)
        assert upload.bytes_uploaded == CHUNK
        transmit(upload, session)

    await asyncio.to_thread(run)
    assert await read_all(storage) == DATA


async def test_google_client_is_told_when_the_upload_is_gone(storage, http, session) -> None:
    ticket = await begin(storage, SIZE)
    upload = ResumableUpload(ticket.url, CHUNK)
    await asyncio.to_thread(upload.initiate, session, io.BytesIO(DATA), {}, "video/mp4", timeout=30)
    await storage.abort_upload(UploadRef(key="v/a.mp4", state=ticket.state))
    with pytest.raises(InvalidResponse) as caught:
        await asyncio.to_thread(transmit, upload, session)
    assert caught.value.response.status_code == 410


async def test_announced_size_that_contradicts_the_agreed_one_is_refused_at_the_start(storage, http, session) -> None:
    ticket = await begin(storage, SIZE)
    upload = ResumableUpload(ticket.url, CHUNK)
    with pytest.raises(InvalidResponse) as caught:
        await asyncio.to_thread(upload.initiate, session, io.BytesIO(DATA + b"x"), {}, "video/mp4", timeout=30)
    assert caught.value.response.json()["code"] == "size_mismatch"
