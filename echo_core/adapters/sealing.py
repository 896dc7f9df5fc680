"""Sealing answers that are kept for idempotency keys: some hold upload URLs, which are secrets as long as they live.

AES-256-GCM (NIST SP 800-38D) with a random nonce, bound to the owner and the key: what is copied to another row, or
changed, does not open. Format: version byte, nonce, ciphertext with its tag; inside, the length of the location, the
location, the body.
"""

from __future__ import annotations

import secrets
import struct
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
NONCE_BYTES = 12
"""What the mode is made for. Random ones are safe for four thousand million answers under one key."""
_LENGTH = struct.Struct(">I")


class SealBrokenError(Exception):
    """It was sealed under another secret, for another row, by a later version, or is damaged."""


class AnswerSeal:
    """Seals and opens under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, owner_id: UUID, key: str, *, body: bytes, location: str) -> bytes:
        """One answer as stored."""
        head = location.encode()
        nonce = secrets.token_bytes(NONCE_BYTES)
        plain = _LENGTH.pack(len(head)) + head + body
        return VERSION + nonce + self._cipher.encrypt(nonce, plain, _bound_to(owner_id, key))

    def open(self, owner_id: UUID, key: str, sealed: bytes) -> tuple[bytes, str]:
        """Body and location of an answer. Raises ``SealBrokenError``."""
        if sealed[:1] != VERSION:
            raise SealBrokenError
        nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            plain = self._cipher.decrypt(nonce, ciphertext, _bound_to(owner_id, key))
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError from error
        (length,) = _LENGTH.unpack_from(plain)
        start = _LENGTH.size + length
        return plain[start:], plain[_LENGTH.size : start].decode()


def _bound_to(owner_id: UUID, key: str) -> bytes:
    return VERSION + owner_id.bytes + key.encode()
