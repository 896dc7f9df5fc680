"""Operations: what an address does, in one object that makes both the route and its part of the OpenAPI document."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from echo_core.application.idempotency import run_once
from echo_core.application.ports import StoredResponse
from echo_core.entrypoints.http.auth import authenticate, authenticate_viewer
from echo_core.entrypoints.http.errors import RequestError
from echo_core.entrypoints.http.state import services_of, user_of

Auth = Literal["none", "user", "viewer"]
"""``user``: a bearer token; ``viewer``: a playback token in the query or a bearer token."""
Handler = Callable[[Request], Awaitable[Response]]

MAX_IDEMPOTENCY_KEY_LENGTH = 255


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One way in which an operation answers when all is well."""

    description: str
    model: type[msgspec.Struct] | None = None
    media_type: str = "application/json"
    example: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names and what they say."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path. ``problems`` are the codes it may answer with besides those of its kind, by status."""

    id: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    summary: str
    tag: str
    auth: Auth = "user"
    description: str = ""
    body: type[BaseModel] | None = None
    body_optional: bool = False
    body_example: object = None
    query: type[BaseModel] | None = None
    request_headers: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[int, Answer]
    problems: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


class OperationEndpoint:
    """Serves one operation: who asks, whether it was asked before, then the handler."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors go to the application's handlers."""
        operation = self.operation
        scope["echo.operation"] = operation
        request = Request(scope, receive, send)
        if operation.auth == "user":
            await authenticate(request)
        elif operation.auth == "viewer":
            await authenticate_viewer(request)
        key = request.headers.get("idempotency-key") if operation.method == "POST" else None
        response = await (operation.handler(request) if key is None else _once(request, operation, key))
        await response(scope, receive, send)


async def _once(request: Request, operation: Operation, key: str) -> Response:
    if not (0 < len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise RequestError(
            400,
            "invalid_idempotency_key",
            f"An Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} printable ASCII characters.",
            "Send a UUID.",
        )
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    digest.update(await request.body())

    async def run() -> StoredResponse:
        response = await operation.handler(request)
        return StoredResponse(
            request_hash="",
            status=response.status_code,
            body=bytes(response.body),
            content_type=response.headers.get("content-type", ""),
            location=response.headers.get("location", ""),
        )

    stored, replayed = await run_once(services_of(request), user_of(request), key, digest.hexdigest(), run)
    headers = {"Cache-Control": "no-store"}
    if stored.location:
        headers["Location"] = stored.location
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(stored.body, stored.status, headers, stored.content_type or None)


def operation_route(operation: Operation) -> Route:
    """The route of an operation. Ids match only what is one: ``/videos/{videoId}`` must not take its neighbours."""
    path = re.sub(r"{(\w+Id)}", r"{\1:uuid}", operation.path)
    return Route(path, OperationEndpoint(operation), methods=[operation.method], name=operation.id)
