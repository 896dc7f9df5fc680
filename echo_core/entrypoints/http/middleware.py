"""Middleware, pure ASGI: ``BaseHTTPMiddleware`` costs each request a task and a quarter of a millisecond."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping

import structlog
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from echo_core.domain.errors import TooLargeError
from echo_core.entrypoints.http.errors import (
    RequestError,
    echo_error_response,
    new_problem,
    problem_response,
    unavailable_response,
    unexpected_response,
)
from echo_core.entrypoints.http.metrics import HttpMetrics
from echo_core.entrypoints.http.request_ids import accept_or_new, set_request_id

log = structlog.get_logger("echo.http")

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines; they are logged only when they fail."""
UNMATCHED = "unmatched"

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    # Should a browser ever take an answer for a page, that page can load, run and be framed by nothing.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Of every answer that does not bring its own. Addresses may carry tokens: none of them is told as a referrer."""


class RequestContext:
    """Outermost: gives every request an id, and every answer that id and the security headers; logs and counts it."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, state: Mapping[str, object]) -> None:
        self.app = app
        self.metrics = metrics
        self.state = dict(state)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; a WebSocket only gets its id and the state."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        request_id = accept_or_new(_header(scope, b"x-request-id"))
        set_request_id(request_id)
        # Under request_id the routes of plugins find it, for the problem documents that they write themselves.
        scope["state"] = {**scope.get("state", {}), **self.state, "request_id": request_id}
        # Not bound_contextvars, which costs 8 us more: the server gives every request a task, and so a context.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        if scope["type"] == "http":
            await self._serve(scope, receive, send, request_id)
        else:
            await self.app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        begun = time.perf_counter()
        status = 500
        size_bytes = 0
        extra = (*_SECURITY_HEADERS, (b"x-request-id", request_id.encode()))

        async def send_with_headers(message: Message) -> None:
            nonlocal status, size_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                if scope["state"].get("framable"):
                    present.add(b"x-frame-options")  # knows no "by anybody"; the answer's own policy says it
                headers.extend(header for header in extra if header[0] not in present)
                headers.extend(scope["state"].get("rate_limit", ()))
                message = {**message, "headers": headers}
            elif message["type"] == "http.response.body":
                size_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            duration_s = time.perf_counter() - begun
            self.metrics.request_completed(scope["method"], route_label(scope), status, duration_s)
            self._log(scope, status, duration_s, size_bytes)

    def _log(self, scope: Scope, status: int, duration_s: float, size_bytes: int) -> None:
        path = scope["path"]
        write = log.debug if path in QUIET_PATHS and status < 500 else log.info
        user = scope["state"].get("user")
        # Never the query: it may hold playback tokens and signatures.
        write(
            "request.completed",
            method=scope["method"],
            path=path,
            status=status,
            duration_ms=round(duration_s * 1000, 2),
            size_bytes=size_bytes,
            user_id=str(user.id) if user is not None else None,
        )


def route_label(scope: Scope) -> str:
    """The matched route's template, so that metrics do not grow with ids."""
    operation = scope.get("echo.operation")
    if operation is not None:
        return str(operation.path)
    route = scope.get("route")
    path = getattr(route, "path", None)
    if path is None:
        return UNMATCHED
    if isinstance(route, Mount):
        return str(path)
    # A route below a mount: the mount has moved its own path into the root path.
    return f"{scope.get('root_path', '')}{path}"


class ErrorBoundary:
    """Answers for what nobody else caught. Inside of ``RequestContext``, so that such answers have an id and are
    logged, and inside of CORS, so that a browser may read them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _HOST.fullmatch(_single_header(scope, b"host")) is None:
            problem = new_problem(
                400,
                "invalid_host",
                "The Host header is missing or malformed.",
                "Send the name (and port) of this server as Host, once.",
            )
            await problem_response(problem)(scope, receive, send)
            return
        begun = False

        async def sender(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, sender)
        except Exception as error:
            # The edge: whatever it is, the caller gets an answer and the log the traceback.
            unavailable = isinstance(error, ConnectionError | TimeoutError)
            log.exception("request.failed", method=scope["method"], path=scope["path"])
            if begun:
                raise
            response = unavailable_response() if unavailable else unexpected_response()
            await response(scope, receive, send)


class RequestLimit:
    """Turns requests away while too many are being answered: what waits in memory for a database that is slow helps
    nobody. Transfers (routes of plugins, where files go in and out) are counted for themselves, as each may last for
    hours."""

    def __init__(self, app: ASGIApp, *, max_requests: int, max_transfers: int, transfer_prefix: str) -> None:
        self.app = app
        self.limits = {False: max_requests, True: max_transfers}
        self.running = {False: 0, True: 0}
        self.transfer_prefix = transfer_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. Whoever asks how this process is always gets an answer."""
        if scope["type"] != "http" or scope["path"] in QUIET_PATHS:
            await self.app(scope, receive, send)
            return
        kind = scope["path"].startswith(self.transfer_prefix)
        if self.running[kind] >= self.limits[kind]:
            setting = "http.max_transfers" if kind else "http.max_requests"
            problem = new_problem(
                503,
                "server_busy",
                f"This server answers {self.limits[kind]} requests already, the limit set by {setting}.",
                "Try again in a moment.",
            )
            await problem_response(problem, {"Retry-After": "1"})(scope, receive, send)
            return
        self.running[kind] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.running[kind] -= 1


def slow_body(idle_timeout_s: float) -> RequestError:
    """What a body that does not go on is answered with."""
    return RequestError(
        408,
        "body_timeout",
        f"The rest of the body did not arrive within {idle_timeout_s:.0f} seconds.",
        "Send the request again.",
        headers={"Connection": "close"},
    )


class BodyLimit:
    """Refuses bodies over the limit, announced or not, with a problem that names the limit.

    Starlette's own middleware answers an announced length in plain text, past every exception handler.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, exempt_prefix: str, idle_timeout_s: float = 30.0) -> None:
        self.app = app
        self.idle_timeout_s = idle_timeout_s
        self.max_body_bytes = max_body_bytes
        self.exempt_prefix = exempt_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. Plugins bound the bodies of their own routes: files arrive there."""
        if scope["type"] != "http" or scope["path"].startswith(self.exempt_prefix):
            await self.app(scope, receive, send)
            return
        announced = _header(scope, b"content-length")
        if announced.isdecimal() and int(announced) > self.max_body_bytes:
            await echo_error_response(self._error())(scope, receive, send)
            return
        received_bytes = 0
        whole = False

        async def limited() -> Message:
            nonlocal received_bytes, whole
            if whole:  # what comes next is the end of the connection, whenever that may be
                return await receive()
            try:
                async with asyncio.timeout(self.idle_timeout_s):
                    message = await receive()
            except TimeoutError:
                raise slow_body(self.idle_timeout_s) from None
            whole = not message.get("more_body", False)
            received_bytes += len(message.get("body", b""))
            if received_bytes > self.max_body_bytes:
                raise self._error()
            return message

        await self.app(scope, limited, send)

    def _error(self) -> TooLargeError:
        return TooLargeError(
            f"The request body is larger than {self.max_body_bytes} bytes, the limit set by http.max_body_bytes.",
            code="body_too_large",
            remedy="Send less; files do not go through this address but to the uploadUrl.",
        )


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def _single_header(scope: Scope, name: bytes) -> str:
    """The header's value; empty when it is missing or there are several, which is a smuggler's trick."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else ""
