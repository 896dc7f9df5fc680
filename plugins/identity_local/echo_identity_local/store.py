"""All SQL of this plugin. Each call works in the transaction of the connection that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_not
from sqlalchemy.ext.asyncio import AsyncConnection

from echo_identity_local.signing import fingerprint, successor
from echo_identity_local.tables import flow_states, identities, oauth_states, refresh_tokens, sessions, users

KEEP_REPLACED = timedelta(days=7)
"""How long a replaced refresh token is known as such; a theft that shows later only ends the thief's own try."""
FLOW_LIFETIME = timedelta(minutes=5)
"""As long as Supabase Auth lets a code be exchanged."""
STATE_LIFETIME = timedelta(minutes=10)
"""How long somebody may take to sign in at a provider."""
LINKING_LOCK = 0x6563686F6964656E
"""Advisory lock of whoever adds an identity ("echoiden"). Locks belong to the database, which is the instance's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refreshed:
    """What became of a refresh: ``outcome`` "ok" comes with the rest."""

    outcome: str
    token: str = ""
    session: RowMapping | None = None


async def add_user(
    tx: AsyncConnection,
    *,
    email: str,
    password_hash: str | None,
    metadata: Mapping[str, Any],
    now: datetime,
    provider: str = "email",
    verified: bool = False,
) -> RowMapping | None:
    """The new user; None if the address is taken.

    ``verified``: the address is theirs. Then somebody who has not shown that of themselves does not stand in the way.
    """
    if await find_user(tx, email, verified_only=verified) is not None:
        return None
    statement = insert_or_not(users).values(
        id=uuid4(),
        email=email,
        email_verified_at=now if verified else None,
        password_hash=password_hash,
        user_metadata=dict(metadata),
        app_metadata={"provider": provider, "providers": [provider]},
        created_at=now,
        updated_at=now,
    )
    return (await tx.execute(statement.on_conflict_do_nothing().returning(*users.c))).mappings().one_or_none()


async def find_users(tx: AsyncConnection, email: str) -> Sequence[RowMapping]:
    """The users with that lower-cased address, at most two: first the one whose address it has been shown to be."""
    query = select(users).where(users.c.email == email).order_by(users.c.email_verified_at.is_(None)).limit(2)
    return (await tx.execute(query)).mappings().all()


async def find_user(tx: AsyncConnection, email: str, *, verified_only: bool = False) -> RowMapping | None:
    """The first of ``find_users``; ``verified_only``: None unless the address is theirs."""
    found = await find_users(tx, email)
    return next((user for user in found if user["email_verified_at"] is not None or not verified_only), None)


async def user_of_session(tx: AsyncConnection, user_id: UUID, session_id: UUID) -> RowMapping | None:
    """The user, if the session is theirs and has not ended."""
    query = select(users).join(sessions, sessions.c.user_id == users.c.id)
    query = query.where(users.c.id == user_id, sessions.c.id == session_id, sessions.c.revoked_at.is_(None))
    return (await tx.execute(query)).mappings().one_or_none()


async def list_users(tx: AsyncConnection, after: str, limit: int) -> Sequence[RowMapping]:
    """Users by address, at most ``limit``. Two of one address are never parted, since ``after`` is an address."""
    query = select(users).where(users.c.email > after).order_by(users.c.email, users.c.email_verified_at.is_(None))
    found = (await tx.execute(query.limit(limit + 1))).mappings().all()
    if len(found) > limit > 1 and found[limit - 1]["email"] == found[limit]["email"]:
        return found[: limit - 1]
    return found[:limit]


async def change_user(tx: AsyncConnection, user_id: UUID, changes: Mapping[str, Any], now: datetime) -> RowMapping:
    """The user with these columns changed. Raises ``IntegrityError`` for an address that is taken."""
    statement = update(users).where(users.c.id == user_id).values(**changes, updated_at=now).returning(*users.c)
    return (await tx.execute(statement)).mappings().one()


async def begin_session(tx: AsyncConnection, user_id: UUID, method: str, token: str, now: datetime) -> RowMapping:
    """A new session of the user, whose first refresh token this is."""
    session = {"id": uuid4(), "user_id": user_id, "method": method, "created_at": now, "refreshed_at": now}
    made = (await tx.execute(insert(sessions).values(**session).returning(*sessions.c))).mappings().one()
    first = {"token_hash": fingerprint(token), "session_id": made["id"], "created_at": now}
    await tx.execute(insert(refresh_tokens).values(**first))
    await tx.execute(update(users).where(users.c.id == user_id).values(last_sign_in_at=now))
    return made


async def refresh(tx: AsyncConnection, key: bytes, token: str, now: datetime) -> Refreshed:
    """Replace a refresh token: "ok", "unknown" or "reused".

    The parent of the active token gets the active one once more: two tabs may refresh at the same moment, and an answer
    may be lost. An older one was stolen, or its successors were: the session ends. Refreshes of one session take turns
    at its row.
    """
    presented = fingerprint(token)
    query = select(refresh_tokens.c.session_id).where(refresh_tokens.c.token_hash == presented)
    session_id = (await tx.execute(query)).scalar_one_or_none()
    if session_id is None:
        return Refreshed(outcome="unknown")
    locked = select(sessions).where(sessions.c.id == session_id).with_for_update()
    session = (await tx.execute(locked)).mappings().one_or_none()
    if session is None:
        return Refreshed(outcome="unknown")
    if session["revoked_at"] is not None:
        return Refreshed(outcome="reused")
    active_only = select(refresh_tokens).where(
        refresh_tokens.c.session_id == session_id, refresh_tokens.c.revoked_at.is_(None)
    )
    active = (await tx.execute(active_only)).mappings().one()
    if active["parent_hash"] == presented:
        return Refreshed(outcome="ok", token=successor(key, token), session=session)
    if active["token_hash"] != presented:
        await tx.execute(update(sessions).where(sessions.c.id == session_id).values(revoked_at=now))
        return Refreshed(outcome="reused")
    new = successor(key, token)
    mine = refresh_tokens.c.session_id == session_id
    await tx.execute(update(refresh_tokens).where(refresh_tokens.c.token_hash == presented).values(revoked_at=now))
    row = {"token_hash": fingerprint(new), "session_id": session_id, "parent_hash": presented, "created_at": now}
    await tx.execute(insert(refresh_tokens).values(**row))
    await tx.execute(delete(refresh_tokens).where(mine, refresh_tokens.c.revoked_at < now - KEEP_REPLACED))
    await tx.execute(update(sessions).where(sessions.c.id == session_id).values(refreshed_at=now))
    return Refreshed(outcome="ok", token=new, session=session)


async def get_user(tx: AsyncConnection, user_id: UUID) -> RowMapping:
    """The user of that id, who must be there."""
    return (await tx.execute(select(users).where(users.c.id == user_id))).mappings().one()


async def end_sessions(
    tx: AsyncConnection, user_id: UUID, *, only: UUID | None = None, but: UUID | None = None
) -> None:
    """End a user's sessions: all, only one, or all but one."""
    statement = delete(sessions).where(sessions.c.user_id == user_id)
    if only is not None:
        statement = statement.where(sessions.c.id == only)
    if but is not None:
        statement = statement.where(sessions.c.id != but)
    await tx.execute(statement)


async def take_flow(tx: AsyncConnection, code: str) -> RowMapping | None:
    """The flow that a code stands for; a second caller finds nothing."""
    statement = delete(flow_states).where(flow_states.c.code_hash == fingerprint(code)).returning(*flow_states.c)
    return (await tx.execute(statement)).mappings().one_or_none()


async def begin_flow(
    tx: AsyncConnection, *, code: str, user_id: UUID, method: str, challenge: str, challenge_method: str, now: datetime
) -> None:
    """Remember what a code stands for; forget those that nobody came for."""
    await tx.execute(delete(flow_states).where(flow_states.c.created_at < now - 2 * FLOW_LIFETIME))
    row = {
        "code_hash": fingerprint(code),
        "user_id": user_id,
        "method": method,
        "code_challenge": challenge,
        "code_challenge_method": challenge_method,
        "created_at": now,
    }
    await tx.execute(insert(flow_states).values(**row))


async def begin_state(
    tx: AsyncConnection, *, state: str, browser: str, redirect_to: str, challenge: str, now: datetime
) -> None:
    """Remember who went to the provider, and where to; forget those who did not come back."""
    await tx.execute(delete(oauth_states).where(oauth_states.c.created_at < now - 2 * STATE_LIFETIME))
    row = {
        "state_hash": fingerprint(state),
        "browser_hash": fingerprint(browser),
        "redirect_to": redirect_to,
        "code_challenge": challenge,
        "created_at": now,
    }
    await tx.execute(insert(oauth_states).values(**row))


async def take_state(tx: AsyncConnection, *, state: str, browser: str) -> RowMapping | None:
    """What was remembered, if it was for that browser; a second caller finds nothing."""
    mine = (oauth_states.c.state_hash == fingerprint(state)) & (oauth_states.c.browser_hash == fingerprint(browser))
    statement = delete(oauth_states).where(mine).returning(*oauth_states.c)
    return (await tx.execute(statement)).mappings().one_or_none()


async def begin_linking(tx: AsyncConnection) -> None:
    """Wait until nobody else adds an identity, until the transaction ends."""
    await tx.execute(select(func.pg_advisory_xact_lock(LINKING_LOCK)))


async def use_identity(
    tx: AsyncConnection, *, issuer: str, subject: str, data: Mapping[str, Any], now: datetime
) -> UUID | None:
    """Whose identity this is, with what the provider says now; None: nobody's."""
    statement = update(identities).where(identities.c.issuer == issuer, identities.c.subject == subject)
    statement = statement.values(identity_data=dict(data), updated_at=now, last_sign_in_at=now)
    user_id: UUID | None = (await tx.execute(statement.returning(identities.c.user_id))).scalar_one_or_none()
    return user_id


async def add_identity(
    tx: AsyncConnection,
    *,
    issuer: str,
    subject: str,
    provider: str,
    user_id: UUID,
    data: Mapping[str, Any],
    now: datetime,
) -> None:
    """Let the user sign in with that identity. Raises ``IntegrityError`` for somebody's, and for a second one of a
    provider."""
    row = {"issuer": issuer, "subject": subject, "provider": provider, "user_id": user_id, "identity_data": dict(data)}
    await tx.execute(insert(identities).values(**row, created_at=now, updated_at=now, last_sign_in_at=now))


async def list_identities(tx: AsyncConnection, user_id: UUID) -> Sequence[RowMapping]:
    """The identities at providers that the user signs in with: at most one of each."""
    query = select(identities).where(identities.c.user_id == user_id).order_by(identities.c.created_at).limit(20)
    return (await tx.execute(query)).mappings().all()
