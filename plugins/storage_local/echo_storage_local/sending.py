"""The bytes of an object, from the page cache to the socket in constant memory."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from echo_core.plugin_api import UnavailableError
from echo_storage_local.config import KIB
from echo_storage_local.objects import OpenObject
from echo_storage_local.threads import IoThreads

PIECE_BYTES = 256 * KIB
"""Bytes per read and write: larger ones do not fit the processor's cache, smaller ones cost more calls."""
_THREAD_PIECE_BYTES = 4 * PIECE_BYTES
"""Where every read takes a thread (tmpfs and some network file systems have no ``RWF_NOWAIT``) the trip costs more."""
_YIELD_EVERY_PIECES = 4
_WATCHED_FROM_BYTES = 4 * PIECE_BYTES
"""From this length on we watch whether the client leaves: the server swallows what is sent to one that has left."""
_NOWAIT = getattr(os, "RWF_NOWAIT", None)
_NO_NOWAIT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class ObjectResponse(Response):
    """Sends ``[start, end)`` of an open object, and closes it.

    Bytes that are in the page cache are read right here (``RWF_NOWAIT``); only those that are not take the detour
    through a thread. That saves two thirds of the processor time of a thread per piece.
    """

    def __init__(
        self,
        opened: OpenObject,
        threads: IoThreads,
        *,
        start: int,
        end: int,
        status_code: int,
        headers: Mapping[str, str],
    ) -> None:
        self.status_code = status_code
        self.background = None
        self.body = b""
        self._opened = opened
        self._threads = threads
        self._at = start
        self._end = end
        self._nowait = _NOWAIT
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; stop when the client leaves."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD" or self._at >= self._end:
                await send({"type": "http.response.body", "body": b""})
            elif self._end - self._at <= _WATCHED_FROM_BYTES:
                await self._send_body(send, _still_here)
            else:
                leaving = asyncio.create_task(_wait_for_leave(receive))
                try:
                    await self._send_body(send, leaving.done)
                finally:
                    leaving.cancel()
        finally:
            self._opened.close()

    async def _send_body(self, send: Send, has_left: Callable[[], bool]) -> None:
        pieces = 0
        while self._at < self._end:
            at_most = PIECE_BYTES if self._nowait is not None else _THREAD_PIECE_BYTES
            piece = await self._read(min(at_most, self._end - self._at))
            self._at += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": self._at < self._end})
            pieces += 1
            if pieces % _YIELD_EVERY_PIECES == 0:
                await asyncio.sleep(0)  # neither the read nor the send need have given way to anybody
            if has_left():
                return

    async def _read(self, count: int) -> bytearray:
        piece = bytearray(count)
        read = 0
        if self._nowait is not None:
            try:
                read = os.preadv(self._opened.fd, [piece], self._at, self._nowait)
            except BlockingIOError:
                read = 0
            except OSError as error:
                if error.errno not in _NO_NOWAIT:
                    raise
                self._nowait = None
        if read == 0:
            read = await self._threads.run(os.preadv, self._opened.fd, [piece], self._at)
        if read == 0:
            raise UnavailableError("The object is shorter than it should be.", code="object_damaged")
        if read < count:
            del piece[read:]
        return piece


def _still_here() -> bool:
    return False


async def _wait_for_leave(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
