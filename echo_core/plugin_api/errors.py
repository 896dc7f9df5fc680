"""The error tree. Every error has a stable code, a sentence for the user, and what to do about it.

``DomainError`` says that a request makes no sense in the present state; ``ProviderError`` says that something behind a
plugin (a disk, an encoder, a vendor) could not do its part. A plugin maps its vendor's errors to these once, in its
``errors.py``; anything else that escapes from a plugin counts as a defect of that plugin and is not retried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class EchoError(Exception):
    """Root of all errors that Echo raises on purpose.

    ``message`` is one sentence a user can read; ``remedy`` one sentence that says what to do (may be empty); ``code``
    is stable across releases (``snake_case``) and is what programs compare; ``log_tail`` is the end of the failing
    tool's own log, without secrets.
    """

    default_code: ClassVar[str] = "internal_error"
    default_remedy: ClassVar[str] = ""
    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        remedy: str | None = None,
        log_tail: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.log_tail = tuple(log_tail)
        self.code = code if code is not None else self.default_code
        self.remedy = remedy if remedy is not None else self.default_remedy


class DomainError(EchoError):
    """The request is impossible in the present state: illegal change, nothing there, conflict."""

    default_code = "domain_error"


class ProviderError(EchoError):
    """Something behind a plugin could not do its part. ``retryable`` decides whether the step is tried again."""

    default_code = "provider_error"


class AuthError(ProviderError):
    """The provider refused our credentials; somebody has to renew them."""

    default_code = "provider_auth"
    default_remedy = "Check or renew the credentials of this plugin."


class RateLimitedError(ProviderError):
    """Too many calls; ``retry_after_s`` seconds (when known) before the next makes sense."""

    default_code = "provider_rate_limited"
    default_remedy = "Try again later."
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        code: str | None = None,
        remedy: str | None = None,
        log_tail: Sequence[str] = (),
    ) -> None:
        super().__init__(message, code=code, remedy=remedy, log_tail=log_tail)
        self.retry_after_s = retry_after_s


class QuotaExceededError(ProviderError):
    """A budget (requests a day, bytes) is spent; trying again before it is renewed is pointless."""

    default_code = "provider_quota_exceeded"


class InsufficientStorageError(ProviderError):
    """There is no room for the bytes. Retryable: room appears when somebody makes it."""

    default_code = "insufficient_storage"
    default_remedy = "Free some disk space, or move data_dir to a larger disk, then try again."
    retryable = True


class InvalidRequestError(ProviderError):
    """The provider will never accept this input (unreadable media, unknown option)."""

    default_code = "provider_invalid_request"


class NotFoundError(ProviderError):
    """The thing asked for (an object, a remote video) does not exist."""

    default_code = "provider_not_found"


class PreconditionFailedError(ProviderError):
    """The object changed or exists already: a conditional read or write did not hold."""

    default_code = "precondition_failed"


class UnavailableError(ProviderError):
    """The provider is down, slow or unreachable; the same call may work later."""

    default_code = "provider_unavailable"
    default_remedy = "Try again in a moment."
    retryable = True


class NotSupportedError(ProviderError):
    """This plugin does not have the capability; see its flags."""

    default_code = "not_supported"


class UnknownOutcomeError(ProviderError):
    """The call may or may not have taken effect: look before doing it again. Never retried blindly."""

    default_code = "unknown_outcome"
