"""CORS as buckets configure it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.gcs.call import Answer

if TYPE_CHECKING:
    from tests.fakes.gcs.call import Call
    from tests.fakes.gcs.objects import Bucket
    from tests.fakes.gcs.sessions import Session

PREFLIGHT_S = 3600


def _entry(bucket: Bucket | None, origin: str, method: str | None) -> dict[str, Any] | None:
    for entry in bucket.cors if bucket else ():
        origins, methods = entry.get("origin", []), [name.upper() for name in entry.get("method", [])]
        if (origin in origins or "*" in origins) and (method is None or method in methods or "*" in methods):
            return entry
    return None


def _allowed(entry: dict[str, Any], origin: str) -> list[tuple[str, str]]:
    return [("Access-Control-Allow-Origin", "*" if "*" in entry.get("origin", []) else origin), ("Vary", "Origin")]


def headers_for(call: Call, bucket: Bucket | None, session: Session | None) -> list[tuple[str, str]]:
    """What an answer to a page of another origin carries: by the bucket, or by the origin that began the session."""
    origin = call.headers.get("origin")
    if not origin:
        return []
    entry = _entry(bucket, origin, None if session else call.method)
    if session is not None:
        if not session.origin:
            return []
        headers = [("Access-Control-Allow-Origin", session.origin), ("Vary", "Origin")]
    elif entry is not None:
        headers = _allowed(entry, origin)
    else:
        return []
    if entry is not None and entry.get("responseHeader"):
        headers.append(("Access-Control-Expose-Headers", ", ".join(entry["responseHeader"])))
    return headers


def preflight(call: Call, bucket: Bucket | None) -> Answer:
    """200, with CORS headers only where an entry of the bucket matches origin and method."""
    origin, method = call.headers.get("origin", ""), call.headers.get("access-control-request-method", "").upper()
    entry = _entry(bucket, origin, method) if origin and method else None
    answer = Answer(200, [("Content-Type", "text/html; charset=UTF-8")])
    if entry is not None:
        answer.headers += _allowed(entry, origin)
        answer.headers += [
            ("Access-Control-Allow-Methods", ",".join(entry.get("method", []))),
            ("Access-Control-Max-Age", str(entry.get("maxAgeSeconds", PREFLIGHT_S))),
        ]
        if entry.get("responseHeader"):
            answer.headers.append(("Access-Control-Allow-Headers", ",".join(entry["responseHeader"])))
    return answer
