"""A storage that cannot go on with an upload as it is."""

from __future__ import annotations

from echo_core.plugin_api import BeginUpload, NotFoundError, ResumeUpload, UploadTicket
from echo_core.testing.fake_storage import FakeStorage


class MovingStorage(FakeStorage):
    """Each resume opens an upload of its own, with what the one before had, and leaves that one to be aborted."""

    async def resume_upload(self, request: ResumeUpload) -> UploadTicket:
        before = self.uploads.get(request.state)
        if before is None:
            raise NotFoundError("This upload does not exist any more.", code="upload_gone")
        ticket = await self.begin_upload(
            BeginUpload(key=request.key, content_type=request.content_type, size_bytes=request.size_bytes)
        )
        self.uploads[ticket.state].data += before.data
        return ticket
