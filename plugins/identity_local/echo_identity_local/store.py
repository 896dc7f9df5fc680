"""All SQL of this plugin. Each call works in the transaction of the connection that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_not
from sqlalchemy.ext.asyncio import AsyncConnection

from echo_identity_local.signing import fingerprint, successor
from echo_identity_local.tables import flow_states, refresh_tokens, sessions, users

KEEP_REPLACED = timedelta(days=7)
"""How long a replaced refresh token is known as such; a theft that shows later only ends the thief's own try."""
FLOW_LIFETIME = timedelta(minutes=5)
"""As long as Supabase Auth lets a code be exchanged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refreshed:
    """What became of a refresh: ``outcome`` "ok" comes with the rest."""

    outcome: str
    token: str = ""
    session: RowMapping | None = None


async def add_user(
    tx: AsyncConnection, *, email: str, password_hash: str, metadata: Mapping[str, Any], now: datetime
) -> RowMapping | None:
    """The new user; None if the address is taken."""
    statement = insert_or_not(users).values(
        id=uuid4(),
        email=email,
        password_hash=password_hash,
        user_metadata=dict(metadata),
        app_metadata={"provider": "email", "providers": ["email"]},
        created_at=now,
        updated_at=now,
    )
    statement = statement.on_conflict_do_nothing(index_elements=["email"])
    return (await tx.execute(statement.returning(*users.c))).mappings().one_or_none()


async def find_user(tx: AsyncConnection, email: str) -> RowMapping | None:
    """The user with that lower-cased address."""
    return (await tx.execute(select(users).where(users.c.email == email))).mappings().one_or_none()


async def user_of_session(tx: AsyncConnection, user_id: UUID, session_id: UUID) -> RowMapping | None:
    """The user, if the session is theirs and has not ended."""
    query = select(users).join(sessions, sessions.c.user_id == users.c.id)
    query = query.where(users.c.id == user_id, sessions.c.id == session_id, sessions.c.revoked_at.is_(None))
    return (await tx.execute(query)).mappings().one_or_none()


async def list_users(tx: AsyncConnection, after: str, limit: int) -> Sequence[RowMapping]:
    """Users by address."""
    query = select(users).where(users.c.email > after).order_by(users.c.email).limit(limit)
    return (await tx.execute(query)).mappings().all()


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
