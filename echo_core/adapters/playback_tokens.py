"""Playback tokens: what stands in a URL that a player opens without headers. Each plays one video for a while.

A token is base64url, without padding, of ``version (1 byte) | expiry (5 bytes, seconds since the epoch) | owner (16) |
tag (16)``. The tag is HMAC-SHA256 over a label, the first three and the video's id, cut to 128 bits (RFC 2104, 5). The
video is not in the token: a token is only ever checked against the video of the URL that carries it.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from echo_core.domain.ids import UserId
from echo_core.plugin_api.context import Clock
from echo_core.plugin_api.errors import AuthError

VERSION = b"\x01"
_LABEL = b"echo/playback"
_EXPIRY_BYTES = 5
_TAG_BYTES = 16
_BODY_BYTES = len(VERSION) + _EXPIRY_BYTES + 16
TOKEN_LENGTH = 51
"""Characters of base64url for ``_BODY_BYTES + _TAG_BYTES``."""


class PlaybackTokens:
    """Mints with the first key of the ring and accepts all, so that a key can be replaced without a break."""

    def __init__(self, keys: Sequence[bytes], *, expires_in_s: int, clock: Clock) -> None:
        self._keys = tuple(keys)
        self._expires_in_s = expires_in_s
        self._clock = clock

    def mint(self, owner_id: UUID, video_id: UUID) -> str:
        """A token for one video, good for ``expires_in_s`` seconds."""
        expiry = int(self._clock.now().timestamp()) + self._expires_in_s
        body = VERSION + expiry.to_bytes(_EXPIRY_BYTES, "big") + owner_id.bytes
        return urlsafe_b64encode(body + _tag(self._keys[0], body, video_id)).rstrip(b"=").decode()

    def verify(self, token: str, video_id: UUID) -> UserId:
        """The owner. Raises ``AuthError`` (``token_invalid``; ``token_expired`` only for a genuine token)."""
        raw = _decoded(token)
        body, tag = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
        # Every key is tried, whether or not one fits before: the time taken tells nothing.
        fits = [hmac.compare_digest(tag, _tag(key, body, video_id)) for key in self._keys]
        if not any(fits) or body[:1] != VERSION:
            raise _invalid()
        expiry = int.from_bytes(body[1 : 1 + _EXPIRY_BYTES], "big")
        if self._clock.now() >= datetime.fromtimestamp(expiry, UTC):
            raise AuthError("This playback link has expired.", code="token_expired", remedy="Reload the page.")
        return UserId(UUID(bytes=body[1 + _EXPIRY_BYTES :]))


def _decoded(token: str) -> bytes:
    if len(token) != TOKEN_LENGTH:
        raise _invalid()
    try:
        raw = urlsafe_b64decode(token + "=")
    except (binascii.Error, ValueError):
        raise _invalid() from None
    # One token, one spelling: base64 ignores stray characters and unused bits.
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != token:
        raise _invalid()
    return raw


def _tag(key: bytes, body: bytes, video_id: UUID) -> bytes:
    return hmac.digest(key, _LABEL + body + video_id.bytes, "sha256")[:_TAG_BYTES]


def _invalid() -> AuthError:
    return AuthError("This playback link is not valid.", code="token_invalid", remedy="Reload the page.")
