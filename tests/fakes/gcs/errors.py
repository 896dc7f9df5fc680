"""What is refused, and how the JSON API and the XML API put it."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

# The reason that the JSON API gives with a status, and the code that the XML API gives.
REASONS = {
    304: ("notModified", "NotModified"),
    400: ("invalid", "InvalidArgument"),
    401: ("authError", "AuthenticationRequired"),
    403: ("forbidden", "AccessDenied"),
    404: ("notFound", "NoSuchKey"),
    408: ("requestTimeout", "RequestTimeout"),
    409: ("conflict", "Conflict"),
    410: ("gone", "NoSuchUpload"),
    412: ("conditionNotMet", "PreconditionFailed"),
    413: ("uploadTooLarge", "EntityTooLarge"),
    416: ("requestedRangeNotSatisfiable", "InvalidRange"),
    429: ("rateLimitExceeded", "SlowDown"),
    499: ("clientClosed", "ClientClosedRequest"),
    500: ("backendError", "InternalError"),
    501: ("notImplemented", "NotImplemented"),
    502: ("backendError", "InternalError"),
    503: ("backendError", "ServiceUnavailable"),
    504: ("backendError", "GatewayTimeout"),
}


class Refusal(Exception):  # noqa: N818 an answer of the service, not an error of the fake
    """An answer that refuses; ``reason`` and ``code`` say more than the status alone."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: str = "",
        code: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        known_reason, known_code = REASONS.get(status, ("backendError", "InternalError"))
        self.reason = reason or known_reason
        self.code = code or known_code
        self.headers = dict(headers or {})

    def as_json(self) -> bytes:
        """The body that the JSON API answers."""
        error: dict[str, object] = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.status == 401:
            error |= {"locationType": "header", "location": "Authorization"}
        return json.dumps({"error": {"code": self.status, "message": self.message, "errors": [error]}}).encode()

    def as_xml(self) -> bytes:
        """The body that the XML API answers."""
        return (
            "<?xml version='1.0' encoding='UTF-8'?>"
            f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message></Error>"
        ).encode()


class Disconnected(Exception):  # noqa: N818 the client did it
    """The client went away before its request was complete."""
