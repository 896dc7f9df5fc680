"""What Google's libraries raise, as Echo's errors: mapped here and nowhere else."""

from __future__ import annotations

import logging
import re

import requests
import urllib3.exceptions
from google.api_core import exceptions as api_errors
from google.auth import exceptions as auth_errors
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from echo_core.plugin_api import (
    AuthError,
    EchoError,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
    ProviderError,
    RateLimitedError,
    UnavailableError,
)

_log = logging.getLogger(__name__)
_PERMISSION = re.compile(r"\b(?:storage\.(?:objects|buckets)|iam\.serviceAccounts)\.[a-zA-Z]+\b")
_ADDRESS = re.compile(r"https?://\S+")
_TOO_MANY = 429
_DENIED = frozenset({401, 403})
_AGAIN = frozenset({408, 500, 502, 503, 504})
ASK_SETUP = "Whoever runs this instance sees with 'echoctl gcs setup' what its account lacks, and how to grant it."


class ChecksumMismatchError(ProviderError):
    """Bytes arrived that are not those that were sent."""

    retryable = True


def from_google(error: Exception) -> Exception:
    """The error of Echo for one of Google's; anything else (a full disk, a defect) comes back as it is."""
    if isinstance(error, EchoError):
        return error
    if isinstance(error, api_errors.RetryError):
        return from_google(error.cause) if isinstance(error.cause, Exception) else _away()
    if isinstance(error, DataCorruption):
        return checksum_mismatch()
    if isinstance(error, api_errors.GoogleAPICallError):
        return from_status(int(error.code or 0), str(error.message), _retry_after(error.response))
    if isinstance(error, InvalidResponse):
        return from_status(error.response.status_code, error.response.text[:500], _retry_after(error.response))
    if isinstance(error, auth_errors.GoogleAuthError):
        return _from_auth(error)
    if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError | ConnectionError | TimeoutError):
        return _away()
    return error


def from_status(status: int, message: str, retry_after_s: float | None = None) -> EchoError:
    """The error for an HTTP status of the storage; ``message`` is what it said."""
    if status in _DENIED:
        return _denied(message)
    if status == _TOO_MANY:
        return RateLimitedError("Google Cloud Storage gets too many requests.", retry_after_s=retry_after_s)
    if status in _AGAIN:
        return _away()
    if status in {404, 410}:
        if "bucket does not exist" in message:
            return ProviderError(
                "The bucket does not exist.", code="bucket_not_found", remedy="Correct plugins.storage_gcs.bucket."
            )
        return object_not_found()
    if status == 412:
        return object_changed()
    if status == 416:
        return range_not_satisfiable()
    _log.warning("storage.refused", extra={"status": status, "answer": _shown(message)})
    return InvalidRequestError(f"Google Cloud Storage refused the request ({status}).", code="storage_refused")


def _denied(message: str) -> AuthError:
    _log.warning("storage.denied", extra={"answer": _shown(message)})
    found = _PERMISSION.search(message)
    what = f": the permission {found[0]} is missing" if found else ""
    return AuthError(
        f"Google Cloud Storage refuses Echo's account{what}.", code="storage_access_denied", remedy=ASK_SETUP
    )


def _from_auth(error: auth_errors.GoogleAuthError) -> EchoError:
    if isinstance(error, auth_errors.TransportError) or getattr(error, "retryable", False):
        return UnavailableError("Google's sign-in does not answer.", code="storage_unavailable")
    _log.warning("storage.credentials_refused", extra={"answer": _shown(str(error))})
    return AuthError(
        "Google does not accept the storage's credentials.",
        code="storage_credentials",
        remedy="Renew the key in plugins.storage_gcs.credentials_file, or the machine's own service account.",
    )


def _shown(message: str) -> str:
    """What may stand in a log: addresses carry signatures and sessions."""
    return _ADDRESS.sub("[address]", message)[:500]


def _retry_after(response: object) -> float | None:
    value = getattr(response, "headers", {}).get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _away() -> UnavailableError:
    return UnavailableError("Google Cloud Storage does not answer.", code="storage_unavailable")


def too_slow(deadline_s: float) -> UnavailableError:
    """The error for a call that took longer than ``deadline_s``."""
    return UnavailableError(
        f"Google Cloud Storage did not answer within {deadline_s:g} seconds.", code="storage_unavailable"
    )


def object_not_found() -> NotFoundError:
    """Rule S4."""
    return NotFoundError(
        "This object does not exist.",
        code="object_not_found",
        remedy="Read the video again; it may have been deleted or made anew.",
    )


def object_exists() -> PreconditionFailedError:
    """Rule S3."""
    return PreconditionFailedError(
        "Another object has this key already.", code="object_exists", remedy="Begin a new upload."
    )


def object_changed() -> PreconditionFailedError:
    """A read is pinned to a generation that is no longer there."""
    return PreconditionFailedError(
        "This object was replaced after it was verified.",
        code="object_changed",
        remedy="Somebody else writes to the bucket: keep others out. Restore the object and run 'echoctl storage audit "
        "--fix', or upload the video again.",
    )


def upload_gone() -> NotFoundError:
    """An upload that was aborted, that expired or that never was."""
    return NotFoundError("This upload does not exist any more.", code="upload_gone", remedy="Start the upload again.")


def range_not_satisfiable() -> InvalidRequestError:
    """Rule S5."""
    return InvalidRequestError("This range lies outside the object.", code="range_not_satisfiable")


def checksum_mismatch() -> ChecksumMismatchError:
    """See ``ChecksumMismatchError``."""
    return ChecksumMismatchError(
        "The bytes that arrived are not those that were sent (CRC32C).",
        code="checksum_mismatch",
        remedy="Try again; if it stays so, the object is damaged: restore it, or upload the video again.",
    )
