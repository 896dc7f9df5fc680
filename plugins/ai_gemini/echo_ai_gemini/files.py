"""Files at Google: there while they are used, and gone afterwards."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from google.genai import errors as genai_errors
from google.genai import types

from echo_ai_gemini.calls import Calls
from echo_ai_gemini.config import GeminiConfig
from echo_ai_gemini.errors import from_google
from echo_core.plugin_api import Clock, EchoError, ProviderError, UnavailableError

_log = logging.getLogger(__name__)
FIRST_LOOK_S = 0.1
LAST_LOOK_S = 5.0
DELETE_TIMEOUT_S = 0.8
"""A cancelled call is to end within a second (rule A5); what is left is swept later."""
ABANDONED_AFTER = timedelta(hours=1)
MAX_LISTED = 2000
GONE = frozenset({403, 404})


class Files:
    """The files of this instance; their names begin with ``prefix`` (up to 15 of ``a-z0-9-``)."""

    def __init__(self, calls: Calls, config: GeminiConfig, clock: Clock, prefix: str) -> None:
        self._calls = calls
        self._client = calls.client
        self._config = config
        self._clock = clock
        self._prefix = prefix

    @asynccontextmanager
    async def part(self, path: Path, content_type: str) -> AsyncIterator[types.Part]:
        """The file as part of a prompt. Vertex AI has no files of its own: there the bytes go along."""
        if self._config.is_vertex:
            data = await asyncio.to_thread(path.read_bytes)
            yield types.Part.from_bytes(data=data, mime_type=content_type)
            return
        async with self._uploaded(path, content_type) as file:
            yield types.Part.from_uri(file_uri=file.uri or "", mime_type=content_type)

    @asynccontextmanager
    async def _uploaded(self, path: Path, content_type: str) -> AsyncIterator[types.File]:
        names: list[str] = []  # given by us, so that a file is found even where the answer to its upload was lost

        async def upload() -> types.File:
            names.append(f"files/{self._prefix}-{uuid.uuid4().hex[:20]}")
            config = types.UploadFileConfig(name=names[-1], display_name=self._prefix, mime_type=content_type)
            try:
                async with asyncio.timeout(self._config.deadline_s):
                    return await self._client.aio.files.upload(file=path, config=config)
            except (KeyError, ValueError) as error:  # how the SDK says that an upload went wrong without a status
                raise UnavailableError("Gemini did not take a file.", code="ai_unavailable") from error

        try:
            yield await self._usable(await self._calls.tried(upload))
        finally:
            for name in names:
                await self._delete(name)

    async def _usable(self, file: types.File) -> types.File:
        """Wait until the file is ACTIVE: used earlier, it draws 400."""
        delay_s = FIRST_LOOK_S
        name = file.name or ""
        try:
            async with asyncio.timeout(self._config.file_deadline_s):
                while file.state != types.FileState.ACTIVE:
                    if file.state == types.FileState.FAILED:
                        raise ProviderError(
                            "Gemini could not read the sound that was sent.",
                            code="ai_file_failed",
                            remedy="Try this step again; if it stays so, let another provider do it.",
                        )
                    await asyncio.sleep(delay_s)
                    delay_s = min(delay_s * 2, LAST_LOOK_S)
                    file = await self._calls.tried(lambda: self._client.aio.files.get(name=name))
        except TimeoutError as error:
            raise UnavailableError("Gemini did not make a file usable in time.", code="ai_file_late") from error
        return file

    async def _delete(self, name: str) -> bool:
        try:
            async with asyncio.timeout(DELETE_TIMEOUT_S):
                await self._client.aio.files.delete(name=name)
        except Exception as error:
            if isinstance(error, genai_errors.ClientError) and error.code in GONE:
                return True
            if not isinstance(from_google(error), EchoError):
                raise
            _log.warning("ai.file_left", extra={"file": name, "reason": str(error)[:200]})
            return False
        return True

    async def sweep(self) -> int:
        """Delete files of this instance that a process which was killed has left. Those of others stay. Google deletes
        them by itself after 48 hours, but until then they count against 20 GB."""
        if self._config.is_vertex:
            return 0
        before = self._clock.now() - ABANDONED_AFTER
        swept = listed = 0
        abandoned: list[str] = []
        async for file in await self._calls.tried(lambda: self._client.aio.files.list(config={"page_size": 100})):
            listed += 1
            name = file.name or ""
            ours = name.startswith(f"files/{self._prefix}-")
            if ours and file.create_time is not None and file.create_time < before:
                abandoned.append(name)
            if listed >= MAX_LISTED:
                break
        for name in abandoned:
            swept += await self._delete(name)
        return swept
