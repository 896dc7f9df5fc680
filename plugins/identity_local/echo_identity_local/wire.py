"""What goes over the wire: requests, answers and errors as Supabase Auth has them (API version 2024-01-01)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, uuid5

import msgspec
from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

API_VERSION = "2024-01-01"
API_VERSION_HEADER = "X-Supabase-Api-Version"
MAX_BODY_BYTES = 64 * 1024
MAX_METADATA_BYTES = 3 * 1024
"""As JSON. It travels in every token, and the kernel takes no token above 8 KiB."""
MAX_EMAIL_LENGTH = 254  # RFC 5321, 4.5.3.1.3, as its erratum 1690 counts it

_WORD = r"[^@\s<>\",;:\\\[\]()]+"
_EMAIL = re.compile(f"{_WORD}@{_WORD}")

BodyT = TypeVar("BodyT", bound=msgspec.Struct)


class ApiError(Exception):
    """A refusal. ``code`` is what supabase-js compares, ``message`` what it shows."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: int = 0, reasons: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.reasons = reasons


class SignUp(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /signup``."""

    email: str = ""
    password: str = ""
    data: dict[str, Any] | None = None


class PasswordGrant(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /token?grant_type=password``."""

    email: str = ""
    password: str = ""


class RefreshGrant(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /token?grant_type=refresh_token``."""

    refresh_token: str = ""


class PkceGrant(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /token?grant_type=pkce``."""

    auth_code: str = ""
    code_verifier: str = ""


class UserUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """``PUT /user``."""

    email: str | None = None
    password: str | None = None
    data: dict[str, Any] | None = None


async def read_body(request: Request, model: type[BodyT]) -> BodyT:
    """The body as that request. Raises ``ApiError`` 400 and 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, "request_too_large", f"The request is larger than {MAX_BODY_BYTES} bytes")
    try:
        found = msgspec.json.decode(bytes(body), type=model)
        if "\\u0000" in msgspec.json.encode(found).decode():
            raise ApiError(400, "validation_failed", "NUL characters are not allowed")
    except msgspec.ValidationError as error:
        raise ApiError(400, "validation_failed", f"The request cannot be used: {error}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ApiError(400, "bad_json", "Could not parse the request body as JSON") from None
    return found


def checked_email(text: str) -> str:
    """The address as it is stored: lower-cased. Raises ``ApiError``."""
    email = unicodedata.normalize("NFC", text.strip()).lower()
    if len(email.encode()) > MAX_EMAIL_LENGTH or not email.isprintable() or _EMAIL.fullmatch(email) is None:
        raise ApiError(400, "validation_failed", "Unable to validate email address: invalid format")
    return email


def checked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a user may keep about itself. Raises ``ApiError``."""
    if len(msgspec.json.encode(metadata)) > MAX_METADATA_BYTES:
        raise ApiError(422, "validation_failed", f"The user's data must not be larger than {MAX_METADATA_BYTES} bytes")
    return dict(metadata)


def user_json(user: RowMapping, linked: Sequence[RowMapping] = ()) -> dict[str, Any]:
    """A user as supabase-js knows it. ``linked``: its identities at providers."""
    created_at = _moment(user["created_at"])
    by_password = "email" in user["app_metadata"]["providers"]
    return {
        "id": str(user["id"]),
        "aud": "authenticated",
        "role": "authenticated",
        "email": user["email"],
        "email_confirmed_at": created_at,
        "phone": "",
        "confirmed_at": created_at,
        "last_sign_in_at": _moment(user["last_sign_in_at"]),
        "app_metadata": user["app_metadata"],
        "user_metadata": user["user_metadata"],
        "identities": [
            *([_email_identity(user)] if by_password else []),
            *(_provider_identity(identity) for identity in linked),
        ],
        "created_at": created_at,
        "updated_at": _moment(user["updated_at"]),
        "is_anonymous": False,
    }


def _email_identity(user: RowMapping) -> dict[str, Any]:
    user_id, email = str(user["id"]), user["email"]
    verified = user["email_verified_at"] is not None
    return {
        "identity_id": user_id,
        "id": user_id,
        "user_id": user_id,
        "identity_data": {"email": email, "email_verified": verified, "phone_verified": False, "sub": user_id},
        "provider": "email",
        "last_sign_in_at": _moment(user["last_sign_in_at"]),
        "created_at": _moment(user["created_at"]),
        "updated_at": _moment(user["updated_at"]),
        "email": email,
    }


def _provider_identity(identity: RowMapping) -> dict[str, Any]:
    # Supabase gives each a UUID of its own; this one follows from what identifies it.
    identity_id = uuid5(NAMESPACE_URL, f"{identity['issuer']}#{identity['subject']}")
    return {
        "identity_id": str(identity_id),
        "id": identity["subject"],
        "user_id": str(identity["user_id"]),
        "identity_data": identity["identity_data"],
        "provider": identity["provider"],
        "last_sign_in_at": _moment(identity["last_sign_in_at"]),
        "created_at": _moment(identity["created_at"]),
        "updated_at": _moment(identity["updated_at"]),
        "email": identity["identity_data"].get("email"),
    }


def answer(content: Any, status: int = 200, *, cache: str = "no-store") -> Response:
    """An answer, which tells the API version."""
    return JSONResponse(content, status, headers={"Cache-Control": cache, API_VERSION_HEADER: API_VERSION})


def refusal(error: ApiError) -> Response:
    """An error's answer. Both names of the code: which one a client reads depends on whether it sees the version."""
    body: dict[str, Any] = {
        "code": error.code,
        "error_code": error.code,
        "message": error.message,
        "msg": error.message,
    }
    if error.code == "weak_password":
        body["weak_password"] = {"reasons": list(error.reasons)}
    response = answer(body, error.status)
    response.headers["X-Sb-Error-Code"] = error.code
    if error.retry_after_s:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
