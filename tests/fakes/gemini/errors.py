"""What is refused, and how the service puts it."""

from __future__ import annotations

import json
from typing import Any

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


class Refusal(Exception):  # noqa: N818 an answer of the service, not an error of the fake
    """An answer that refuses; ``details`` as in google.rpc.Status."""

    def __init__(self, code: int, message: str, *, status: str = "", details: list[dict[str, Any]] | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUSES.get(code, "UNKNOWN")
        self.details = details or []

    def as_json(self) -> bytes:
        """The body."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = self.details
        return json.dumps({"error": error}).encode()


def rate_limited(retry_delay_s: float) -> Refusal:
    """Too many requests this minute."""
    return Refusal(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        details=[
            _quota("GenerateRequestsPerMinutePerProjectPerModel"),
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_delay_s:g}s"},
        ],
    )


def out_for_today() -> Refusal:
    """The quota of the day is spent; the retry delay that comes along means nothing."""
    return Refusal(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        details=[
            _quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s"},
        ],
    )


def _quota(quota_id: str) -> dict[str, Any]:
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global"},
    }
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def bad_key() -> Refusal:
    """As the service answers a key that is none: with 400."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
    }
    return Refusal(400, "API key not valid. Please pass a valid API key.", details=[info])
