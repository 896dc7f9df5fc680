"""Errors of this plugin's routes as problem documents (RFC 9457), like the kernel's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from echo_core.plugin_api import (
    EchoError,
    InsufficientStorageError,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
)

_STATUS_OF_CODE = {"upload_gone": 410, "upload_too_large": 413}
_STATUS_OF_CLASS: tuple[tuple[type[EchoError], int], ...] = (
    (InvalidRequestError, 400),
    (NotFoundError, 404),
    (PreconditionFailedError, 412),
    (InsufficientStorageError, 507),
)


class ProblemResponse(Response):
    """A problem document; never cached. The id of its request is known only when it is sent."""

    media_type = "application/problem+json"

    def __init__(self, document: Mapping[str, object], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status)
        self._document = document
        self._extra_headers = {"cache-control": "no-store", **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, with the ``request_id`` that the kernel keeps in the state of the request."""
        request_id = scope.get("state", {}).get("request_id", "")
        self.body = json.dumps({**self._document, "requestId": request_id}).encode()
        self.init_headers(self._extra_headers)
        await super().__call__(scope, receive, send)


def problem(
    status: int, code: str, detail: str, *, remedy: str, headers: Mapping[str, str] | None = None
) -> ProblemResponse:
    """A problem document of the same shape as the kernel's."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error",
        "status": status,
        "detail": detail,
        "code": code,
        "remedy": remedy,
    }
    return ProblemResponse(document, status, headers or {})


def problem_of(error: EchoError) -> Response:
    """The answer to an error of the store."""
    status = _STATUS_OF_CODE.get(error.code)
    if status is None:
        status = next((status for kind, status in _STATUS_OF_CLASS if isinstance(error, kind)), 503)
    headers = {"retry-after": "1"} if status == 503 else None
    return problem(status, error.code, error.message, remedy=error.remedy, headers=headers)
