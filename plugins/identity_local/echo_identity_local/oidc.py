"""An OpenID provider (OpenID Connect Core 1.0): where to send people, and whom its answer names."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import OpenIDProviderMetadata, get_well_known_url
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from echo_identity_local.config import GOOGLE_ISSUER, GoogleConfig, is_loopback, is_protected
from echo_identity_local.wire import MAX_EMAIL_LENGTH

SCOPE = "openid email profile"
ALGORITHMS = ["RS256", "ES256"]
"""Of ID tokens. Google signs with RS256, which every provider must know (OpenID Connect Core 1.0, 15.1)."""
TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 256 * 1024
MAX_AGE_S = 3600.0
"""How long the provider's addresses and keys are used; Google lets both be cached for some hours."""
MIN_REFETCH_S = 60.0
"""Between fetches for an unknown key, so that forged tokens do not drive requests to the provider."""
RETRY_S = 5.0
"""Before a provider that could not be reached is asked again: nobody waits behind others for the same answer."""
LEEWAY_S = 60
MAX_SUBJECT_LENGTH = 255  # OpenID Connect Core 1.0, 2
MAX_NAME_LENGTH = 100
MAX_PICTURE_LENGTH = 500
"""Characters. Twice each, they travel in every token of a user who has come this way, and must leave room there."""


class ProviderError(Exception):
    """The provider cannot be asked (``is_down``), or what it says cannot be used. Its text holds no secret."""

    def __init__(self, problem: str, *, is_down: bool = False) -> None:
        super().__init__(problem)
        self.is_down = is_down


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """Whom an ID token names. ``email`` is as the provider writes it; "" where it does not say."""

    subject: str
    email: str
    email_verified: bool
    name: str
    picture: str


@dataclass(frozen=True, slots=True)
class _Known:
    metadata: Mapping[str, Any]
    keys: KeySet
    fetched_at: float


class OidcProvider:
    """The provider of a configuration. Made by ``open_provider``; nothing is fetched before the first use."""

    def __init__(
        self,
        config: GoogleConfig,
        client: AsyncOAuth2Client,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = config.issuer
        self._client = client
        self._client_id = config.client_id
        self._now = now
        self._monotonic = monotonic
        self._known: _Known | None = None
        self._failed_at: float | None = None
        self._turn = asyncio.Lock()

    async def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where somebody signs in (Core 3.1.2.1, with RFC 7636). Raises ``ProviderError``."""
        known = await self._up_to_date()
        endpoint = known.metadata["authorization_endpoint"]
        url, _ = self._client.create_authorization_url(endpoint, state=state, nonce=nonce, code_verifier=verifier)
        return str(url)

    async def identify(self, *, code: str, nonce: str, verifier: str) -> Profile:
        """Exchange the code, and check the ID token (Core 3.1.3.7). Raises ``ProviderError``."""
        known = await self._up_to_date()
        methods = known.metadata.get("token_endpoint_auth_methods_supported") or ()
        method = "client_secret_post" if "client_secret_post" in methods else "client_secret_basic"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                token = await self._client.fetch_token(
                    known.metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                    redirect_uri=self._client.redirect_uri,
                    auth=self._client.client_auth(method),
                )
        except AuthlibBaseError as error:
            raise ProviderError(f"the code was refused: {str(error.error)[:60]!r}") from None
        except (httpx2.HTTPError, TimeoutError, ValueError) as error:
            # Not the error's text: it may hold what was sent.
            raise ProviderError(f"the code cannot be exchanged: {type(error).__name__}", is_down=True) from None
        finally:
            self._client.token = None  # the client would keep somebody's access token until the next one comes
        return _profile(await self._claims(known, token.get("id_token"), nonce, token.get("access_token")))

    async def _claims(self, known: _Known, id_token: object, nonce: str, access_token: object) -> Mapping[str, Any]:
        if not isinstance(id_token, str):
            raise ProviderError("the answer has no ID token")
        try:
            try:
                decoded = jwt.decode(id_token, known.keys, algorithms=ALGORITHMS)
            except JoseError:
                # The provider may have another key by now.
                known = await self._up_to_date(max_age_s=MIN_REFETCH_S)
                decoded = jwt.decode(id_token, known.keys, algorithms=ALGORITHMS)
            issuers = [known.metadata["issuer"]]
            if self.issuer == GOOGLE_ISSUER:
                issuers.append(GOOGLE_ISSUER.removeprefix("https://"))  # Google documents both
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                options={
                    "iss": {"essential": True, "values": issuers},
                    "aud": {"essential": True, "value": self._client_id},
                },
                params={"nonce": nonce, "client_id": self._client_id, "access_token": access_token},
            )
            claims.validate(now=int(self._now().timestamp()), leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ProviderError(f"the ID token cannot be trusted: {type(error).__name__}") from None
        return dict(claims)

    async def _up_to_date(self, max_age_s: float = MAX_AGE_S) -> _Known:
        async with self._turn:
            now = self._monotonic()
            if self._known is not None and now - self._known.fetched_at <= max_age_s:
                return self._known
            if self._failed_at is not None and now - self._failed_at < RETRY_S:
                raise ProviderError("it could not be reached a moment ago", is_down=True)
            try:
                self._known = await self._fetch()
            except ProviderError:
                self._failed_at = self._monotonic()
                raise
            return self._known

    async def _fetch(self) -> _Known:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                well_known = await self._get(get_well_known_url(self.issuer, external=True))
                metadata = OpenIDProviderMetadata(well_known)
                # Discovery 4.3: else another provider could speak for this one.
                if metadata.get("issuer") != self.issuer:
                    raise ProviderError("the issuer that it names is another one", is_down=True)
                endpoints = ("authorization_endpoint", "token_endpoint", "jwks_uri")
                if not all(is_protected(str(metadata.get(endpoint) or "")) for endpoint in endpoints):
                    raise ProviderError("an address that it names is missing, or no https", is_down=True)
                keys = KeySet.import_key_set(await self._get(metadata["jwks_uri"]))  # type: ignore[arg-type] # checked there
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, JoseError, ValueError, TypeError, KeyError) as error:
            raise ProviderError(f"it cannot be reached: {type(error).__name__}", is_down=True) from None
        return _Known(metadata, keys, self._monotonic())

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._client.stream("GET", url, withhold_token=True) as response:
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise ProviderError("an answer is too large", is_down=True)
        found = json.loads(bytes(body))
        if not isinstance(found, dict):
            raise ProviderError("an answer is no JSON object", is_down=True)
        return found


@asynccontextmanager
async def open_provider(
    config: GoogleConfig, *, redirect_uri: str, now: Callable[[], datetime]
) -> AsyncIterator[OidcProvider]:
    """The provider, with a client of its own. ``redirect_uri``: where it sends people back to."""
    async with AsyncOAuth2Client(
        client_id=config.client_id,
        client_secret=config.client_secret.get_secret_value(),
        scope=SCOPE,
        redirect_uri=redirect_uri,
        code_challenge_method="S256",
        timeout=TIMEOUT_S,
        trust_env=not is_loopback(config.issuer),  # what is on this machine is not reached through a proxy
    ) as client:
        yield OidcProvider(config, client, now=now)


def _profile(claims: Mapping[str, Any]) -> Profile:
    subject = _text(claims.get("sub"), MAX_SUBJECT_LENGTH)
    if not subject or subject != claims.get("sub"):
        raise ProviderError("the ID token names nobody")
    picture = _text(claims.get("picture"), MAX_PICTURE_LENGTH)
    return Profile(
        subject=subject,
        email=_text(claims.get("email"), MAX_EMAIL_LENGTH),
        email_verified=claims.get("email_verified") is True,
        name=_text(claims.get("name"), MAX_NAME_LENGTH),
        picture=picture if picture.startswith("https://") and picture.isascii() else "",
    )


def _text(value: object, longest: int) -> str:
    """A claim as text without what no database or page takes; "" where it is none, or too long."""
    if not isinstance(value, str) or len(value) > longest:
        return ""
    return "".join(character for character in value if character.isprintable())
