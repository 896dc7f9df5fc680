"""Signing in with Google, or another OpenID provider: out to it, back from it, and whose account that is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import structlog
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from echo_core.plugin_api import IdentityContext
from echo_identity_local import store
from echo_identity_local.redirects import Redirects, with_code, with_error
from echo_identity_local.wire import ApiError, checked_email, checked_metadata

if TYPE_CHECKING:
    from echo_identity_local.oidc import OidcProvider, Profile

log = structlog.get_logger("echo.identity")

PROVIDER = "google"
CHALLENGE = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, 4.2
BROWSER = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits, as secrets.token_urlsafe(32) writes them
MAX_CODE_LENGTH = 4096

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """Where the browser goes, and the secret that it is to bring back ("" where nothing has begun)."""

    url: str
    browser: str = ""


class GoogleSignIn:
    """The two steps at this end. ``provider`` None: it is not configured."""

    def __init__(
        self,
        context: IdentityContext,
        provider: OidcProvider | None,
        redirects: Redirects,
        *,
        sign_up: bool,
    ) -> None:
        self._provider = provider
        self._redirects = redirects
        self._sign_up = sign_up
        self._database = context.database
        self._clock = context.clock
        self._key = context.derive_key("oauth")

    @property
    def is_on(self) -> bool:
        """Whether there is a provider."""
        return self._provider is not None

    async def begin(self, wanted: Mapping[str, str], browser: str) -> Departure:
        """Send somebody to the provider. ``browser``: the secret that this browser has already, or "".

        Raises ``ApiError`` for a provider that is not configured; other errors are told to the page that asked.
        """
        if self._provider is None or wanted.get("provider") != PROVIDER:
            raise ApiError(400, "validation_failed", "Unsupported provider: provider is not enabled")
        redirect_to = self._redirects.checked(wanted.get("redirect_to", ""))
        try:
            challenge = _checked_challenge(wanted)
            if BROWSER.fullmatch(browser) is None:
                browser = secrets.token_urlsafe(32)
            state = secrets.token_urlsafe(32)
            nonce, verifier = self._nonce(browser, state), self._verifier(browser, state)
            url = await self._asked(self._provider.authorization_url(state=state, nonce=nonce, verifier=verifier))
        except ApiError as error:
            return Departure(url=with_error(redirect_to, error))
        async with self._database.begin() as tx:
            await store.begin_state(
                tx,
                state=state,
                browser=browser,
                redirect_to=redirect_to,
                challenge=challenge,
                now=self._clock.now(),
            )
        return Departure(url=url, browser=browser)

    async def finish(self, told: Mapping[str, str], browser: str) -> str:
        """Where to send somebody who comes back from the provider: with a code for a session, or with an error."""
        if self._provider is None:
            raise ApiError(400, "validation_failed", "Unsupported provider: provider is not enabled")
        state = told.get("state", "")
        async with self._database.begin() as tx:
            begun = await store.take_state(tx, state=state, browser=browser)
        if begun is None:
            # Somebody else's, used before, or made up: nobody knows a page that waits for it.
            error = ApiError(
                400, "bad_oauth_state", "This sign-in is unknown here: it was used before or begun elsewhere"
            )
            return with_error(self._redirects.public_url, error)
        # Checked again: the list may have changed since.
        redirect_to = self._redirects.checked(begun["redirect_to"])
        try:
            if self._clock.now() - begun["created_at"] > store.STATE_LIFETIME:
                raise ApiError(400, "flow_state_expired", "Signing in took too long")
            if "error" in told:
                raise _refused(told["error"])
            code = told.get("code", "")
            if not 0 < len(code) <= MAX_CODE_LENGTH:
                raise ApiError(400, "bad_oauth_callback", "The provider sent no code")
            nonce, verifier = self._nonce(browser, state), self._verifier(browser, state)
            profile = await self._asked(self._provider.identify(code=code, nonce=nonce, verifier=verifier))
            ours = str(uuid4())  # 122 bits of the system's, as Supabase Auth makes its codes
            async with self._database.begin() as tx:
                user = await self._user_of(tx, self._provider.issuer, profile)
                await store.begin_flow(
                    tx,
                    code=ours,
                    user_id=user["id"],
                    method="oauth",
                    challenge=begun["code_challenge"],
                    challenge_method="s256",
                    now=self._clock.now(),
                )
        except ApiError as error:
            log.info("oauth.refused", provider=PROVIDER, code=error.code)
            return with_error(redirect_to, error)
        return with_code(redirect_to, ours)

    async def _user_of(self, tx: AsyncConnection, issuer: str, profile: Profile) -> RowMapping:
        """The user that an identity stands for, found or made. Raises ``ApiError``."""
        now = self._clock.now()
        data = _identity_data(issuer, profile)
        await store.begin_linking(tx)
        user_id = await store.use_identity(tx, issuer=issuer, subject=profile.subject, data=data, now=now)
        if user_id is not None:
            return self._not_banned(await store.get_user(tx, user_id))
        if not profile.email or not profile.email_verified:
            message = "The provider does not say that the e-mail address has been verified"
            raise ApiError(403, "provider_email_needs_verification", message)
        email = checked_email(profile.email)
        user = await store.find_user(tx, email, verified_only=True)
        if user is None:
            user = await self._new_user(tx, email, profile)
        else:
            user = await self._linkable(tx, user)
        await store.add_identity(
            tx, issuer=issuer, subject=profile.subject, provider=PROVIDER, user_id=user["id"], data=data, now=now
        )
        return user

    async def _new_user(self, tx: AsyncConnection, email: str, profile: Profile) -> RowMapping:
        if not self._sign_up:
            raise ApiError(422, "signup_disabled", "Signups not allowed for this instance")
        user = await store.add_user(
            tx,
            email=email,
            password_hash=None,
            metadata=checked_metadata(_user_metadata(profile)),
            now=self._clock.now(),
            provider=PROVIDER,
            verified=True,
        )
        if user is None:  # the operator was faster
            raise ApiError(503, "conflict", "Try again")
        log.info("user.signed_up", user_id=str(user["id"]), provider=PROVIDER)
        return user

    async def _linkable(self, tx: AsyncConnection, user: RowMapping) -> RowMapping:
        """The user, who has shown that the address is theirs, as one who also signs in here."""
        self._not_banned(user)
        if any(linked["provider"] == PROVIDER for linked in await store.list_identities(tx, user["id"])):
            # An address that was given to somebody else, say: who had it before keeps the account.
            raise ApiError(422, "email_exists", "Another account of the provider signs in with this address already")
        providers = [*user["app_metadata"]["providers"], PROVIDER]
        changes = {"app_metadata": {**user["app_metadata"], "providers": providers}}
        log.info("user.linked", user_id=str(user["id"]), provider=PROVIDER)
        return await store.change_user(tx, user["id"], changes, self._clock.now())

    def _not_banned(self, user: RowMapping) -> RowMapping:
        if user["banned_until"] is not None and user["banned_until"] > self._clock.now():
            raise ApiError(403, "user_banned", "User is banned")
        return user

    async def _asked(self, asking: Awaitable[Answer]) -> Answer:
        from echo_identity_local.oidc import ProviderError

        try:
            return await asking
        except ProviderError as error:
            log.warning("oauth.provider_failed", provider=PROVIDER, problem=str(error))
            if error.is_down:
                raise ApiError(503, "unexpected_failure", "The provider cannot be reached at the moment") from None
            raise ApiError(400, "bad_oauth_callback", "What the provider answered cannot be used") from None

    # Both follow from what only this browser and this instance know: the database holds neither.

    def _nonce(self, browser: str, state: str) -> str:
        return self._derived("nonce", browser, state)

    def _verifier(self, browser: str, state: str) -> str:
        return self._derived("verifier", browser, state)

    def _derived(self, purpose: str, browser: str, state: str) -> str:
        digest = hmac.new(self._key, f"{purpose}:{browser}:{state}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _checked_challenge(wanted: Mapping[str, str]) -> str:
    challenge, method = wanted.get("code_challenge", ""), wanted.get("code_challenge_method", "")
    if not challenge:
        # The implicit flow would put the session itself into an address (RFC 9700, 2.1.2).
        raise ApiError(400, "validation_failed", "Only the PKCE flow is supported: set flowType to 'pkce'")
    if method.lower() != "s256" or CHALLENGE.fullmatch(challenge) is None:
        raise ApiError(400, "validation_failed", "The code challenge must be one of the method s256")
    return challenge


def _refused(error: str) -> ApiError:
    """What the provider says in place of a code (RFC 6749, 4.1.2.1), in our words: anybody may have written it."""
    if error == "access_denied":
        return ApiError(403, "access_denied", "The provider was not allowed to say who you are")
    if error in {"server_error", "temporarily_unavailable"}:
        return ApiError(503, "unexpected_failure", "The provider cannot be reached at the moment")
    return ApiError(400, "bad_oauth_callback", "The provider refused the request")


def _identity_data(issuer: str, profile: Profile) -> dict[str, Any]:
    """What supabase-js finds in ``identity_data``."""
    known = {"iss": issuer, "sub": profile.subject, "provider_id": profile.subject, "phone_verified": False}
    return {**known, **_user_metadata(profile)}


def _user_metadata(profile: Profile) -> dict[str, Any]:
    """What a new user keeps about itself, under the names that pages for Supabase look for."""
    said = {
        "email": profile.email.lower(),
        "email_verified": profile.email_verified,
        "name": profile.name,
        "full_name": profile.name,
        "picture": profile.picture,
        "avatar_url": profile.picture,
    }
    return {name: value for name, value in said.items() if value != ""}
