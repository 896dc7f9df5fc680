"""The use cases: sign-up, sign-in, refresh, changes and sign-out, and what the operator does."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import RowMapping, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.routing import BaseRoute

from echo_core.plugin_api import (
    DomainError,
    IdentityContext,
    IdentityProvider,
    JsonObject,
    LocalUser,
    UnavailableError,
)
from echo_identity_local import store
from echo_identity_local.config import IdentityConfig
from echo_identity_local.google import GoogleSignIn
from echo_identity_local.passwords import MAX_LENGTH, BusyError, Passwords
from echo_identity_local.signing import BadTokenError, Caller, Signer, proves
from echo_identity_local.tables import users
from echo_identity_local.throttle import Throttle
from echo_identity_local.wire import (
    ApiError,
    PasswordGrant,
    PkceGrant,
    RefreshGrant,
    SignUp,
    UserUpdate,
    checked_email,
    checked_metadata,
    user_json,
)

log = structlog.get_logger("echo.identity")


class LocalIdentity(IdentityProvider):
    """Identity in the instance's own database. Made by ``opening.open_local_identity``."""

    def __init__(
        self,
        context: IdentityContext,
        passwords: Passwords,
        google: GoogleSignIn,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = context.config_as(IdentityConfig)
        self.issuer = context.issuer
        self.google = google
        self._database = context.database
        self._clock = context.clock
        self._passwords = passwords
        self._refresh_key = context.derive_key("refresh")
        self._addresses = Throttle(self.config.address_tries_per_minute, monotonic)
        self._accounts = Throttle(self.config.account_tries_per_minute, monotonic)
        self._signer = Signer(
            context.derive_key("signing"),
            issuer=context.issuer,
            audience=context.audience,
            role=context.role,
            now=context.clock.now,
        )

    def routes(self) -> Sequence[BaseRoute]:
        """All of them."""
        from echo_identity_local.routes import make_routes

        return make_routes(self)

    def public_keys(self) -> JsonObject:
        """The one key."""
        return self._signer.public_keys()

    async def check(self) -> None:
        """Raises ``UnavailableError`` when the tables cannot be read."""
        try:
            async with self._database.connect() as tx:
                await tx.execute(select(users.c.id).limit(1))
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            raise UnavailableError(
                "The tables of users cannot be read.",
                code="identity_unavailable",
                remedy="If 'echoctl migrate' has not run since identity was switched on, run it.",
            ) from error

    def admit_address(self, address: str) -> None:
        """Count a try of the address. Raises ``ApiError`` 429."""
        if wait_s := self._addresses.take(address):
            raise _too_many(wait_s)

    # --- for everybody -------------------------------------------------------------------------------------------

    async def sign_up(self, wanted: SignUp, address: str) -> dict[str, Any]:
        """A new user's first session."""
        if not self.config.sign_up:
            raise ApiError(422, "signup_disabled", "Signups not allowed for this instance")
        email = checked_email(wanted.email)
        metadata = checked_metadata(wanted.data or {})
        self._check_password(wanted.password)
        self._admit(address, email)
        password_hash = await self._hash(wanted.password)  # of a taken address too: both take as long
        async with self._database.begin() as tx:
            user = await store.add_user(
                tx, email=email, password_hash=password_hash, metadata=metadata, now=self._clock.now()
            )
            if user is None:
                raise ApiError(422, "user_already_exists", "User already registered")
            session = await self._begin_session(tx, user["id"], "password")
        log.info("user.signed_up", user_id=str(user["id"]))
        return session

    async def sign_in(self, wanted: PasswordGrant, address: str) -> dict[str, Any]:
        """A session for an address and its password. Who has no account learns it no sooner than who mistyped."""
        email = checked_email(wanted.email)
        self._admit(address, email)
        async with self._database.connect() as tx:
            found = await store.find_users(tx, email)
        # The connection is back in the pool: a password takes far longer than a query.
        user = await self._whose(wanted.password, [user for user in found if user["password_hash"] is not None])
        if user is None:
            raise ApiError(400, "invalid_credentials", "Invalid login credentials")
        if self._is_banned(user):
            raise ApiError(400, "user_banned", "User is banned")
        async with self._database.begin() as tx:
            return await self._begin_session(tx, user["id"], "password")

    async def refresh(self, wanted: RefreshGrant) -> dict[str, Any]:
        """The session, with its next refresh token."""
        async with self._database.begin() as tx:
            result = await store.refresh(tx, self._refresh_key, wanted.refresh_token, self._clock.now())
            session = result.session
            user = await store.get_user(tx, session["user_id"]) if session is not None else None
            linked = await store.list_identities(tx, user["id"]) if user is not None else ()
        # Refused only now: that a session has ended must be committed.
        if result.outcome == "reused":
            log.warning("refresh_token.reused")
            raise ApiError(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
        if session is None or user is None:
            raise ApiError(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
        if self._is_banned(user):
            raise ApiError(400, "user_banned", "User is banned")
        return self._session(user, linked, session, result.token)

    async def exchange(self, wanted: PkceGrant) -> dict[str, Any]:
        """The session that a code stands for (RFC 7636, 4.6). A code works once, whoever was right or wrong."""
        now = self._clock.now()
        async with self._database.begin() as tx:
            flow = await store.take_flow(tx, wanted.auth_code)
        if flow is None:
            raise ApiError(404, "flow_state_not_found", "invalid flow state, no valid flow state found")
        if now - flow["created_at"] > store.FLOW_LIFETIME:
            raise ApiError(422, "flow_state_expired", "invalid flow state, flow state has expired")
        if not proves(wanted.code_verifier, flow["code_challenge"], flow["code_challenge_method"]):
            raise ApiError(400, "bad_code_verifier", "code challenge does not match previously saved code verifier")
        async with self._database.begin() as tx:
            user = await store.get_user(tx, flow["user_id"])
            if self._is_banned(user):
                raise ApiError(400, "user_banned", "User is banned")
            return await self._begin_session(tx, user["id"], flow["method"])

    # --- for whoever has signed in -------------------------------------------------------------------------------

    async def user(self, bearer: str) -> dict[str, Any]:
        """The caller."""
        _, user = await self._caller(bearer)
        async with self._database.connect() as tx:
            return user_json(user, await store.list_identities(tx, user["id"]))

    async def update(self, bearer: str, wanted: UserUpdate, address: str) -> dict[str, Any]:
        """The caller, changed. Another password ends all other sessions."""
        caller, user = await self._caller(bearer)
        changes: dict[str, Any] = {}
        if wanted.email is not None and (email := checked_email(wanted.email)) != user["email"]:
            changes |= {"email": email, "email_verified_at": None}
        if wanted.data is not None:
            merged = {**user["user_metadata"], **wanted.data}
            changes["user_metadata"] = checked_metadata({k: v for k, v in merged.items() if v is not None})
        if wanted.password is not None:
            self._check_password(wanted.password)
            self._admit(address, user["email"])
            if await self._matches(user["password_hash"], wanted.password):
                raise ApiError(422, "same_password", "New password should be different from the old password.")
            changes["password_hash"] = await self._hash(wanted.password)
        try:
            async with self._database.begin() as tx:
                if "email" in changes and await store.find_users(tx, changes["email"]):
                    raise _email_exists()
                changed = await store.change_user(tx, caller.user_id, changes, self._clock.now())
                linked = await store.list_identities(tx, caller.user_id)
                if wanted.password is not None:
                    await store.end_sessions(tx, caller.user_id, but=caller.session_id)
        except IntegrityError:
            raise _email_exists() from None
        return user_json(changed, linked)

    async def sign_out(self, bearer: str, scope: str) -> None:
        """End the caller's session ("local"), all of its sessions ("global"), or the "others"."""
        if scope not in {"global", "local", "others"}:
            raise ApiError(400, "validation_failed", f"Unsupported logout scope {scope!r}")
        caller, _ = await self._caller(bearer)
        only = caller.session_id if scope == "local" else None
        but = caller.session_id if scope == "others" else None
        async with self._database.begin() as tx:
            await store.end_sessions(tx, caller.user_id, only=only, but=but)

    # --- for the operator ----------------------------------------------------------------------------------------

    async def add_user(self, email: str, password: str) -> LocalUser:
        """Create a user."""
        address, password_hash = await self._given(email, password)
        async with self._reachable(), self._database.begin() as tx:
            # Whoever signed up with the address keeps it: nobody but the operator would be told of a second user.
            taken = await store.find_user(tx, address) is not None
            user = (
                None
                if taken
                else await store.add_user(
                    tx, email=address, password_hash=password_hash, metadata={}, now=self._clock.now(), verified=True
                )
            )
        if user is None:
            raise DomainError(
                f"There is a user with the address {address} already.",
                code="user_already_exists",
                remedy="To give it another password: echoctl users reset-password.",
            )
        return _local_user(user)

    async def _given(self, email: str, password: str) -> tuple[str, str]:
        """What the operator gives: the address as it is kept, and the hash."""
        with _as_domain_errors():
            address = checked_email(email)
            self._check_password(password)
            return address, await self._hash(password)

    async def find_user(self, email: str) -> LocalUser | None:
        """Look up one user."""
        async with self._reachable(), self._database.connect() as tx:
            user = await store.find_user(tx, email.strip().lower())
        return None if user is None else _local_user(user)

    async def list_users(self, *, after: str = "", limit: int = 100) -> Sequence[LocalUser]:
        """Users by address."""
        async with self._reachable(), self._database.connect() as tx:
            return [_local_user(user) for user in await store.list_users(tx, after, limit)]

    async def set_password(self, email: str, password: str) -> None:
        """Another password, and no session."""
        address, password_hash = await self._given(email, password)
        async with self._reachable(), self._database.begin() as tx:
            user = await store.find_user(tx, address)
            if user is not None:
                await store.change_user(tx, user["id"], {"password_hash": password_hash}, self._clock.now())
                await store.end_sessions(tx, user["id"])
        if user is None:
            raise DomainError(
                f"There is no user with the address {address}.",
                code="user_not_found",
                remedy="'echoctl users list' shows all.",
            )

    # --- what these have in common -------------------------------------------------------------------------------

    async def _caller(self, bearer: str) -> tuple[Caller, RowMapping]:
        if not bearer:
            raise ApiError(401, "no_authorization", "This endpoint requires a Bearer token")
        try:
            caller = self._signer.verify(bearer)
        except BadTokenError:
            raise ApiError(403, "bad_jwt", "invalid JWT: unable to parse or verify it, or it has expired") from None
        async with self._database.connect() as tx:
            user = await store.user_of_session(tx, caller.user_id, caller.session_id)
        if user is None:
            raise ApiError(403, "session_not_found", "Session from session_id claim in JWT does not exist")
        if self._is_banned(user):
            raise ApiError(403, "user_banned", "User is banned")
        return caller, user

    async def _whose(self, password: str, known: Sequence[RowMapping]) -> RowMapping | None:
        """Whose password it is. Without anybody who could have it, the work is the same as with one."""
        if len(password) > MAX_LENGTH:
            return None
        for user in known:
            if await self._matches(user["password_hash"], password):
                return user
        if not known:
            await self._matches(None, password)
        return None

    async def _begin_session(self, tx: AsyncConnection, user_id: UUID, method: str) -> dict[str, Any]:
        token = secrets.token_hex(32)
        session = await store.begin_session(tx, user_id, method, token, self._clock.now())
        user = await store.get_user(tx, user_id)
        return self._session(user, await store.list_identities(tx, user_id), session, token)

    def _session(
        self, user: RowMapping, linked: Sequence[RowMapping], session: RowMapping, refresh_token: str
    ) -> dict[str, Any]:
        shown = user_json(user, linked)
        claims = {
            "sub": shown["id"],
            "email": user["email"],
            "phone": "",
            "app_metadata": user["app_metadata"],
            "user_metadata": user["user_metadata"],
            "aal": "aal1",
            "amr": [{"method": session["method"], "timestamp": int(session["created_at"].timestamp())}],
            "session_id": str(session["id"]),
            "is_anonymous": False,
        }
        access_token, expires_at = self._signer.mint(claims, self.config.token_expires_in_s)
        return {
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": self.config.token_expires_in_s,
            "expires_at": expires_at,
            "refresh_token": refresh_token,
            "user": shown,
        }

    def _admit(self, address: str, email: str) -> None:
        """Count a try of the address and of the account, known or not. Raises ``ApiError`` 429."""
        wait_s = self._addresses.take(address) or self._accounts.take(email)
        if wait_s:
            raise _too_many(wait_s)

    def _check_password(self, password: str) -> None:
        shortest = self.config.min_password_length
        if len(password) < shortest:
            message = f"Password should be at least {shortest} characters."
            raise ApiError(422, "weak_password", message, reasons=("length",))
        if len(password) > MAX_LENGTH:
            raise ApiError(422, "validation_failed", f"Password cannot be longer than {MAX_LENGTH} characters")

    async def _hash(self, password: str) -> str:
        try:
            return await self._passwords.hash(password)
        except BusyError:
            raise _too_many(1) from None

    async def _matches(self, encoded: str | None, password: str) -> bool:
        try:
            return await self._passwords.matches(encoded, password)
        except BusyError:
            raise _too_many(1) from None

    def _is_banned(self, user: RowMapping) -> bool:
        until: datetime | None = user["banned_until"]
        return until is not None and until > self._clock.now()

    @asynccontextmanager
    async def _reachable(self) -> AsyncIterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            raise UnavailableError(
                "The tables of users cannot be used.",
                code="identity_unavailable",
                remedy="Look whether the database answers (echoctl doctor), and run 'echoctl migrate'.",
            ) from error


@contextmanager
def _as_domain_errors() -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        raise DomainError(f"{error.message.rstrip('.')}.", code=error.code) from None


def _local_user(user: RowMapping) -> LocalUser:
    return LocalUser(
        id=user["id"],
        email=user["email"],
        created_at=user["created_at"],
        last_sign_in_at=user["last_sign_in_at"],
    )


def _email_exists() -> ApiError:
    return ApiError(422, "email_exists", "A user with this email address has already been registered")


def _too_many(wait_s: int) -> ApiError:
    return ApiError(429, "over_request_rate_limit", "Request rate limit reached", retry_after_s=wait_s)
