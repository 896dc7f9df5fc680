"""Idempotency-Key on requests: for the kernel's operations, and around the routes of plugins."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from echo_core.application.idempotency import ERROR_STATUS, run_once
from echo_core.application.ports import StoredResponse
from echo_core.application.services import Limits
from echo_core.domain.errors import TooLargeError
from echo_core.entrypoints.http.errors import PROBLEM_JSON, RequestError, new_problem
from echo_core.entrypoints.http.middleware import slow_body
from echo_core.entrypoints.http.state import services_of, user_of

MAX_KEY_LENGTH = 255
MAX_KEPT_ANSWER_BYTES = 1 << 20
"""Of a plugin's answer; the kernel's own are a few kilobytes."""
KEPT_HEADERS = frozenset(
    {
        "content-disposition",
        "content-language",
        "content-location",
        "etag",
        "expires",
        "last-modified",
        "link",
        "retry-after",
    }
)
"""What an answer says that still holds when it is given again; beside Content-Type and Location."""


def checked_key(request: Request) -> str | None:
    """The request's Idempotency-Key, if it has one. Raises ``RequestError`` 400 (``invalid_idempotency_key``)."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise RequestError(
            400,
            "invalid_idempotency_key",
            f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} printable ASCII characters, and is sent once.",
            "Send a UUID.",
        )
    return key


async def answered_once(request: Request, route: str, key: str, answer: Callable[[], Awaitable[Response]]) -> Response:
    """The answer to the first request of this caller, route and key: given now, or again.

    Raises what ``run_once`` raises.
    """

    async def run() -> StoredResponse:
        response = await answer()
        return _stored(response.status_code, response.headers, bytes(response.body))

    stored, replayed = await run_once(
        services_of(request),
        user_of(request),
        route=route,
        key=key,
        request_hash=_request_hash(request.method, request.url.path, await request.body()),
        run=run,
    )
    return _response(stored, replayed=replayed)


class OncePerKey:
    """Middleware for the routes of plugins that know their caller: a POST under a key is done once.

    The body of such a request is read before the route sees it, so it may not be larger than any other body of the API;
    without a key it is the plugin's affair.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        request = Request(scope, receive) if scope["type"] == "http" and scope["method"] == "POST" else None
        key = checked_key(request) if request is not None else None
        if request is None or key is None:
            await self.app(scope, receive, send)
            return
        path = request.url.path
        body = await _bounded_body(request, services_of(request).limits)

        async def run() -> StoredResponse:
            recording = _Recording(send)
            await self.app(scope, _replayed(body, receive), recording)
            return recording.stored()

        stored, replayed = await run_once(
            services_of(request),
            user_of(request),
            # Which of the plugin's routes it is turns out only below; a path has no spaces once it is encoded.
            route=hashlib.sha256(path.encode()).hexdigest(),
            key=key,
            request_hash=_request_hash(request.method, path, body),
            run=run,
        )
        if replayed:
            await _response(stored, replayed=True)(scope, receive, send)


class _Recording:
    """Passes an answer on as it comes, and keeps it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 500
        self._headers = Headers()
        self._body = bytearray()
        self._size_bytes = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = Headers(raw=list(message.get("headers", ())))
        elif message["type"] == "http.response.body":
            piece = message.get("body", b"")
            self._size_bytes += len(piece)
            if self._size_bytes <= MAX_KEPT_ANSWER_BYTES:
                self._body += piece
        await self._send(message)

    def stored(self) -> StoredResponse:
        """What a repeated request gets: this answer or, if it was too long to keep, that the request was done."""
        if self._size_bytes <= MAX_KEPT_ANSWER_BYTES or self._status >= ERROR_STATUS:
            return _stored(self._status, self._headers, bytes(self._body))
        problem = new_problem(
            409,
            "idempotency_answer_not_kept",
            "This request was done before; its answer was too long to be kept.",
            "Read what it made; do not send it again.",
        )
        # Under a status of success: from 400 on the key would be free again, and the request be done twice.
        return StoredResponse(request_hash="", status=200, body=msgspec.json.encode(problem), content_type=PROBLEM_JSON)


def _stored(status: int, headers: Mapping[str, str], body: bytes) -> StoredResponse:
    return StoredResponse(
        request_hash="",
        status=status,
        body=body,
        content_type=headers.get("content-type", ""),
        location=headers.get("location", ""),
        headers={name: headers[name] for name in KEPT_HEADERS if name in headers},
    )


def _response(stored: StoredResponse, *, replayed: bool) -> Response:
    headers = {**stored.headers, "Cache-Control": "no-store"}
    if stored.location:
        headers["Location"] = stored.location
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    not_kept = stored.content_type == PROBLEM_JSON and stored.status < ERROR_STATUS
    return Response(stored.body, 409 if not_kept else stored.status, headers, stored.content_type or None)


def _request_hash(method: str, path: str, body: bytes) -> str:
    digest = hashlib.sha256(f"{method} {path}\n".encode())
    digest.update(body)
    return digest.hexdigest()


async def _bounded_body(request: Request, limits: Limits) -> bytes:
    body, max_bytes = bytearray(), limits.max_body_bytes
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(limits.body_idle_timeout_s):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise slow_body(limits.body_idle_timeout_s) from None
        if piece is None:
            return bytes(body)
        body += piece
        if len(body) > max_bytes:
            raise TooLargeError(
                f"A request with an Idempotency-Key has at most {max_bytes} bytes, the limit set by "
                "http.max_body_bytes.",
                code="body_too_large",
                remedy="Send less, or send it without a key.",
            )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then whatever comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
