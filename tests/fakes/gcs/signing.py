"""V4 signatures of the XML API, verified for what was really sent."""

from __future__ import annotations

import hashlib
import re
from calendar import timegm
from time import strptime
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.fakes.gcs.errors import Refusal

if TYPE_CHECKING:
    from tests.fakes.gcs.call import Call

ALGORITHM = "GOOG4-RSA-SHA256"
LONGEST_S = 7 * 24 * 3600
SKEW_S = 15 * 60
_PARAMETERS = tuple(f"X-Goog-{name}" for name in ("Credential", "Date", "Expires", "SignedHeaders", "Signature"))


def is_signed(call: Call) -> bool:
    """Whether the query carries a signature, good or bad."""
    return any(name in call.query for name in ("X-Goog-Algorithm", "X-Goog-Signature"))


def verify(call: Call) -> str:
    """The account that signed this very request, or a refusal: 403, or 400 for one that has expired."""
    query = call.query
    if query.get("X-Goog-Algorithm") != ALGORITHM or any(name not in query for name in _PARAMETERS):
        raise _mismatch("The query parameters of the signature are not complete.")
    email, _, scope = query["X-Goog-Credential"].partition("/")
    if not re.fullmatch(r"\d{8}/[a-z0-9-]+/storage/goog4_request", scope) or scope[:8] != query["X-Goog-Date"][:8]:
        raise _mismatch("The credential scope is not that of the request.")
    try:
        signed_at = timegm(strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ"))
        expires_s = int(query["X-Goog-Expires"])
        signature = bytes.fromhex(query["X-Goog-Signature"])
    except ValueError:
        raise Refusal(400, "A query parameter of the signature cannot be read.") from None
    if not 0 < expires_s <= LONGEST_S:
        raise Refusal(400, "X-Goog-Expires must be at most 604800 seconds.")
    text = "\n".join([ALGORITHM, query["X-Goog-Date"], scope, hashlib.sha256(_canonical(call).encode()).hexdigest()])
    if not call.world.accounts.signed(email, signature, text.encode()):
        raise _mismatch(
            "Access denied. The request signature we calculated does not match the signature you provided. "
            "Check your Google secret key and signing method."
        )
    now = call.world.clock.now()
    if now < signed_at - SKEW_S:
        raise Refusal(403, "The signature is not valid yet.", code="RequestTimeTooSkewed")
    if now >= signed_at + expires_s:
        raise Refusal(400, "The provided token has expired.", code="ExpiredToken")
    return email


def _canonical(call: Call) -> str:
    def encoded(text: str) -> str:
        return quote(text, safe="~-._")

    parameters = sorted((encoded(name), encoded(value)) for name, value in call.pairs if name != "X-Goog-Signature")
    names = call.query["X-Goog-SignedHeaders"]
    listed = names.split(";")
    if "host" not in listed:
        raise _mismatch("The host header is not signed.")
    if missing := [name for name in listed if name not in call.headers]:
        raise _mismatch(f"Header was included in signedheaders, but not in the request: {missing[0]}.")
    if unsigned := [name for name in call.headers if name.startswith("x-goog-") and name not in listed]:
        raise _mismatch(f"Header was in the request, but not in signedheaders: {unsigned[0]}.")
    values = {name: ",".join(" ".join(value.split()) for value in call.headers.getlist(name)) for name in listed}
    lines = [
        call.method,
        call.raw_path,
        "&".join(f"{name}={value}" for name, value in parameters),
        "".join(f"{name}:{values[name]}\n" for name in listed),
        names,
        call.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
    ]
    return "\n".join(lines)


def _mismatch(message: str) -> Refusal:
    return Refusal(403, message, code="SignatureDoesNotMatch")
