"""Operations: what an address does, in one object that makes both the route and its part of the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from echo_core.entrypoints.http.auth import authenticate, authenticate_viewer
from echo_core.entrypoints.http.idempotency import answered_once, checked_key
from echo_core.entrypoints.http.rate_limits import admit_user

Auth = Literal["none", "user", "viewer", "anybody"]
"""``user``: a bearer token; ``viewer``: a playback token in the query or a bearer token; ``anybody``: the same, and of
unlisted and public videos without either."""
Handler = Callable[[Request], Awaitable[Response]]


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
    """One method of one path. ``problems`` are the codes it may answer with besides those of its kind, by status.

    ``answer_is_kept=False``: doing it again does no harm and its answer is a secret for moments, so that an
    Idempotency-Key is accepted, and every request answered anew."""

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
    answer_is_kept: bool = True


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
            admit_user(request)
        elif operation.auth != "none":
            await authenticate_viewer(request, tokenless=operation.auth == "anybody")
        key = checked_key(request) if operation.method == "POST" else None
        if key is None or not operation.answer_is_kept:
            response = await operation.handler(request)
        else:
            response = await answered_once(request, operation.id, key, lambda: operation.handler(request))
        await response(scope, receive, send)


class PathEndpoint:
    """Serves the operations of one path, each by its method."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._endpoints: dict[str, OperationEndpoint] = {
            operation.method: OperationEndpoint(operation) for operation in operations
        }
        self._endpoints |= {"HEAD": self._endpoints["GET"]} if "GET" in self._endpoints else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; the route has let only methods in that there are."""
        await self._endpoints[scope["method"]](scope, receive, send)


def operation_routes(operations: Sequence[Operation]) -> list[Route]:
    """A route for each path, in the order of the operations, so that a method that is not among a path's is told all
    that are."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return [_route(path, PathEndpoint(group), group) for path, group in by_path.items()]


def operation_route(operation: Operation) -> Route:
    """The route of an operation that has its path for itself."""
    return _route(operation.path, OperationEndpoint(operation), [operation])


def _route(path: str, endpoint: PathEndpoint | OperationEndpoint, operations: Sequence[Operation]) -> Route:
    """Ids match only what is one: ``/videos/{videoId}`` must not take its neighbours."""
    matched = re.sub(r"{(\w+Id)}", r"{\1:uuid}", path)
    return Route(matched, endpoint, methods=[one.method for one in operations], name=operations[0].id)
