"""Who may open a status connection: tokens, one-time tickets, and the codes with which the others are refused."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from echo_core.application.ports import Tokens
from echo_core.application.realtime_frames import ClientMessage
from echo_core.domain.users import User
from echo_core.plugin_api.context import Clock
from echo_core.plugin_api.errors import AuthError, EchoError

CLOSE_TOO_BIG: Final = 1009
CLOSE_RESTART: Final = 1012
CLOSE_TRY_LATER: Final = 1013
"""RFC 6455, section 7.4, and its IANA registry."""
CLOSE_SLOW: Final = 4008
CLOSE_BAD_MESSAGE: Final = 4400
CLOSE_UNAUTHENTICATED: Final = 4401
CLOSE_FORBIDDEN: Final = 4403
CLOSE_TOO_MANY: Final = 4429


class RefusedError(Exception):
    """The connection cannot be had. ``close_code`` says so to the client's program, ``reason`` to its author."""

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(reason)
        self.close_code = close_code
        self.reason = reason


class TicketStore(Protocol):
    """Keeps who a ticket stands for, until it is taken or has expired."""

    async def put(self, key: str, user: User, *, expires_in_s: int) -> None:
        """Raises ``UnavailableError``."""

    async def take(self, key: str) -> User | None:
        """The user, once; None ever after, and for a key that never was. Raises ``UnavailableError``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """A secret that opens one connection, once, before ``expires_at``."""

    ticket: str
    expires_at: datetime


async def issue_ticket(store: TicketStore, user: User, *, clock: Clock, expires_in_s: int) -> Ticket:
    """A fresh ticket for this user. Raises ``UnavailableError``."""
    ticket = secrets.token_urlsafe(32)
    await store.put(_key(ticket), user, expires_in_s=expires_in_s)
    return Ticket(ticket=ticket, expires_at=clock.now() + timedelta(seconds=expires_in_s))


async def authenticate(message: ClientMessage, user_id: str, *, tokens: Tokens, tickets: TicketStore) -> User:
    """The user that an ``auth`` message proves to be ``user_id``. Raises ``RefusedError``."""
    if message.type != "auth" or (message.token is None) == (message.ticket is None):
        raise RefusedError(CLOSE_BAD_MESSAGE, "the first message must be auth with a token or a ticket")
    try:
        if message.token is not None:
            user = await tokens.verify(message.token)
        else:
            user = await _redeem(tickets, message.ticket or "")
    except AuthError as error:
        raise RefusedError(CLOSE_UNAUTHENTICATED, error.code) from error
    except EchoError as error:
        raise RefusedError(CLOSE_TRY_LATER, error.code) from error
    if str(user.id) != user_id.lower():
        raise RefusedError(CLOSE_FORBIDDEN, "not your user id")
    return user


async def _redeem(tickets: TicketStore, ticket: str) -> User:
    user = await tickets.take(_key(ticket))
    if user is None:
        raise AuthError("The ticket is unknown, used or expired.", code="ticket_invalid")
    return user


def _key(ticket: str) -> str:
    """What the store knows a ticket by: whoever can read the store cannot use what is in it."""
    return hashlib.sha256(ticket.encode()).hexdigest()
