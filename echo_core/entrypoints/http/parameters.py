"""What requests carry: path ids, queries, JSON bodies, cursors, entity tags; everything wrong is told at once."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import HTTPConnection, Request

from echo_core.domain.ids import VideoId
from echo_core.entrypoints.http.errors import ProblemError, RequestError

ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_ERRORS = 50
"""More tell nobody anything, and each costs bytes of an answer."""
_VERSION = re.compile(r"[0-9]{1,18}")
_ENTITY_TAG = re.compile(r'\s*(?P<weak>W/)?"(?P<tag>[!#-~\x80-\xff]*)"\s*')


def path_uuid(connection: HTTPConnection, name: str) -> UUID:
    """An id of the path; the route has matched it as one."""
    value: UUID = connection.path_params[name]
    return value


async def read_body(request: Request, model: type[ModelT]) -> ModelT:
    """The JSON body as ``model``.

    Raises ``RequestError``: 415 for another media type, 400 for what is not JSON, 422 with everything that is wrong.
    """
    operation = request.scope["echo.operation"]
    if operation.body is not model:
        raise TypeError(f"{operation.id} is documented to take another body than {model.__name__}")
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    body = await request.body()
    if not body and operation.body_optional:
        return model()
    if media_type != "application/json":
        raise RequestError(
            415,
            "unsupported_media_type",
            f"This takes JSON, not {media_type or 'an unnamed type'}.",
            "Send Content-Type: application/json.",
        )
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        if details[0]["type"] == "json_invalid":
            raise RequestError(
                400, "malformed_json", f"The body is not JSON: {_message(details[0])}.", "Send one JSON object."
            ) from None
        raise _invalid(ProblemError(pointer=_pointer(d["loc"]), message=_message(d)) for d in details) from None


def read_query(request: Request, model: type[ModelT]) -> ModelT:
    """The query as ``model``; an empty value counts as absent, so that forms can send all their fields.

    Raises ``RequestError`` 422 with everything that is wrong.
    """
    operation = request.scope["echo.operation"]
    if operation.query is not model:
        raise TypeError(f"{operation.id} is documented to take another query than {model.__name__}")
    pairs = [(name, value) for name, value in request.query_params.multi_items() if value]
    names = [name for name, _ in pairs]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise _invalid(ProblemError(pointer=name, message="Send this parameter once.") for name in repeated)
    try:
        return model.model_validate(dict(pairs))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        raise _invalid(
            ProblemError(pointer=".".join(str(part) for part in d["loc"]), message=_message(d)) for d in details
        ) from None


def _invalid(errors: Iterable[ProblemError]) -> RequestError:
    told = list(errors)[:MAX_ERRORS]
    return RequestError(
        422,
        "validation_failed",
        told[0].message if len(told) == 1 else f"{len(told)} things are wrong with this request.",
        "Correct what the errors point at.",
        told,
    )


def _pointer(location: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in location)


def _message(detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return "There is no such field."
    if detail["type"] in {"too_short", "string_too_short"} and " at least 1 " in detail["msg"]:
        return "This must not be empty."
    return detail["msg"].removeprefix("Value error, ").removeprefix("Invalid JSON: ")


def encode_cursor(before: VideoId | None) -> str | None:
    """An opaque cursor for the page that follows."""
    return base64.urlsafe_b64encode(before.bytes).rstrip(b"=").decode() if before is not None else None


def decode_cursor(cursor: str | None) -> VideoId | None:
    """Raises ``RequestError`` 400 (``invalid_cursor``)."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True)
        decoded = VideoId(UUID(bytes=raw))
    except ValueError:
        decoded = None
    # The only spelling: what differs in unused bits was not made here.
    if decoded is None or encode_cursor(decoded) != cursor:
        raise RequestError(
            400, "invalid_cursor", "This cursor was not given out by this API.", "Begin again without a cursor."
        )
    return decoded


def entity_tag(version: int) -> str:
    """The strong entity tag of a metadata version."""
    return f'"{version}"'


def expected_versions(if_match: Sequence[str]) -> frozenset[int] | None:
    """The versions that the If-Match fields of a request allow (RFC 9110, section 13.1.1); None: any.

    Weak tags, and those that are none of ours, match nothing. Raises ``RequestError`` 400 (``invalid_if_match``) for
    what is no list of entity tags: taking it for a tag that does not match would send its caller round in circles.
    """
    field = ",".join(if_match).strip()
    if not if_match or field == "*":
        return None
    tags = list(_ENTITY_TAG.finditer(field))
    # Empty elements of a list are nothing (RFC 9110, 5.6.1); a tag may hold a comma.
    if not tags or _ENTITY_TAG.sub("", field).strip(", \t"):
        raise RequestError(
            400,
            "invalid_if_match",
            "If-Match is neither * nor a list of entity tags.",
            'Send the ETag that came with the video as it is, quotes included, such as "3".',
        )
    return frozenset(int(tag["tag"]) for tag in tags if not tag["weak"] and _VERSION.fullmatch(tag["tag"]) is not None)
