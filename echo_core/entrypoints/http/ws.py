"""``WS /ws/jobs/status/{userId}`` and ``POST /api/v1/ws-tickets``. The protocol is in ``docs/realtime.md``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from echo_core.application.realtime import Realtime
from echo_core.application.realtime_access import (
    CLOSE_BAD_MESSAGE,
    CLOSE_TOO_BIG,
    CLOSE_TRY_LATER,
    CLOSE_UNAUTHENTICATED,
    RefusedError,
    authenticate,
    issue_ticket,
)
from echo_core.application.realtime_frames import ClientMessage, ErrorFrame, PongFrame, decoded, encoded
from echo_core.application.realtime_topics import Connection
from echo_core.application.services import Limits
from echo_core.domain.users import User
from echo_core.entrypoints.http.errors import new_problem, problem_response
from echo_core.entrypoints.http.rate_limits import address_of, socket_is_refused
from echo_core.entrypoints.http.refusals import refuse_websocket

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MESSAGE_BYTES: Final = 8 << 10
"""Of a client's message: a token and a few fields."""
MAX_UNAUTHENTICATED: Final = 1024
"""Sockets in this process that have not said who they are; each may stay ``ws_auth_timeout_s``."""
MAX_UNAUTHENTICATED_PER_ADDRESS: Final = 128
MAX_MISTAKES: Final = 10
"""Messages that make no sense before a connection is closed."""


def ws_routes(
    realtime: Callable[[], Realtime], *, current_user: Callable[[Request], Awaitable[User]]
) -> list[BaseRoute]:
    """The routes. ``realtime`` is called for each request; ``current_user`` is how any request's bearer token is
    checked (it raises what the application's error handlers answer)."""

    async def create_ticket(request: Request) -> Response:
        user = await current_user(request)
        services = realtime()
        ticket = await issue_ticket(
            services.tickets, user, clock=services.clock, expires_in_s=services.limits.ws_ticket_expires_in_s
        )
        body = msgspec.json.encode({"ticket": ticket.ticket, "expiresAt": ticket.expires_at})
        return Response(body, 201, media_type="application/json", headers={"Cache-Control": "no-store"})

    return [
        Route("/api/v1/ws-tickets", create_ticket, methods=["POST"], name="create_ws_ticket"),
        WebSocketRoute("/ws/jobs/status/{user_id}", StatusEndpoint(realtime), name="job_status"),
    ]


class StatusEndpoint:
    """The ASGI application behind the WebSocket route."""

    def __init__(self, realtime: Callable[[], Realtime]) -> None:
        self._realtime = realtime
        self._waiting_room = WaitingRoom()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until its end."""
        services = self._realtime()
        await receive()  # websocket.connect
        if not origin_allowed(Headers(scope=scope), services.limits):
            problem = new_problem(
                403,
                "origin_not_allowed",
                "This web site may not connect to this server.",
                "Ask the operator to add its origin to http.cors_origins.",
            )
            await refuse_websocket(scope, send, problem_response(problem))
            return
        with self._waiting_room.place(address_of(scope)) as admitted:
            if not admitted:
                detail = "Too many clients connect at once."
                problem = new_problem(503, "too_many_connections", detail, "Come back in a few seconds.")
                await refuse_websocket(scope, send, problem_response(problem, {"Retry-After": "5"}))
                return
            await send({"type": "websocket.accept"})
            socket = Socket(receive, send)
            first = await _identify(services, scope, socket)
        if first is not None:
            await _converse(services, scope, socket, *first)


class WaitingRoom:
    """Counts sockets between accept and authentication."""

    def __init__(self) -> None:
        self._by_address: Counter[str] = Counter()

    @contextmanager
    def place(self, address: str) -> Iterator[bool]:
        """Take a place; False: there is none."""
        if (
            self._by_address.total() >= MAX_UNAUTHENTICATED
            or self._by_address[address] >= MAX_UNAUTHENTICATED_PER_ADDRESS
        ):
            yield False
            return
        self._by_address[address] += 1
        try:
            yield True
        finally:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


class Socket:
    """One accepted WebSocket, as the hub's ``Sink`` and for reading messages."""

    __slots__ = ("_receive", "_send", "patience")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        # Every server's send is a coroutine function; ASGI promises no more than an awaitable.
        self._send = cast("Callable[[Message], Coroutine[Any, Any, None]]", send)
        self.patience: asyncio.Timeout | None = None

    def send(self, text: str) -> Coroutine[Any, Any, None]:
        """Write one text message. A plain function: a coroutine around the server's own would cost each message."""
        return self._send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame."""
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def abandon(self) -> None:
        """End the endpoint that listens here."""
        patience, self.patience = self.patience, None
        if patience is not None:
            patience.reschedule(asyncio.get_running_loop().time())

    async def receive_text(self) -> str | None:
        """The next text message, or None when the connection is over. Raises ``RefusedError`` for one that is too big
        or not text."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return None
        text: str | None = message.get("text")
        if text is None:
            raise RefusedError(CLOSE_BAD_MESSAGE, "text messages only")
        if len(text) > MAX_MESSAGE_BYTES or len(text.encode()) > MAX_MESSAGE_BYTES:
            raise RefusedError(CLOSE_TOO_BIG, f"at most {MAX_MESSAGE_BYTES} bytes")
        return text


async def _identify(services: Realtime, scope: Scope, socket: Socket) -> tuple[User, ClientMessage] | None:
    """The user and the message that proved it, or None when the socket was refused and closed."""
    try:
        async with asyncio.timeout(services.limits.ws_auth_timeout_s):
            message = _from_query(scope) or await _first_message(socket)
            if message is None:
                return None
            user = await authenticate(
                message, scope["path_params"]["user_id"], tokens=services.tokens, tickets=services.tickets
            )
    except TimeoutError:
        await _close(socket, CLOSE_UNAUTHENTICATED, "auth_timeout")
        return None
    except RefusedError as refused:
        if refused.close_code == CLOSE_UNAUTHENTICATED and socket_is_refused(scope, None):
            await _close(socket, CLOSE_TRY_LATER, "rate_limited")
        else:
            await _close(socket, refused.close_code, refused.reason)
        return None
    if socket_is_refused(scope, user):
        await _close(socket, CLOSE_TRY_LATER, "rate_limited")
        return None
    return user, message


async def _first_message(socket: Socket) -> ClientMessage | None:
    text = await socket.receive_text()
    if text is None:
        return None
    message = decoded(text)
    if message is None:
        raise RefusedError(CLOSE_BAD_MESSAGE, "not a message of this protocol")
    return message


def _from_query(scope: Scope) -> ClientMessage | None:
    """``?ticket=…&lastEventId=…`` as the auth message it stands for."""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    if "ticket" not in query:
        return None
    last = query.get("lastEventId", [""])[0]
    if last and not (last.isascii() and last.isdigit() and len(last) <= 18):
        raise RefusedError(CLOSE_BAD_MESSAGE, "lastEventId is not a number")
    return ClientMessage(type="auth", ticket=query["ticket"][0], last_event_id=int(last) if last else None)


async def _converse(services: Realtime, scope: Scope, socket: Socket, user: User, first: ClientMessage) -> None:
    """Attach to the hub and listen until the connection is over."""
    try:
        async with asyncio.timeout(None) as socket.patience:
            try:
                connection = services.hub.attach(user, socket, last_event_id=first.last_event_id)
            except RefusedError as refused:
                await _close(socket, refused.close_code, refused.reason)
                return
            try:
                await _listen(services, scope, socket, connection)
            finally:
                services.hub.detach(connection)
    except TimeoutError:
        return  # the hub has closed the connection
    finally:
        socket.patience = None


async def _listen(services: Realtime, scope: Scope, socket: Socket, connection: Connection) -> None:
    mistakes = 0
    try:
        while (text := await socket.receive_text()) is not None:
            message = decoded(text)
            if message is not None and message.type == "ping":
                connection.outbox.put_state(encoded(PongFrame(at=services.clock.now())))
            elif message is not None and message.type == "auth":
                user = await authenticate(
                    message, scope["path_params"]["user_id"], tokens=services.tokens, tickets=services.tickets
                )
                services.hub.renew(connection, user)
            else:
                mistakes += 1
                if mistakes > MAX_MISTAKES:
                    raise RefusedError(CLOSE_BAD_MESSAGE, "too many messages that make no sense")
                connection.outbox.put_state(
                    encoded(ErrorFrame(code="unknown_message", message="Clients may send auth and ping."))
                )
    except RefusedError as refused:
        services.hub.close(connection, refused.close_code, refused.reason)
        await asyncio.Event().wait()  # until the close frame is out, which ends this endpoint


async def _close(socket: Socket, code: int, reason: str) -> None:
    try:
        await socket.close(code, reason)
    except (OSError, RuntimeError):
        return  # the peer was quicker


def origin_allowed(headers: Headers, limits: Limits) -> bool:
    """Whether a page of this origin may connect: none given (a tool), ours, or one that is listed.

    Browsers do not apply CORS to WebSockets, and neither uvicorn nor Starlette looks.
    """
    origin = headers.get("origin")
    if origin is None:
        return True
    if "*" in limits.cors_origins or origin in limits.cors_origins:
        return True
    theirs = urlsplit(origin)
    ours = urlsplit(limits.public_url)
    if (theirs.scheme, _host(theirs.netloc, theirs.scheme)) == (ours.scheme, _host(ours.netloc, ours.scheme)):
        return True
    # Behind a proxy that ends TLS our own scheme is unknown: the page's decides which port is the default.
    host = headers.get("host", "")
    return theirs.scheme in {"http", "https"} and _host(theirs.netloc, theirs.scheme) == _host(host, theirs.scheme)


def _host(netloc: str, scheme: str) -> str:
    return netloc.lower().removesuffix(":443" if scheme == "https" else ":80")
