"""Bounds of a connection that no application sees: how many there are, and what one may send before it is a request.

uvicorn bounds the head of a request only with its slower parser, and closes a connection that is silent only behind a
request, never before one.
"""

from __future__ import annotations

import asyncio
import resource
from asyncio import TimerHandle
from contextlib import suppress

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10
"""Of a request's line and headers together. Tokens and cookies have a few KiB; proxies allow 8 to 32."""
MAX_HEADERS = 128
FILES_BESIDE_CONNECTIONS = 256
"""Open files that are left to everything else: the database, Redis, objects that are read, libraries."""


def bounded_protocol(*, max_connections: int, head_timeout_s: float) -> type[HttpToolsProtocol]:
    """The protocol class of a server with these bounds.

    A connection over ``max_connections`` is answered 503 and closed; one whose next request has begun and is not
    there after ``head_timeout_s``, or that sends none at all, is closed; a head over its bounds is answered 431.
    """

    class BoundedProtocol(HttpToolsProtocol):
        _in_head = True
        _head_bytes = 0
        _head_timer: TimerHandle | None = None
        _head_is_large = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                self._refuse(503, "Too many connections.", b"retry-after: 5\r\n")
                return
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            super().data_received(data)
            if not self._in_head:
                self._head_bytes = 0
                self._stop_waiting()
            elif not self.transport.is_closing():
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._refuse_head()
                else:
                    self._await_head()

        def on_message_begin(self) -> None:
            self._in_head = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_head = False
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
                self._head_is_large = True
                raise ValueError("the head is too large")  # comes back as send_400_response
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:
            if self._head_is_large:
                self._refuse_head()
            else:
                super().send_400_response(msg)

        def _await_head(self) -> None:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(head_timeout_s, self.transport.close)

        def _stop_waiting(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _refuse_head(self) -> None:
            self._refuse(431, f"The request line and headers are larger than {MAX_HEAD_BYTES} bytes together.")

        def _refuse(self, status: int, message: str, header: bytes = b"") -> None:
            body = message.encode()
            head = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n" + header
            length = f"content-length: {len(body)}\r\n\r\n".encode()
            self.transport.write(b"".join([STATUS_LINE[status], head, length, body]))
            self.transport.close()

    return BoundedProtocol


def room_for_connections(wanted: int) -> int:
    """Raise the limit of open files as far as that is allowed, and tell how many connections then fit, at most
    ``wanted``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + FILES_BESIDE_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - FILES_BESIDE_CONNECTIONS))
