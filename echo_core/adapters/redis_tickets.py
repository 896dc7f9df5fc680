"""One-time tickets in Redis: they vanish by themselves, and GETDEL makes each good for one use on any process."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec
from redis.exceptions import RedisError

from echo_core.adapters.redis_events import connect
from echo_core.domain.ids import UserId
from echo_core.domain.users import User
from echo_core.plugin_api.errors import UnavailableError

PREFIX: Final = "echo:ws-ticket:"
TIMEOUT_S: Final = 1.0


class _WireUser(msgspec.Struct, array_like=True):
    id: UUID
    email: str
    claims: dict[str, Any]
    expires_at_s: float


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_WireUser)


class RedisTicketStore:
    """Needs Redis 6.2 or Valkey (GETDEL)."""

    def __init__(self, url: str, *, prefix: str = PREFIX, timeout_s: float = TIMEOUT_S) -> None:
        self._prefix = prefix
        self._redis = connect(url, timeout_s=timeout_s, max_connections=2)

    async def put(self, key: str, user: User, *, expires_in_s: int) -> None:
        """Raises ``UnavailableError``."""
        value = _encoder.encode(_WireUser(user.id, user.email, dict(user.claims), user.expires_at_s))
        try:
            await self._redis.set(self._prefix + key, value, ex=expires_in_s)
        except (RedisError, OSError, TimeoutError) as error:
            raise UnavailableError("Tickets cannot be issued while Redis does not answer.") from error

    async def take(self, key: str) -> User | None:
        """Raises ``UnavailableError``."""
        try:
            value = await self._redis.getdel(self._prefix + key)
        except (RedisError, OSError, TimeoutError) as error:
            raise UnavailableError("Tickets cannot be checked while Redis does not answer.") from error
        if value is None:
            return None
        wire = _decoder.decode(value)
        return User(id=UserId(wire.id), email=wire.email, claims=wire.claims, expires_at_s=wire.expires_at_s)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose(close_connection_pool=True)
