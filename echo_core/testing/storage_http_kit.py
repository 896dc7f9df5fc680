"""The rules of storage that show in HTTP: signed reads (S8) and the resumable upload protocol (S9, S10)."""

# ruff: noqa: D102 - the name of a test says what it checks

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import httpx2
import pytest

from echo_core.plugin_api import (
    BeginUpload,
    NotFoundError,
    ReadObject,
    ReadUrl,
    ResumeUpload,
    StorageBackend,
    UploadRef,
    UploadTicket,
)
from echo_core.testing.storage_probe import VIDEO, list_keys, put_bytes, raises_code, read_bytes

GRANULE_BYTES = 256 * 1024
DATA = bytes(range(251)) * 4178
"""A little under four granules, and no granule like another."""
DIGITS = b"0123456789"


class StorageUrlTests:
    """Everything is asked over the URLs that the backend gave out, as any client would."""

    urls_unreachable: ClassVar[str] = ""

    @pytest.fixture
    async def http(self) -> AsyncIterator[httpx2.AsyncClient]:
        """A client that follows nothing and keeps nothing."""
        if self.urls_unreachable:
            pytest.skip(self.urls_unreachable)
        async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
            yield client

    @pytest.fixture
    def advance_clock(self) -> Callable[[float], None]:
        """Moves the clock that the backend uses; override it if you can."""
        pytest.skip("the fixture `advance_clock` is not overridden: expiry is not tested")

    async def test_s8_get_and_head(self, storage: StorageBackend, http: httpx2.AsyncClient, tmp_path: Path) -> None:
        await put_bytes(storage, tmp_path, "a/b.mp4", DATA)
        url = (await storage.read_url(ReadUrl(key="a/b.mp4", expires_in_s=60))).url
        got = await http.get(url)
        assert (got.status_code, got.content) == (200, DATA)
        head = await http.head((await storage.read_url(ReadUrl(key="a/b.mp4", expires_in_s=60, method="HEAD"))).url)
        assert (head.status_code, head.content) == (200, b"")
        for answer in (got, head):
            assert answer.headers["content-length"] == str(len(DATA))
            assert answer.headers["content-type"] == VIDEO
            assert answer.headers["accept-ranges"] == "bytes"
            assert answer.headers["etag"].startswith('"')

    @pytest.mark.parametrize(
        ("header", "start", "end"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=2-4", 2, 5),
            ("bytes=9-9", 9, 10),
            ("bytes=5-", 5, 10),
            ("bytes=-3", 7, 10),
            ("bytes=-99", 0, 10),
            ("bytes=4-99", 4, 10),
            ("bytes=0-", 0, 10),
        ],
    )
    async def test_s8_range(
        self, storage: StorageBackend, http: httpx2.AsyncClient, tmp_path: Path, header: str, start: int, end: int
    ) -> None:
        await put_bytes(storage, tmp_path, "a", DIGITS)
        url = (await storage.read_url(ReadUrl(key="a", expires_in_s=60))).url
        answer = await http.get(url, headers={"range": header})
        assert (answer.status_code, answer.content) == (206, DIGITS[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/10"

    @pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-10", "bytes=999-1000"])
    async def test_s8_range_behind_the_end_is_416(
        self, storage: StorageBackend, http: httpx2.AsyncClient, tmp_path: Path, header: str
    ) -> None:
        await put_bytes(storage, tmp_path, "a", DIGITS)
        url = (await storage.read_url(ReadUrl(key="a", expires_in_s=60))).url
        answer = await http.get(url, headers={"range": header})
        assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")

    async def test_s8_etag_is_strong_and_conditional_requests_work(
        self, storage: StorageBackend, http: httpx2.AsyncClient, tmp_path: Path
    ) -> None:
        await put_bytes(storage, tmp_path, "a", DIGITS)
        url = (await storage.read_url(ReadUrl(key="a", expires_in_s=60))).url
        etag = (await http.get(url)).headers["etag"]
        assert etag == (await http.get(url)).headers["etag"]
        assert (await http.get(url, headers={"if-none-match": etag})).status_code == 304
        same = await http.get(url, headers={"range": "bytes=0-1", "if-range": etag})
        other = await http.get(url, headers={"range": "bytes=0-1", "if-range": '"another"'})
        assert (same.status_code, other.status_code, other.content) == (206, 200, DIGITS)

    async def test_s8_missing_object_is_404(self, storage: StorageBackend, http: httpx2.AsyncClient) -> None:
        url = (await storage.read_url(ReadUrl(key="not/there", expires_in_s=60))).url
        assert (await http.get(url)).status_code == 404

    async def test_s8_content_type_and_filename_are_signed_into_the_url(
        self, storage: StorageBackend, http: httpx2.AsyncClient, tmp_path: Path
    ) -> None:
        await put_bytes(storage, tmp_path, "a", DIGITS)
        request = ReadUrl(key="a", expires_in_s=60, content_type="text/vtt", filename='Mein "Film" für 5 €.mp4')
        answer = await http.get((await storage.read_url(request)).url)
        assert answer.headers["content-type"].startswith("text/vtt")
        disposition = answer.headers["content-disposition"]
        assert disposition.startswith("attachment")
        assert "%E2%82%AC.mp4" in disposition

    async def test_s8_generation_pins_what_is_read(
        self, storage: StorageBackend, http: httpx2.AsyncClient, tmp_path: Path
    ) -> None:
        first = await put_bytes(storage, tmp_path, "a", b"first")
        pinned = ReadUrl(key="a", expires_in_s=60, generation=first.generation)
        url = (await storage.read_url(pinned)).url
        assert (await http.get(url)).content == b"first"
        await storage.delete("a")
        await put_bytes(storage, tmp_path, "a", b"other")
        assert 400 <= (await http.get(url)).status_code < 500

    async def test_s8_url_expires(
        self,
        storage: StorageBackend,
        http: httpx2.AsyncClient,
        tmp_path: Path,
        advance_clock: Callable[[float], None],
    ) -> None:
        await put_bytes(storage, tmp_path, "a", DIGITS)
        signed = await storage.read_url(ReadUrl(key="a", expires_in_s=60))
        advance_clock(58)
        assert (await http.get(signed.url)).status_code == 200
        advance_clock(3)
        assert (await http.get(signed.url)).status_code in {400, 403, 410}

    @pytest.mark.parametrize("access", ["read", "upload"])
    async def test_s8_s9_changed_url_is_refused(
        self, storage: StorageBackend, http: httpx2.AsyncClient, tmp_path: Path, access: str
    ) -> None:
        if access == "read":
            await put_bytes(storage, tmp_path, "a", DIGITS)
            url = (await storage.read_url(ReadUrl(key="a", expires_in_s=60))).url
        else:
            url = (await self._begin(storage, 10)).url
        method = "GET" if access == "read" else "PUT"
        body = None if access == "read" else DIGITS
        for changed in (url[:-1] + ("A" if url[-1] != "A" else "B"), url[:-4], url.split("?")[0]):
            answer = await http.request(method, changed, content=body)
            assert 400 <= answer.status_code < 500
        if access == "upload":
            assert await list_keys(storage) == []

    async def _begin(self, storage: StorageBackend, size_bytes: int | None, key: str = "up/a") -> UploadTicket:
        request = BeginUpload(key=key, content_type=VIDEO, size_bytes=size_bytes, max_size_bytes=2 * len(DATA))
        return await storage.begin_upload(request)

    async def _send(
        self, http: httpx2.AsyncClient, ticket: UploadTicket, start: int, end: int, total: int | str
    ) -> httpx2.Response:
        headers = {**ticket.headers, "content-range": f"bytes {start}-{end - 1}/{total}"}
        return await http.put(ticket.url, content=DATA[start:end], headers=headers)

    async def _ask(self, http: httpx2.AsyncClient, ticket: UploadTicket, total: int | str) -> httpx2.Response:
        return await http.put(ticket.url, headers={**ticket.headers, "content-range": f"bytes */{total}"})

    async def test_s9_one_put_without_content_range(self, storage: StorageBackend, http: httpx2.AsyncClient) -> None:
        ticket = await self._begin(storage, len(DATA))
        answer = await http.put(ticket.url, content=DATA, headers=dict(ticket.headers))
        assert answer.status_code in {200, 201}
        info = await storage.stat("up/a")
        assert (info.size_bytes, info.content_type) == (len(DATA), VIDEO)
        assert await read_bytes(storage, ReadObject(key="up/a")) == DATA

    @pytest.mark.parametrize("size_known", [True, False])
    async def test_s9_chunks(self, storage: StorageBackend, http: httpx2.AsyncClient, size_known: bool) -> None:
        ticket = await self._begin(storage, len(DATA) if size_known else None)
        assert ticket.chunk_size_bytes is None or ticket.chunk_size_bytes % GRANULE_BYTES == 0
        asked = await self._ask(http, ticket, "*")
        assert (asked.status_code, "range" in asked.headers) == (308, False)
        for start in range(0, len(DATA), GRANULE_BYTES):
            end = min(start + GRANULE_BYTES, len(DATA))
            total = len(DATA) if size_known or end == len(DATA) else "*"
            answer = await self._send(http, ticket, start, end, total)
            if end < len(DATA):
                assert (answer.status_code, answer.headers["range"]) == (308, f"bytes=0-{end - 1}")
                asked = await self._ask(http, ticket, total)
                assert (asked.status_code, asked.headers["range"]) == (308, f"bytes=0-{end - 1}")
                found = await storage.upload_offset(UploadRef(key="up/a", state=ticket.state))
                assert (found.offset_bytes, found.complete) == (end, False)
                assert await list_keys(storage) == []
        assert answer.status_code in {200, 201}
        assert await read_bytes(storage, ReadObject(key="up/a")) == DATA
        found = await storage.upload_offset(UploadRef(key="up/a", state=ticket.state))
        assert (found.offset_bytes, found.complete) == (len(DATA), True)

    async def test_s9_bytes_sent_again_are_ignored(self, storage: StorageBackend, http: httpx2.AsyncClient) -> None:
        ticket = await self._begin(storage, len(DATA))
        await self._send(http, ticket, 0, 2 * GRANULE_BYTES, len(DATA))
        again = await self._send(http, ticket, 0, GRANULE_BYTES, len(DATA))
        assert (again.status_code, again.headers["range"]) == (308, f"bytes=0-{2 * GRANULE_BYTES - 1}")
        overlapping = await self._send(http, ticket, GRANULE_BYTES, 3 * GRANULE_BYTES, len(DATA))
        assert overlapping.headers["range"] == f"bytes=0-{3 * GRANULE_BYTES - 1}"
        assert (await self._send(http, ticket, 0, len(DATA), len(DATA))).status_code in {200, 201}
        assert await read_bytes(storage, ReadObject(key="up/a")) == DATA
        for answer in (await self._ask(http, ticket, len(DATA)), await self._send(http, ticket, 0, 9, len(DATA))):
            assert answer.status_code in {200, 201}

    async def test_s9_gap_is_never_accepted(self, storage: StorageBackend, http: httpx2.AsyncClient) -> None:
        ticket = await self._begin(storage, len(DATA))
        await self._send(http, ticket, 0, GRANULE_BYTES, len(DATA))
        for end in (3 * GRANULE_BYTES, len(DATA)):
            answer = await self._send(http, ticket, 2 * GRANULE_BYTES, end, len(DATA))
            assert 400 <= answer.status_code < 600
        assert (await self._ask(http, ticket, len(DATA))).headers["range"] == f"bytes=0-{GRANULE_BYTES - 1}"

    @pytest.mark.parametrize(
        "content_range",
        [
            f"bytes 0-9/{len(DATA) + 1}",
            f"bytes 0-{len(DATA)}/{len(DATA)}",
            f"bytes 5-0/{len(DATA)}",
            "bytes 0-9/10",
            "bytes",
            "pages 0-9/10",
            "bytes 0-9",
            "bytes -9/10",
        ],
    )
    async def test_s9_contradiction_is_refused_and_not_stored(
        self, storage: StorageBackend, http: httpx2.AsyncClient, content_range: str
    ) -> None:
        ticket = await self._begin(storage, len(DATA))
        answer = await http.put(ticket.url, content=DIGITS, headers={**ticket.headers, "content-range": content_range})
        assert 400 <= answer.status_code < 500
        assert "range" not in (await self._ask(http, ticket, len(DATA))).headers

    @pytest.mark.parametrize("excess", [1, len(DATA)])
    async def test_s9_longer_body_is_refused_and_not_stored(
        self, storage: StorageBackend, http: httpx2.AsyncClient, excess: int
    ) -> None:
        ticket = await self._begin(storage, len(DATA))
        answer = await http.put(ticket.url, content=DATA + b"x" * excess, headers=dict(ticket.headers))
        assert 400 <= answer.status_code < 500
        assert await list_keys(storage) == []
        assert (await http.put(ticket.url, content=DATA, headers=dict(ticket.headers))).status_code in {200, 201}

    async def test_s9_bound_of_an_upload_of_unknown_size(
        self, storage: StorageBackend, http: httpx2.AsyncClient
    ) -> None:
        ticket = await self._begin(storage, None)
        answer = await http.put(ticket.url, content=DATA * 2 + b"x", headers=dict(ticket.headers))
        assert 400 <= answer.status_code < 500
        assert await list_keys(storage) == []

    async def test_s9_signed_put_takes_the_whole_object_and_nothing_else(
        self, storage: StorageBackend, http: httpx2.AsyncClient
    ) -> None:
        request = BeginUpload(
            key="up/a", content_type=VIDEO, size_bytes=len(DIGITS), protocols=("google-resumable", "signed-put")
        )
        ticket = await storage.begin_upload(request)
        if ticket.protocol != "signed-put":
            pytest.skip("this storage gives no signed PUT")
        reference = UploadRef(key="up/a", state=ticket.state)
        assert (await storage.upload_offset(reference)).complete is False
        for body in (b"", DIGITS[:-1], DIGITS + b"x"):
            answer = await http.put(ticket.url, content=body, headers=dict(ticket.headers))
            assert 400 <= answer.status_code < 500
        assert await list_keys(storage) == []
        assert (await http.put(ticket.url, content=DIGITS, headers=dict(ticket.headers))).status_code in {200, 201}
        found = await storage.upload_offset(reference)
        assert (found.offset_bytes, found.complete) == (len(DIGITS), True)
        info = await storage.stat("up/a")
        assert (info.size_bytes, info.content_type) == (len(DIGITS), VIDEO)

    async def test_s9_empty_upload(self, storage: StorageBackend, http: httpx2.AsyncClient) -> None:
        ticket = await self._begin(storage, 0)
        assert (await self._ask(http, ticket, 0)).status_code in {200, 201}
        assert (await storage.stat("up/a")).size_bytes == 0

    @pytest.mark.parametrize(("stored", "accepted"), [(DATA, True), (b"other", False)])
    async def test_s3_key_that_was_taken_meanwhile(
        self, storage: StorageBackend, http: httpx2.AsyncClient, tmp_path: Path, stored: bytes, accepted: bool
    ) -> None:
        ticket = await self._begin(storage, len(DATA))
        before = await put_bytes(storage, tmp_path, "up/a", stored)
        answer = await http.put(ticket.url, content=DATA, headers=dict(ticket.headers))
        assert answer.status_code in ({200, 201, 412} if accepted else {412})
        assert await storage.stat("up/a") == before

    async def test_s10_fresh_url_goes_on_where_the_upload_was(
        self, storage: StorageBackend, http: httpx2.AsyncClient
    ) -> None:
        ticket = await self._begin(storage, len(DATA))
        await self._send(http, ticket, 0, GRANULE_BYTES, len(DATA))
        resume = ResumeUpload(key="up/a", state=ticket.state, content_type=VIDEO, size_bytes=len(DATA))
        fresh = await storage.resume_upload(resume)
        assert (await self._ask(http, fresh, len(DATA))).headers["range"] == f"bytes=0-{GRANULE_BYTES - 1}"
        assert (await self._send(http, fresh, GRANULE_BYTES, len(DATA), len(DATA))).status_code in {200, 201}
        assert await read_bytes(storage, ReadObject(key="up/a")) == DATA

    async def test_s10_another_state_is_another_upload(self, storage: StorageBackend, http: httpx2.AsyncClient) -> None:
        """The kernel aborts an upload whose place another one has taken."""
        ticket = await self._begin(storage, len(DATA))
        await self._send(http, ticket, 0, GRANULE_BYTES, len(DATA))
        resume = ResumeUpload(key="up/a", state=ticket.state, content_type=VIDEO, size_bytes=len(DATA))
        fresh = await storage.resume_upload(resume)
        if fresh.state != ticket.state and storage.supports_upload_abort:
            await storage.abort_upload(UploadRef(key="up/a", state=ticket.state))
        stored = (await storage.upload_offset(UploadRef(key="up/a", state=fresh.state))).offset_bytes
        assert (await self._send(http, fresh, stored, len(DATA), len(DATA))).status_code in {200, 201}
        assert await read_bytes(storage, ReadObject(key="up/a")) == DATA

    @pytest.mark.parametrize("over_http", [True, False])
    async def test_s10_aborted_upload_is_gone(
        self, storage: StorageBackend, http: httpx2.AsyncClient, over_http: bool
    ) -> None:
        if not storage.supports_upload_abort:
            pytest.skip("supports_upload_abort is False")
        ticket = await self._begin(storage, len(DATA))
        await self._send(http, ticket, 0, GRANULE_BYTES, len(DATA))
        if over_http:
            assert (await http.delete(ticket.url)).status_code in {204, 499}
        else:
            await storage.abort_upload(UploadRef(key="up/a", state=ticket.state))
        assert (await self._send(http, ticket, 0, len(DATA), len(DATA))).status_code in {404, 410}
        with raises_code(NotFoundError, "upload_gone"):
            await storage.upload_offset(UploadRef(key="up/a", state=ticket.state))
        assert await list_keys(storage) == []
