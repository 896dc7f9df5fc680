"""Refusing a WebSocket before it is accepted, with an HTTP answer."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Scope, Send


async def refuse_websocket(scope: Scope, send: Send, answer: Response) -> None:
    """Give this answer where the server can send one (else it answers 403)."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
