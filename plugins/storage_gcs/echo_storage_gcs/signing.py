"""Signed addresses (V4), with a key or without one, and kept for as long as they are fresh."""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import google.auth.credentials
from google.api_core.exceptions import from_http_response
from google.auth import impersonated_credentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud.storage import Bucket

from echo_core.plugin_api import AuthError, Clock, SignedUrl
from echo_storage_gcs.calls import Calls
from echo_storage_gcs.config import GcsConfig

MAX_LIFETIME_S = 7 * 24 * 3600
"""The longest that V4 knows."""
KEPT = 4096
FRESH = 0.8
"""A kept address is given out while at least this part of its lifetime is left: whoever gets it can still watch for
about as long as was asked for, and a browser finds what it has cached."""


class IamSigning(google.auth.credentials.Signing):
    """Signs without a key: IAM's ``signBlob``, in the name of ``email`` (IAM Service Account Credentials API, v1).

    One POST with a deadline; the client's own variant tries for two minutes.
    """

    def __init__(self, session: AuthorizedSession, endpoint: str, email: str, calls: Calls) -> None:
        self._session = session
        self._url = f"{endpoint}/v1/projects/-/serviceAccounts/{email}:signBlob"
        self._email = email
        self._calls = calls

    @property
    def signer(self) -> None:
        """There is none: nothing here has a key."""
        return None

    @property
    def signer_email(self) -> str:
        """Whose signature it is."""
        return self._email

    def sign_bytes(self, message: bytes) -> bytes:
        """Blocks. Raises Google's errors."""
        return bytes(self._calls.retry(self._sign)(message))

    def _sign(self, message: bytes) -> bytes:
        payload = {"payload": base64.b64encode(message).decode()}
        answer = self._session.post(self._url, json=payload, timeout=self._calls.timeout)
        if answer.status_code != 200:
            raise from_http_response(answer)
        return base64.b64decode(answer.json()["signedBlob"])


def signing_credentials(
    config: GcsConfig, credentials: google.auth.credentials.Credentials, session: AuthorizedSession, calls: Calls
) -> google.auth.credentials.Signing:
    """Whoever signs: the key that is here, or IAM in the name of ``signer`` or of the machine's account.

    Impersonated accounts are signed for by IAM as well: the library would do it with patience of its own.

    Blocks where the machine must be asked who it is. Raises ``AuthError`` (``storage_signer``).
    """
    has_key = isinstance(credentials, google.auth.credentials.Signing) and not isinstance(
        credentials, impersonated_credentials.Credentials
    )
    if has_key and not config.signer:
        return cast("google.auth.credentials.Signing", credentials)
    email = config.signer or _own_email(credentials)
    if not email:
        raise AuthError(
            "Echo does not know in whose name to sign the addresses of the bucket.",
            code="storage_signer",
            remedy="Set plugins.storage_gcs.signer to the e-mail address of the service account.",
        )
    return IamSigning(session, config.iam_endpoint, email, calls)


def _own_email(credentials: google.auth.credentials.Credentials) -> str:
    email = str(getattr(credentials, "service_account_email", "") or "")
    if email == "default":  # Compute Engine: the machine's metadata tell, with the first token
        credentials.refresh(Request())
        email = str(getattr(credentials, "service_account_email", ""))
    return "" if email == "default" else email


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an address shall permit. ``headers`` must be sent exactly so."""

    method: str
    key: str
    headers: tuple[tuple[str, str], ...] = ()
    generation: int | None = None
    content_type: str | None = None
    disposition: str | None = None
    endpoint: str = ""


@dataclass
class UrlSigner:
    """Makes signed addresses in threads. ``reads`` are kept, and one that is being made is not made twice."""

    bucket: Bucket
    config: GcsConfig
    calls: Calls
    clock: Clock
    credentials: google.auth.credentials.Signing
    _kept: OrderedDict[tuple[Wanted, int], SignedUrl] = field(default_factory=OrderedDict)
    _making: dict[tuple[Wanted, int], asyncio.Task[SignedUrl]] = field(default_factory=dict)

    @property
    def is_cheap(self) -> bool:
        """Whether a signature costs no request."""
        return not isinstance(self.credentials, IamSigning)

    async def read(self, wanted: Wanted, expires_in_s: int) -> SignedUrl:
        """An address to read by; maybe one that was given out before. Raises ``ProviderError``."""
        lifetime_s = max(1, min(expires_in_s, MAX_LIFETIME_S))
        name = (wanted, lifetime_s)
        kept = self._kept.get(name)
        if kept is not None and kept.expires_at - self.clock.now() >= FRESH * timedelta(seconds=lifetime_s):
            self._kept.move_to_end(name)
            return kept
        making = self._making.get(name)
        if making is None:
            making = self._making[name] = asyncio.create_task(self._make(name), name="sign an address")
            making.add_done_callback(lambda done: self._made(name, done))
        # One who goes away must not take it from the others.
        return await asyncio.shield(making)

    def _made(self, name: tuple[Wanted, int], done: asyncio.Task[SignedUrl]) -> None:
        self._making.pop(name, None)
        if not done.cancelled():
            done.exception()  # whoever waits for it hears of it; there may be nobody left

    async def _make(self, name: tuple[Wanted, int]) -> SignedUrl:
        signed = await self.sign(*name)
        self._kept[name] = signed
        self._kept.move_to_end(name)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return signed

    async def sign(self, wanted: Wanted, expires_in_s: int) -> SignedUrl:
        """A new address, for anything. Raises ``ProviderError``."""
        lifetime_s = max(1, min(expires_in_s, MAX_LIFETIME_S))
        expires_at = self.clock.now() + timedelta(seconds=lifetime_s)
        url = await self.calls.run(self._signed, wanted, lifetime_s)
        return SignedUrl(url=url, expires_at=expires_at)

    def _signed(self, wanted: Wanted, lifetime_s: int) -> str:
        headers: Mapping[str, str] = dict(wanted.headers)  # the client adds to what it is given
        return str(
            self.bucket.blob(wanted.key).generate_signed_url(
                version="v4",  # not the default
                expiration=timedelta(seconds=lifetime_s),
                api_access_endpoint=wanted.endpoint or self.config.browser_endpoint,  # its host is signed, too
                method=wanted.method,
                headers=headers,
                generation=wanted.generation,
                response_type=wanted.content_type,
                response_disposition=wanted.disposition,
                credentials=self.credentials,
            )
        )
