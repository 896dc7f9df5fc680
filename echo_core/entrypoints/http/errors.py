"""Errors as problem documents (RFC 9457): one table from error classes and codes to statuses."""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from echo_core.application.completing import UploadIncompleteError
from echo_core.application.idempotency import InProgressError
from echo_core.application.videos import VersionMismatchError
from echo_core.domain.errors import (
    ConflictError,
    IllegalChangeError,
    InvalidInputError,
    LeaseLostError,
    TooLargeError,
    UnknownEntityError,
)
from echo_core.entrypoints.http.request_ids import current_request_id
from echo_core.entrypoints.http.responses import Check
from echo_core.plugin_api.errors import (
    AuthError,
    DomainError,
    EchoError,
    InsufficientStorageError,
    InvalidRequestError,
    NotFoundError,
    NotSupportedError,
    PreconditionFailedError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    UnavailableError,
)

PROBLEM_JSON = "application/problem+json"
UNAVAILABLE_RETRY_S = 5
"""What Retry-After says when nothing better is known: a restart of a database takes about as long."""

_STATUS_BY_CLASS: Mapping[type[EchoError], int] = {
    UnknownEntityError: 404,
    VersionMismatchError: 412,
    IllegalChangeError: 409,
    ConflictError: 409,
    LeaseLostError: 409,
    InvalidInputError: 422,
    TooLargeError: 413,
    DomainError: 409,
    RateLimitedError: 503,
    QuotaExceededError: 503,
    InsufficientStorageError: 507,
    InvalidRequestError: 422,
    NotFoundError: 404,
    PreconditionFailedError: 409,
    UnavailableError: 503,
    NotSupportedError: 501,
    # A provider that refuses Echo's own credentials is an outage for the caller, never the caller's 401.
    AuthError: 502,
    ProviderError: 502,
    EchoError: 500,
}
_STATUS_BY_CODE: Mapping[str, int] = {
    "token_missing": 401,
    "token_expired": 401,
    "token_invalid": 401,
    "unknown_step": 422,
    "unknown_poster": 422,
    "range_not_satisfiable": 416,
}
_CODE_BY_STATUS: Mapping[int, str] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    500: "internal_error",
}


class ProblemError(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One thing wrong with a request: a JSON pointer into the body (or the name of a parameter) and a sentence."""

    pointer: str
    message: str


class Problem(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Every error's answer (RFC 9457). ``code`` is stable, for programs; ``detail`` and ``remedy`` are for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str = ""
    request_id: str = ""
    errors: list[ProblemError] | msgspec.UnsetType = msgspec.UNSET
    """All that is wrong with the request, where it is invalid."""
    offset_bytes: int | msgspec.UnsetType = msgspec.UNSET
    """With ``upload_incomplete``: how many bytes are durable."""
    checks: list[Check] | msgspec.UnsetType = msgspec.UNSET
    """With ``not_ready``: every dependency by name."""


@dataclass(eq=False)
class RequestError(Exception):
    """What the HTTP layer itself refuses."""

    status: int
    code: str
    detail: str
    remedy: str = ""
    errors: Sequence[ProblemError] = ()
    headers: Mapping[str, str] | None = None


_encoder = msgspec.json.Encoder()


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as a response; never cached."""
    return Response(
        _encoder.encode(problem),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def new_problem(
    status: int,
    code: str,
    detail: str,
    remedy: str = "",
    *,
    errors: Sequence[ProblemError] = (),
    offset_bytes: int | None = None,
    checks: Sequence[Check] | None = None,
) -> Problem:
    """A problem of that code, with the present request's id."""
    return Problem(
        type=f"/docs#problem-{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        code=code,
        remedy=remedy,
        request_id=current_request_id(),
        errors=list(errors) if errors else msgspec.UNSET,
        offset_bytes=offset_bytes if offset_bytes is not None else msgspec.UNSET,
        checks=list(checks) if checks is not None else msgspec.UNSET,
    )


def status_of(error: EchoError) -> int:
    """The HTTP status of an error: its code's, else its class's."""
    if (status := _STATUS_BY_CODE.get(error.code)) is not None:
        return status
    return next(_STATUS_BY_CLASS[cls] for cls in type(error).__mro__ if cls in _STATUS_BY_CLASS)


def echo_error_response(error: EchoError) -> Response:
    """An error of the application as a response."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _challenge(error.code)
    if isinstance(error, InProgressError):
        headers["Retry-After"] = "1"
    elif status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(_retry_after_s(error))
    if isinstance(error, VersionMismatchError):
        headers["ETag"] = f'"{error.version}"'
    offset = error.offset_bytes if isinstance(error, UploadIncompleteError) else None
    return problem_response(new_problem(status, error.code, error.message, error.remedy, offset_bytes=offset), headers)


def _retry_after_s(error: EchoError) -> int:
    known_s = error.retry_after_s if isinstance(error, RateLimitedError) else None
    return max(1, round(known_s)) if known_s else UNAVAILABLE_RETRY_S


def _challenge(code: str) -> str:
    """RFC 6750, section 3: no error code when no token was sent."""
    return 'Bearer realm="echo"' if code == "token_missing" else 'Bearer realm="echo", error="invalid_token"'


def unexpected_response() -> Response:
    """A defect of ours: nothing of it is told but the id to look for in the log."""
    return problem_response(
        new_problem(
            500,
            "internal_error",
            "Something went wrong on our side.",
            "Try again; if it stays so, tell the operator the requestId.",
        )
    )


def unavailable_response() -> Response:
    """A connection of ours broke on the way."""
    return problem_response(
        new_problem(503, "unavailable", "A service that Echo needs cannot be reached.", "Try again in a moment."),
        {"Retry-After": str(UNAVAILABLE_RETRY_S)},
    )


async def handle_echo_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for ``EchoError``."""
    if not isinstance(error, EchoError):
        raise error
    return echo_error_response(error)


async def handle_request_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for ``RequestError``."""
    if not isinstance(error, RequestError):
        raise error
    problem = new_problem(error.status, error.code, error.detail, error.remedy, errors=error.errors)
    return problem_response(problem, error.headers)


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's handler for its own ``HTTPException``: no route, wrong method, and those of plugins' routes."""
    if not isinstance(error, HTTPException):
        raise error
    status = error.status_code
    if status in {204, 304}:
        return Response(status_code=status, headers=error.headers)
    phrase = http.HTTPStatus(status).phrase
    detail, remedy = {
        404: ("There is nothing at this address.", "See /docs for the addresses there are."),
        405: (f"This address does not take {request.method}.", "See the Allow header, or /docs."),
    }.get(status, (error.detail or phrase, "See /docs for what this address takes."))
    code = _CODE_BY_STATUS.get(status, phrase.lower().replace(" ", "_").replace("-", "_"))
    return problem_response(new_problem(status, code, detail, remedy), error.headers)
