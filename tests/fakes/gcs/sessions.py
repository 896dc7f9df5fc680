"""Resumable uploads: the session URI is the secret, and what was stored is what counts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.fakes.gcs.call import Answer, json_answer
from tests.fakes.gcs.content import UNIT_BYTES, Sink
from tests.fakes.gcs.errors import Disconnected, Refusal
from tests.fakes.gcs.objects import Draft, StoredObject

if TYPE_CHECKING:
    from tests.fakes.gcs.call import Call

WEEK_S = 7 * 24 * 3600
_CONTENT_RANGE = re.compile(r"^bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)$")


@dataclass
class Session:
    """One upload on its way. ``declared`` is the size that its start or an accepted chunk gave."""

    id: str
    draft: Draft
    sink: Sink
    opened_at: float
    xml: bool = False
    origin: str | None = None
    declared: int | None = None
    completed: StoredObject | None = None
    gone: int | None = None
    writer: object = field(default_factory=object)

    @property
    def stored(self) -> int:
        """How many bytes are safe."""
        return self.sink.size

    def end(self, status: int) -> None:
        """Answer with that from now on; what was stored goes."""
        self.gone = status
        self.writer = object()
        if self.completed is None:
            self.sink.discard()


@dataclass(frozen=True)
class Span:
    """What a PUT says that it carries: [first, end) of total; end None: to the end of the body; probe: nothing."""

    first: int = 0
    end: int | None = None
    total: int | None = None
    probe: bool = False

    @property
    def final(self) -> bool:
        """Whether the object is complete with it."""
        return not self.probe and (self.end is None or self.end == self.total)


def open_session(call: Call, draft: Draft, *, xml: bool = False) -> Session:
    """Begin an upload; that its name is taken shows only at its end."""
    length = call.headers.get("x-upload-content-length")
    if length is not None and not length.isdecimal():
        raise Refusal(400, "Invalid X-Upload-Content-Length.")
    declared = None if length is None else int(length)
    if declared is not None:
        draft.check_size(declared)
    session = Session(
        id=call.world.secret(draft.bucket, draft.name),
        draft=draft,
        sink=call.world.new_sink(),
        opened_at=call.world.clock.now(),
        xml=xml,
        origin=call.headers.get("origin"),
        declared=declared,
    )
    call.world.sessions[session.id] = session
    return session


def find_session(call: Call) -> Session | None:
    """The session whose URI was asked, if there ever was one."""
    return call.world.sessions.get(call.query.get("upload_id", ""))


async def handle(call: Call) -> Answer:
    """A request to a session URI."""
    session = find_session(call)
    if session is None:
        raise Refusal(404, "No such upload session.", code="NoSuchUpload")
    if call.fault and call.fault.session_gone:
        session.end(call.fault.session_gone)
    if session.gone:
        raise Refusal(session.gone, "The upload session is not there any more.", code="NoSuchUpload")
    if call.world.clock.now() - session.opened_at > WEEK_S:
        session.end(410)
        raise Refusal(410, "The upload session has expired.")
    if call.method == "DELETE":
        session.end(404)
        raise Refusal(499, "The upload was cancelled.")
    if call.method not in {"PUT", "POST"}:
        raise Refusal(501, f"The fake knows no {call.method} of a session.")
    if session.completed is None:
        span = _span(call, session)
        if span.probe:
            await _nothing_comes(call)
        else:
            await _receive(call, session, span)
        if not (span.final or (span.probe and span.total == session.stored)) or _kept_less(call):
            return _incomplete(session)
        await _complete(call, session)
    else:
        await call.body.drain()
    return _complete_answer(call, session)


def _span(call: Call, session: Session) -> Span:
    header, length = call.headers.get("content-range"), call.headers.get("content-length")
    if header is None:
        span = Span()
    else:
        found = _CONTENT_RANGE.match(header)
        if not found:
            raise Refusal(400, f"Failed to parse Content-Range header: {header}")
        first, last, total = found.groups()
        size = None if total == "*" else int(total)
        span = Span(total=size, probe=True) if first is None else Span(int(first), int(last) + 1, size)
    if span.probe and length not in {None, "0"}:
        raise Refusal(400, "A status request has no body.")
    if span.end is not None and span.end <= span.first:
        raise Refusal(400, f"Failed to parse Content-Range header: {header}")
    if span.total is not None and (span.end or 0) > span.total:
        raise Refusal(400, "Content-Range ends after the size that it gives.")
    if span.total is not None and session.declared is not None and span.total != session.declared:
        raise Refusal(400, f"The size {span.total} is not the one declared before, {session.declared}.")
    if span.probe and span.total is not None and span.total < session.stored:
        raise Refusal(400, f"More than {span.total} bytes are stored already.")
    if session.declared is not None and (span.end or 0) > session.declared:
        raise Refusal(400, f"More bytes than the {session.declared} declared.")
    if span.end is not None and length is not None and int(length) != span.end - span.first:
        raise Refusal(400, "Content-Range and Content-Length differ.")
    if span.end is not None and not span.final and (span.end - span.first) % UNIT_BYTES:
        raise Refusal(400, f"A chunk that is not the last has a multiple of {UNIT_BYTES} bytes.")
    if span.first > session.stored:
        raise Refusal(503, f"Bytes from {session.stored} on are missing.")
    return span


async def _nothing_comes(call: Call) -> None:
    async for _ in call.body:
        raise Refusal(400, "A status request has no body.")


def _kept_less(call: Call) -> bool:
    return bool(call.fault and call.fault.keep_bytes is not None)


async def _receive(call: Call, session: Session, span: Span) -> None:
    """Store the span's bytes that are new. A refusal takes all of them back; who goes away leaves whole units."""
    session.writer = mine = object()
    sink, mark, fault = session.sink, session.sink.mark(), call.fault
    sink.drop_tail()
    skip, received, kept = sink.size - span.first, 0, 0
    keep = None if fault is None else fault.keep_bytes if fault.keep_bytes is not None else fault.fail_after
    most = span.end - span.first if span.end is not None else session.declared
    try:
        async for chunk in call.body:
            if session.writer is not mine:
                raise Refusal(503, "Another request has taken over this upload.")
            received += len(chunk)
            if most is not None and received > most:
                raise Refusal(400, "The body is longer than was said.")
            session.draft.check_size(span.first + received, final=False)
            new, skip = chunk[skip:], max(0, skip - len(chunk))
            if keep is not None:
                new = new[: keep - kept]
            kept += len(new)
            sink.feed(new)
            if fault and fault.fail_after is not None and kept >= fault.fail_after:
                sink.drop_tail()
                raise Refusal(503, "Backend Error")
        if session.writer is not mine:
            raise Refusal(503, "Another request has taken over this upload.")
        if most is not None and received != most:
            raise Refusal(400, "The body is shorter than was said.")
    except Disconnected:
        if session.writer is mine:
            sink.drop_tail()
        raise
    except Refusal as refusal:
        if session.writer is mine and refusal.status == 400:
            sink.back_to(mark)
            if refusal.code == "EntityTooLarge":
                session.end(404)
        raise
    if span.total is not None:
        session.declared = span.total
    if span.final and not _kept_less(call):
        sink.flush()
    else:
        sink.drop_tail()


def _incomplete(session: Session) -> Answer:
    headers = [("Range", f"bytes=0-{session.stored - 1}")] if session.stored else []
    return Answer(308, [*headers, ("X-GUploader-UploadID", session.id)])


async def _complete(call: Call, session: Session) -> None:
    session.draft.expect_hashes(call.headers)
    try:
        corrupt = bool(call.fault and call.fault.corrupt)
        session.completed = call.world.place(session.draft, session.sink, corrupt=corrupt)
    except Refusal:
        session.end(404)
        raise


def _complete_answer(call: Call, session: Session) -> Answer:
    assert session.completed is not None
    if session.xml:
        return Answer(200, stored_headers(session.completed))
    return json_answer(session.completed.resource(call.base), headers=[("ETag", session.completed.etag)])


def stored_headers(stored: StoredObject) -> list[tuple[str, str]]:
    """What the XML API says of an object in headers."""
    hashes = [("x-goog-hash", f"crc32c={stored.crc32c}")]
    if stored.md5 is not None:
        hashes.append(("x-goog-hash", f"md5={stored.md5}"))
    return [
        ("x-goog-generation", str(stored.generation)),
        ("x-goog-metageneration", str(stored.metageneration)),
        *hashes,
        ("x-goog-stored-content-encoding", str(stored.fields.get("contentEncoding", "identity"))),
        ("x-goog-stored-content-length", str(stored.size)),
        ("x-goog-storage-class", "STANDARD"),
        ("ETag", stored.xml_etag),
    ]
