"""uvicorn's WebSocket protocol, with a short way out for text messages.

A status connection sends thousands of small texts and hardly anything else. uvicorn takes each through the frame
objects and state checks of websockets, which cost as much processor time as the system call itself. Here a text of an
open connection is framed in place; whatever else happens, and every other state, stays uvicorn's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

_SHORT = 126
_MEDIUM = 1 << 16


def text_frame(text: str) -> bytes:
    """One whole, unmasked text frame (RFC 6455, section 5.2)."""
    payload = text.encode()
    size_bytes = len(payload)
    if size_bytes < _SHORT:
        return b"\x81" + bytes((size_bytes,)) + payload
    if size_bytes < _MEDIUM:
        return b"\x81\x7e" + size_bytes.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size_bytes.to_bytes(8, "big") + payload


class StatusWebSocketProtocol(WebSocketsSansIOProtocol):
    """See the module."""

    async def send(self, message: ASGISendEvent) -> None:
        """The ASGI ``send`` of one connection; suspends only while the socket takes no more."""
        if not self.writable.is_set():
            await self.writable.wait()
        if self.disconnected:
            raise ClientDisconnected
        text = message.get("text")
        if isinstance(text, str) and self._is_plainly_open():
            self.transport.write(text_frame(text))
        else:
            await super().send(message)

    def _is_plainly_open(self) -> bool:
        """Whether the handshake is done, nobody closes, and no extension (compression) changes frames."""
        return (
            self.handshake_complete
            and not self.close_sent
            and self.conn.state is State.OPEN
            and not self.conn.extensions
        )
