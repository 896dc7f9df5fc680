"""Tokens, signed with ES256 (RFC 7518, 3.4) by a key that follows from the instance's secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from echo_core.plugin_api import JsonObject

ALGORITHM = "ES256"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of the base point (FIPS 186-5 and SP 800-186, 3.2.1.3)."""
LEEWAY_S = 30


class BadTokenError(Exception):
    """A bearer token that this instance did not sign, or that has expired."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Whom a good token names, and in which session."""

    user_id: UUID
    session_id: UUID


class Signer:
    """Signs and checks access tokens. The key is the same after a restart and on every machine of the instance."""

    def __init__(self, seed: bytes, *, issuer: str, audience: str, role: str, now: Callable[[], datetime]) -> None:
        self._key = _key_of(seed)
        self._kid = self._key.thumbprint()  # RFC 7638
        self._issuer = issuer
        self._audience = audience
        self._role = role
        self._now = now
        self._registry = jwt.JWTClaimsRegistry(
            now=lambda: int(now().timestamp()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            role={"essential": True, "value": role},
        )

    def public_keys(self) -> JsonObject:
        """The JWK set."""
        public = self._key.as_dict(private=False)
        return {"keys": [{**public, "kid": self._kid, "alg": ALGORITHM, "use": "sig", "key_ops": ["verify"]}]}

    def mint(self, claims: Mapping[str, Any], expires_in_s: int) -> tuple[str, int]:
        """A token with these claims beside the registered ones, and when it expires (seconds since the epoch)."""
        issued_at = int(self._now().timestamp())
        expires_at = issued_at + expires_in_s
        registered = {"iss": self._issuer, "aud": self._audience, "role": self._role, "iat": issued_at}
        token = jwt.encode({"alg": ALGORITHM, "kid": self._kid}, {**claims, **registered, "exp": expires_at}, self._key)
        return token, expires_at

    def verify(self, token: str) -> Caller:
        """The caller. Raises ``BadTokenError``."""
        try:
            decoded = jwt.decode(token, self._key, algorithms=[ALGORITHM])
            self._registry.validate(decoded.claims)
            return Caller(user_id=UUID(str(decoded.claims["sub"])), session_id=UUID(str(decoded.claims["session_id"])))
        except (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise BadTokenError(type(error).__name__) from None


def successor(key: bytes, token: str) -> str:
    """The refresh token that replaces ``token``.

    It follows from it and a key of the instance's: so the parent of the active token can be answered with the active
    one, while the database holds nothing but hashes.
    """
    return hmac.new(key, token.encode(), hashlib.sha256).hexdigest()


def fingerprint(token: str) -> bytes:
    """What is stored of a refresh token, which is random enough to need no salt."""
    return hashlib.sha256(token.encode()).digest()


def proves(verifier: str, challenge: str, method: str) -> bool:
    """Whether the verifier is the one of that challenge (RFC 7636, 4.6)."""
    if method == "s256":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return hmac.compare_digest(verifier.encode(), challenge.encode())


def _key_of(seed: bytes) -> ECKey:
    # 256 more bits than the order has, so that the reduction favours no key (FIPS 186-5, A.2.1).
    scalar = int.from_bytes(hashlib.sha512(seed).digest()) % (P256_ORDER - 1) + 1
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ECKey.import_key(pem)
