"""Uploading one file: announce, send, complete, and go on where an earlier run stopped."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx2

from echo_core.entrypoints.cli.api import Answer, ApiClient
from echo_core.entrypoints.cli.backoff import Backoff
from echo_core.entrypoints.cli.contract import CompletedUpload, UploadSession
from echo_core.entrypoints.cli.problems import ApiError, CliError
from echo_core.entrypoints.cli.records import OpenRecord
from echo_core.entrypoints.cli.resumable import Destination, ResumableSender, SessionGoneError
from echo_core.entrypoints.cli.sources import SourceFile

MAX_FRESH_ADDRESSES = 5
"""How often one run asks for another upload address: they live a day, so more means that something else is wrong."""
RESUMABLE, IN_ONE_PUT = "google-resumable", "signed-put"
_COMPLETED = "upload_completed"
_KEY_REUSED = "idempotency_key_reused"
"""The record is of an echoctl that announced the same file in other words."""
_LOST = frozenset({"not_found", "upload_expired"})
"""The server has forgotten the upload: start over."""
_TO_RESUME = frozenset({"upload_incomplete", "upload_gone"})
"""Bytes are missing, or the storage has lost them: resuming tells where to go on."""
_QUARANTINED = frozenset({"upload_size_mismatch", "upload_content_type_mismatch", "upload_checksum_mismatch"})
"""What is stored is not this file, and nothing can be made of it."""


class UploadView(Protocol):
    """What an upload shows while it runs."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def sent(self, offset_bytes: int) -> None:
        """How many bytes have been handed over."""


class _StartOverError(Exception):
    """The upload of the record does not exist any more."""


@dataclass(frozen=True, kw_only=True)
class Uploader:
    """Uploads one file in one user's name. ``open_record`` is that file's, locked."""

    api: ApiClient
    http: httpx2.AsyncClient
    source: SourceFile
    remembered: OpenRecord
    view: UploadView
    title: str | None = None
    backoff: Backoff = field(default_factory=Backoff)

    async def run(self) -> CompletedUpload:
        """Upload, or continue to. Raises ``CliError``; what was sent is kept and the next run continues."""
        record = self.remembered.record
        if record.job_id:
            self.view.note("All of it was uploaded before.")
            self.view.sent(self.source.size_bytes)
            return CompletedUpload(video_id=record.video_id, job_id=record.job_id, status="")
        try:
            return await self._upload()
        except _StartOverError:
            self.view.note("The server has forgotten this upload; it starts from the beginning.")
            self.remembered.start_over()
            try:
                return await self._upload()
            except _StartOverError as error:
                raise _vanishing() from error
        except CliError as error:
            if error.code == "file_changed" or error.code in _QUARANTINED:
                await self._give_up()
            raise

    async def _upload(self) -> CompletedUpload:
        fresh = not self.remembered.record.video_id
        session = await (self._begin() if fresh else self._resume())
        if self.title:
            await self.api.send("PUT", f"/videos/{session.video_id}/metadata", body={"title": self.title})
        for _ in range(MAX_FRESH_ADDRESSES):
            try:
                await self._send(session, fresh=fresh)
                return await self._complete()
            except SessionGoneError as error:
                gone = error.problem
            except ApiError as error:
                if error.code in _LOST:
                    raise _StartOverError from error
                if error.code not in _TO_RESUME:
                    raise
                gone = error
            fresh = False
            session = await self._resume()
        raise gone

    async def _begin(self) -> UploadSession:
        self.remembered.save()
        body = {
            "filename": self.source.path.name,
            "contentType": self.source.content_type,
            "sizeBytes": self.source.size_bytes,
            "protocols": [RESUMABLE, IN_ONE_PUT],
        }
        record = self.remembered.record
        try:
            session = await self._call(
                UploadSession, "/videos/signed-upload-url", body, record.idempotency_key, may_lack="protocols"
            )
        except ApiError as error:
            if error.code == _KEY_REUSED:
                raise _StartOverError from error
            raise
        record.video_id, record.storage_path = session.video_id, session.storage_path
        self.remembered.save()
        return session

    async def _resume(self) -> UploadSession:
        """A fresh address for the upload of the record. Raises ``_StartOverError``."""
        record = self.remembered.record
        try:
            session = await self.api.call(
                UploadSession,
                "POST",
                f"/videos/{record.video_id}/upload/resume",
                # A new key each time: the same one would bring the old address again.
                idempotency_key=f"{record.idempotency_key}-{uuid.uuid4().hex}",
            )
        except ApiError as error:
            if error.code == _COMPLETED:
                return UploadSession(video_id=record.video_id, storage_path=record.storage_path, complete=True)
            # A server of the version before cannot begin a forgotten upload again.
            if error.code in _LOST or error.code in _QUARANTINED or error.code == "upload_gone":
                raise _StartOverError from error
            raise
        if session.offset_bytes:
            self.view.note(f"Continuing after {session.offset_bytes} of {self.source.size_bytes} bytes.")
        elif session.offset_bytes == 0:
            self.view.sent(0)
        return session

    async def _send(self, session: UploadSession, *, fresh: bool) -> None:
        if session.complete or session.upload_url is None or session.upload is None:
            self.view.sent(self.source.size_bytes)
            return
        if session.upload.protocol not in {RESUMABLE, IN_ONE_PUT}:
            raise CliError(
                f"The server wants uploads by {session.upload.protocol!r}, which this echoctl does not speak.",
                code="protocol_not_supported",
                remedy="Install the version of echoctl that belongs to the server.",
            )
        destination = Destination(
            url=self.api.absolute(session.upload_url),
            headers=session.upload.headers,
            chunk_size_bytes=session.upload.chunk_size_bytes,
        )
        sender = ResumableSender(self.http, self.source, destination, backoff=self.backoff, on_sent=self.view.sent)
        if session.upload.protocol == IN_ONE_PUT:
            await sender.send_at_once()
        else:
            await sender.send(fresh=fresh)

    async def _complete(self) -> CompletedUpload:
        record = self.remembered.record
        body = {
            "videoId": record.video_id,
            "originalFilename": self.source.path.name,
            "storagePath": record.storage_path,
            "contentType": self.source.content_type,
            "sizeBytes": self.source.size_bytes,
        }
        if (checksum := await asyncio.to_thread(self.source.checksum)) is not None:
            body["checksum"] = checksum
        completed = await self._call(
            CompletedUpload,
            "/videos/upload-complete",
            body,
            f"{record.idempotency_key}-complete",
            may_lack="checksum",
        )
        record.job_id = completed.job_id
        self.remembered.save()
        return completed

    async def _call(
        self, answer: type[Answer], path: str, body: Mapping[str, object], key: str, *, may_lack: str
    ) -> Answer:
        """A POST whose body a server of the version before may know without the field ``may_lack`` alone."""
        try:
            return await self.api.call(answer, "POST", path, body=body, idempotency_key=key)
        except ApiError as error:
            if may_lack not in body or not error.refuses_field(may_lack):
                raise
        less = {name: value for name, value in body.items() if name != may_lack}
        # A refusal uses up no key (docs/http.md), so this is still the same request to whoever answers it.
        return await self.api.call(answer, "POST", path, body=less, idempotency_key=key)

    async def _give_up(self) -> None:
        """Remove the video: its file has changed, or what was stored is not the file, so nobody will continue it."""
        record = self.remembered.record
        self.remembered.remove()
        if record.video_id:
            try:
                await self.api.send("DELETE", f"/videos/{record.video_id}")
            except CliError:
                self.view.note("The unfinished upload will disappear from the server by itself.")


def _vanishing() -> CliError:
    return CliError(
        "The server forgets uploads as soon as they begin.",
        code="upload_gone",
        remedy="Run 'echoctl doctor' on the server: its storage loses unfinished uploads.",
    )
