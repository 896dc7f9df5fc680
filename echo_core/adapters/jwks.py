"""The public keys of a token issuer, fetched and kept: JWK sets (RFC 7517)."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable

import httpx2
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, RSAKey

_log = logging.getLogger("echo.identity")

FETCH_TIMEOUT_S = 5.0
MAX_JWKS_BYTES = 256 * 1024
MAX_AGE_S = 600.0
"""How long a set counts as fresh: what Supabase serves as ``Cache-Control: max-age``."""
EMPTY_REFETCH_S = 5.0
"""Wait between fetches while there is no key at all: short, because until then nobody can sign in."""
MIN_RSA_BITS = 2048  # RFC 7518, 3.3


class JwksKeys:
    """The keys at ``url``, by ``kid``.

    Fetched at first need, again for an unknown ``kid`` at most once in ``min_refetch_s``, and in the background when
    older than ``MAX_AGE_S``. One fetch at a time, whoever asks. A failed fetch keeps the last good set. ``revision``
    grows with each set that was taken over. Close with ``aclose``.
    """

    def __init__(
        self,
        url: str,
        *,
        client: httpx2.AsyncClient,
        min_refetch_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.revision = 0
        self._url = url
        self._client = client
        self._min_refetch_s = min_refetch_s
        self._monotonic = monotonic
        self._keys: dict[str, Key] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._flight: asyncio.Task[None] | None = None

    @property
    def has_keys(self) -> bool:
        """Whether any fetch has ever succeeded."""
        return bool(self._keys)

    async def find(self, kid: str) -> Key | None:
        """The key of that id, fetching the set if it may have changed; None: the issuer has no such key."""
        key = self._keys.get(kid)
        if key is None:
            if self._may_fetch():
                await self._fetched()
            return self._keys.get(kid)
        if self._age() > MAX_AGE_S and self._may_fetch():
            self._start()  # served from the old set meanwhile
        return key

    async def aclose(self) -> None:
        """End a fetch that is under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    def _age(self) -> float:
        return self._monotonic() - self._fetched_at if self._fetched_at is not None else float("inf")

    def _may_fetch(self) -> bool:
        if self._tried_at is None or (self._flight is not None and not self._flight.done()):
            return True
        wait_s = self._min_refetch_s if self._keys else min(EMPTY_REFETCH_S, self._min_refetch_s)
        return self._monotonic() - self._tried_at >= wait_s

    def _start(self) -> asyncio.Task[None]:
        if self._flight is None or self._flight.done():
            self._tried_at = self._monotonic()  # of the start, so that a failure counts too
            self._flight = asyncio.create_task(self._fetch(), name="jwks-fetch")
        return self._flight

    async def _fetched(self) -> None:
        # Shielded: one caller that goes away must not end the fetch that others wait for.
        await asyncio.shield(self._start())

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                keys = usable_keys(await self._download())
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
            _log.warning("jwks.fetch_failed: %s: %s", type(error).__name__, error, extra={"url": self._url})
            return
        self._keys = keys
        self._fetched_at = self._monotonic()
        self.revision += 1

    async def _download(self) -> object:
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != httpx2.codes.OK:
                raise ValueError(f"the answer was {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_JWKS_BYTES:
                    raise ValueError(f"the answer is larger than {MAX_JWKS_BYTES} bytes")
        return json.loads(bytes(body))


def usable_keys(document: object) -> dict[str, Key]:
    """The signing keys of a set, by id. A key that cannot be used is left out; a set without any is an error."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the answer is not a JWK set")
    keys: dict[str, Key] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("kty") not in {"EC", "RSA"} or entry.get("use", "sig") != "sig":
            continue
        try:
            key = JWKRegistry.import_key({str(name): value for name, value in entry.items() if name != "key_ops"})
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        kid = key.kid
        if isinstance(kid, str) and kid and _is_strong(key):
            keys.setdefault(kid, key)
    if not keys:
        raise ValueError("the set holds no usable key (a project that signs with HS256 needs auth.hs256_secret)")
    return keys


def _is_strong(key: Key) -> bool:
    if isinstance(key, RSAKey):
        return key.public_key.key_size >= MIN_RSA_BITS
    return isinstance(key, ECKey) and key.curve_name == "P-256"
