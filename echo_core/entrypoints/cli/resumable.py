"""Sending a file by Google's resumable protocol (Cloud Storage documentation, "Resumable uploads"): PUT chunks with
``Content-Range``, 308 with ``Range`` while unfinished, ``bytes */size`` to ask what is stored."""

from __future__ import annotations

import asyncio
import http
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import httpx2

from echo_core.entrypoints.cli.api import cannot_connect, problem_of
from echo_core.entrypoints.cli.backoff import Backoff, parsed_retry_after
from echo_core.entrypoints.cli.problems import ApiError, CliError
from echo_core.entrypoints.cli.sources import SourceFile

GRANULE_BYTES = 256 * 1024
"""Chunks other than the last are multiples of this (the protocol's rule)."""
PIECE_BYTES = 1024 * 1024
"""Read and handed to the socket at once: the memory that an upload takes, whatever the size of its chunks."""
RESUME_INCOMPLETE = 308
_RANGE = re.compile(r"bytes=0-(\d{1,19})")
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_GONE = frozenset({401, 403, 404, 410, 412})
"""The address has expired, is not known any more, or the file came there by another way: the server tells how to go
on."""


class SessionGoneError(Exception):
    """The upload address does not work any more. ``problem`` is what the storage said."""

    def __init__(self, problem: ApiError) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where the bytes go; ``chunk_size_bytes`` None: in one piece. ``url`` is a secret and needs no token."""

    url: str
    headers: Mapping[str, str]
    chunk_size_bytes: int | None = None


@dataclass(frozen=True)
class Stored:
    """What the server has: the first ``offset_bytes`` bytes; ``whole`` once it is an object."""

    offset_bytes: int
    whole: bool = False


def parsed_range(header: str | None) -> int:
    """How many bytes a 308 says are stored; no header: none. Raises ``ValueError`` for anything else."""
    if header is None:
        return 0
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise ValueError(f"not a Range of stored bytes: {header!r}")
    return int(match[1]) + 1


def next_chunk(offset_bytes: int, size_bytes: int, chunk_size_bytes: int | None) -> tuple[int, int]:
    """The half-open range to send next: never empty, never beyond the end, and a multiple of the granule unless it is
    the last."""
    if not 0 <= offset_bytes < size_bytes:
        raise ValueError("nothing is left to send")
    if chunk_size_bytes is None:
        return offset_bytes, size_bytes
    length = max(GRANULE_BYTES, chunk_size_bytes - chunk_size_bytes % GRANULE_BYTES)
    return offset_bytes, min(size_bytes, offset_bytes + length)


def content_range(start: int, end: int, size_bytes: int) -> str:
    """The header for the half-open range."""
    return f"bytes {start}-{end - 1}/{size_bytes}"


class ResumableSender:
    """Sends one file to one destination. ``on_sent`` hears how many bytes have been handed over so far; after a failure
    the number may fall back."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        source: SourceFile,
        destination: Destination,
        *,
        backoff: Backoff,
        on_sent: Callable[[int], None],
    ) -> None:
        self._client = client
        self._source = source
        self._to = destination
        self._backoff = backoff
        self._on_sent = on_sent
        self._chunk_size_bytes = destination.chunk_size_bytes
        self._failures = 0
        self._reached_bytes = 0

    async def send(self, *, fresh: bool) -> None:
        """Send all that is missing. ``fresh``: nothing was sent before, so the server need not be asked.

        Raises ``SessionGoneError``, ``ApiError``, ``CliError`` (``cannot_connect``, ``upload_stalled``,
        ``file_changed``).
        """
        with self._source.open() as file:
            stored = Stored(0) if fresh else None
            while stored is None or not stored.whole:
                try:
                    asking = stored is None or stored.offset_bytes >= self._source.size_bytes
                    answer = await (self._ask() if asking or stored is None else self._send_chunk(file, stored))
                    stored = await self._understand(answer)
                except httpx2.TransportError as error:
                    await self._failed(cannot_connect(self._to.url, error), None)
                    stored = None
        self._on_sent(self._source.size_bytes)

    async def send_at_once(self) -> None:
        """Send all of it in one PUT with the destination's headers and no others (``signed-put``).

        Raises ``SessionGoneError`` whenever it is not sure that the storage has it: resuming tells what it has, and by
        which way to go on.
        """
        with self._source.open() as file:
            self._source.check_unchanged(file)
            headers = {**self._to.headers, "Content-Length": str(self._source.size_bytes)}
            try:
                answer = await self._client.put(
                    self._to.url, headers=headers, content=self._pieces(file, 0, self._source.size_bytes)
                )
            except httpx2.TransportError as error:
                problem = cannot_connect(self._to.url, error)
                raise SessionGoneError(ApiError(0, problem.message, code=problem.code)) from error
        # Where the key is taken, by an answer that was lost, completing tells whether it is this file.
        if answer.status_code not in {http.HTTPStatus.OK, http.HTTPStatus.CREATED, http.HTTPStatus.PRECONDITION_FAILED}:
            raise SessionGoneError(problem_of(answer))
        self._on_sent(self._source.size_bytes)

    async def _ask(self) -> httpx2.Response:
        headers = {**self._to.headers, "Content-Range": f"bytes */{self._source.size_bytes}"}
        return await self._client.put(self._to.url, headers=headers, content=b"")

    async def _send_chunk(self, file: BinaryIO, stored: Stored) -> httpx2.Response:
        start, end = next_chunk(stored.offset_bytes, self._source.size_bytes, self._chunk_size_bytes)
        self._source.check_unchanged(file)
        headers = {
            **self._to.headers,
            "Content-Range": content_range(start, end, self._source.size_bytes),
            "Content-Length": str(end - start),
        }
        return await self._client.put(self._to.url, headers=headers, content=self._pieces(file, start, end))

    async def _pieces(self, file: BinaryIO, start: int, end: int) -> AsyncGenerator[bytes]:
        await asyncio.to_thread(file.seek, start)
        while start < end:
            piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, end - start))
            if not piece:
                raise self._source.changed()
            start += len(piece)
            yield piece
            self._on_sent(start)
        self._source.check_unchanged(file)

    async def _understand(self, answer: httpx2.Response) -> Stored | None:
        """What is stored now; None: unknown, ask."""
        status = answer.status_code
        if status in {http.HTTPStatus.OK, http.HTTPStatus.CREATED}:
            return Stored(self._source.size_bytes, whole=True)
        if status == RESUME_INCOMPLETE:
            return await self._advanced(answer)
        problem = problem_of(answer)
        if status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE and self._smaller_chunks():
            return None
        if status in _GONE:
            raise SessionGoneError(problem)
        if status in _TRANSIENT:
            await self._failed(problem, parsed_retry_after(answer.headers.get("Retry-After")))
            return None
        raise _refusal(problem)

    async def _advanced(self, answer: httpx2.Response) -> Stored | None:
        try:
            offset = parsed_range(answer.headers.get("Range"))
        except ValueError as error:
            raise CliError(f"The storage's answer makes no sense: {error}.", code="unexpected_answer") from error
        self._on_sent(min(offset, self._source.size_bytes))
        if offset > self._reached_bytes:
            self._failures = 0
            self._reached_bytes = offset
        elif offset >= self._source.size_bytes or not _asked(answer):
            # It took bytes and kept none, or has them all and does not finish.
            await self._failed(_stalled(), None)
        return Stored(offset)

    def _smaller_chunks(self) -> bool:
        """A proxy on the way has a limit on bodies: halve the chunks, as long as they can be halved."""
        now = self._chunk_size_bytes or self._source.size_bytes
        if min(now, self._source.size_bytes) <= GRANULE_BYTES:
            return False
        half = min(now, self._source.size_bytes) // 2
        self._chunk_size_bytes = max(GRANULE_BYTES, half - half % GRANULE_BYTES)
        return True

    async def _failed(self, problem: CliError, retry_after_s: float | None) -> None:
        self._failures += 1
        if self._backoff.exhausted(self._failures):
            raise problem
        await self._backoff.wait(self._failures, retry_after_s)


def _asked(answer: httpx2.Response) -> bool:
    return str(answer.request.headers.get("Content-Range", "")).startswith("bytes *")


def _stalled() -> CliError:
    return CliError(
        "The storage takes the bytes and does not keep them.",
        code="upload_stalled",
        remedy="Run the same command again to continue; if it stays so, look at the storage with 'echoctl doctor'.",
    )


def _refusal(problem: ApiError) -> ApiError:
    if problem.status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE and not problem.remedy:
        problem.remedy = "A proxy on the way refuses bodies of 256 KiB; raise its limit (nginx: client_max_body_size)."
    return problem
