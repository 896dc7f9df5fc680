"""An issuer on loopback: real keys, a real HTTP server for its JWK set, and a clock that tests move."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey

from echo_core.application.ports import Tokens
from echo_core.plugin_api.errors import AuthError

ISSUER = "https://issuer.example/auth/v1"
START = datetime(2026, 1, 1, tzinfo=UTC)


class MovableClock:
    """Wall clock and monotonic clock in one."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1000.0 + self.seconds

    def timestamp(self) -> int:
        return int(self.now().timestamp())


class Issuer:
    """Signs tokens and serves its public keys; ``fetches`` counts the requests."""

    def __init__(self, clock: MovableClock) -> None:
        self.clock = clock
        self.url = ""
        self.fetches = 0
        self.status = "200 OK"
        self.headers = ""
        self.body: bytes | None = None
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.keys: list[Key] = [new_key("first")]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.fetches += 1
        self.asked.set()
        await self.gate.wait()
        body = self.body
        if body is None:
            body = json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()
        head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{self.headers}\r\n"
        writer.write(head.encode() + body)
        writer.close()
        await writer.wait_closed()

    def token(self, key: Key | None = None, *, header: dict[str, object] | None = None, **claims: object) -> str:
        """A good token, except for these claims; ``None`` leaves a claim out."""
        key = key or self.keys[0]
        alg = {"EC": "ES256", "RSA": "RS256", "oct": "HS256"}[key.key_type]
        kid = {"kid": key.kid} if key.kid else {}
        now = self.clock.timestamp()
        every: dict[str, Any] = {
            "iss": ISSUER,
            "sub": str(uuid4()),
            "aud": "authenticated",
            "role": "authenticated",
            "iat": now,
            "exp": now + 3600,
            "email": "ada@example.com",
        } | claims
        payload = {name: value for name, value in every.items() if value is not None}
        return jwt.encode({"alg": alg} | kid | (header or {}), payload, key, algorithms=[alg])


def new_key(kid: str, kind: type[ECKey] | type[RSAKey] = ECKey) -> Key:
    if kind is RSAKey:
        return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})
    return ECKey.generate_key("P-256", {"kid": kid, "use": "sig"})


async def refused(verifier: Tokens, token: str) -> str:
    with pytest.raises(AuthError) as caught:
        await verifier.verify(token)
    assert len(token) < 20 or token not in str(caught.value)
    return caught.value.code
