"""Signed, expiring URLs.

HMAC-SHA256 over a JSON array of: version, kind of access, the decoded path as it is routed, and every query parameter
but the signature, sorted. JSON makes the boundaries unambiguous, and nothing in the URL is left unsigned.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote, urlencode

from echo_core.plugin_api import Clock, InvalidRequestError, SignedUrl

Access = Literal["read", "upload"]
_VERSION = "echo-storage-local-1"
_EXPIRES = "expires"
_SIGNATURE = "signature"


class SignatureInvalidError(Exception):
    """The URL was not made by this instance, or was changed."""


class SignatureExpiredError(Exception):
    """The URL was right, once."""


class UrlSigner:
    """Makes and checks URLs below ``base_url``, with one secret key of 32 bytes."""

    def __init__(self, key: bytes, base_url: str, clock: Clock) -> None:
        self._key = key
        self.base_url = base_url.rstrip("/")
        self._clock = clock

    def sign(self, access: Access, path: str, fields: Mapping[str, str | None], expires_in_s: int) -> SignedUrl:
        """An absolute URL for ``path`` (decoded, with its leading slash); fields that are None are left out."""
        if expires_in_s <= 0:
            raise InvalidRequestError("A URL must live for at least one second.", code="invalid_expiry")
        expires = int(self._clock.now().timestamp()) + expires_in_s
        items = [(name, value) for name, value in fields.items() if value is not None]
        items.append((_EXPIRES, str(expires)))
        query = urlencode([*items, (_SIGNATURE, self._signature(access, path, items))])
        return SignedUrl(
            url=f"{self.base_url}{quote(path)}?{query}", expires_at=datetime.fromtimestamp(expires, tz=UTC)
        )

    def verify(self, access: Access, path: str, items: Sequence[tuple[str, str]]) -> dict[str, str]:
        """The signed fields of a request, or ``SignatureInvalidError`` or ``SignatureExpiredError``.

        ``items``: the decoded query. ``expires`` (seconds since the epoch) is among what is returned.
        """
        fields = dict(items)
        given = fields.pop(_SIGNATURE, "")
        if len(fields) + 1 != len(items):  # a name that occurs twice means one thing here and another there
            raise SignatureInvalidError
        wanted = self._signature(access, path, list(fields.items()))
        if not hmac.compare_digest(wanted.encode(), given.encode("utf-8", "surrogatepass")):
            raise SignatureInvalidError
        if self._clock.now().timestamp() >= int(fields[_EXPIRES]):
            raise SignatureExpiredError
        return fields

    def remaining_s(self, fields: Mapping[str, str]) -> int:
        """Seconds until verified ``fields`` expire."""
        return max(0, int(fields[_EXPIRES]) - int(self._clock.now().timestamp()))

    def _signature(self, access: Access, path: str, items: Sequence[tuple[str, str]]) -> str:
        canonical = json.dumps([_VERSION, access, path, sorted(items)], separators=(",", ":"))
        digest = hmac.digest(self._key, canonical.encode(), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()
