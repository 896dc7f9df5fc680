"""One transaction in one role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, CursorResult, Executable
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from echo_core.adapters.postgres.engine import BEGIN_WITH
from echo_core.adapters.postgres.errors import translated
from echo_core.adapters.postgres.queries import Query
from echo_core.domain.users import User
from echo_core.plugin_api.errors import UnavailableError

UNTRUSTED_CLAIMS = frozenset({"user_metadata"})
"""Claims that users write themselves; no policy may believe them, so none sees them."""

BEGIN = "begin; select set_config('role', 'none', true), set_config('request.jwt.claims', '', true)"
BEGIN_AS_SERVICE = "begin; select set_config('role', 'service_role', true), set_config('request.jwt.claims', '', true)"


def claims_of(user: User) -> str:
    """What policies may know of a user, as JSON. ``sub`` is the verified user's id, whatever the claims say:
    ``auth.uid()`` can always be computed."""
    fixed = {"sub": str(user.id), "role": "authenticated"}
    try:
        claims = {name: value for name, value in user.claims.items() if name not in UNTRUSTED_CLAIMS}
        encoded = msgspec.json.encode({**claims, **fixed})
    except (TypeError, ValueError):  # a lone surrogate, or not JSON at all
        encoded = msgspec.json.encode(fixed)
    if b"\\u0000" in encoded:  # jsonb refuses it, and with it every statement of this user
        encoded = msgspec.json.encode(fixed)
    return encoded.decode()


def begin_as_user(user: User) -> str:
    """Begin, become ``authenticated`` and set the claims, in one round trip.

    The simple protocol takes no parameters, so the claims travel as hexadecimal digits, from which no text can break
    out.
    """
    return (
        "begin; select set_config('role', 'authenticated', true), set_config('request.jwt.claims', "
        f"convert_from(decode('{claims_of(user).encode().hex()}', 'hex'), 'UTF8'), true)"
    )


class Transaction:
    """Runs statements in the one open transaction. Every call raises ``UnavailableError`` when the database is away
    or busy."""

    def __init__(self, engine: AsyncEngine, pooled: PoolProxiedConnection) -> None:
        self._engine = engine
        self._pooled = pooled
        self._driver: Any = pooled.driver_connection  # asyncpg.Connection, which has no types
        self._connection: AsyncConnection | None = None

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
    ) -> CursorResult[Any]:
        """Run a statement of SQLAlchemy Core; a sequence of parameters runs it for each."""
        if self._connection is None:
            # Made only now: reads need none, and it costs as much as a round trip.
            self._connection = AsyncConnection(self._engine, Connection(self._engine.sync_engine, self._pooled))
        with translated():
            return await self._connection.execute(statement, parameters)

    async def fetch(self, query: Query, **parameters: object) -> Sequence[Any]:
        """Run a compiled select on the driver itself."""
        with translated():
            rows: Sequence[Any] = await self._driver.fetch(query.sql, *query.arguments(parameters))
            return rows

    async def find(self, query: Query, **parameters: object) -> Any:
        """The first row of a compiled select, or None."""
        with translated():
            return await self._driver.fetchrow(query.sql, *query.arguments(parameters))

    async def release(self, *, doomed: bool = False) -> None:
        """Give the connection back to its pool, as it is; a doomed one is closed and given to nobody."""
        if self._connection is not None:
            if doomed:
                await self._connection.invalidate()
            await self._connection.close()
        elif doomed:
            await greenlet_spawn(self._pooled.invalidate)
        else:
            self._pooled.close()


@asynccontextmanager
async def transaction(engine: AsyncEngine, begin: str) -> AsyncIterator[Transaction]:
    """A transaction opened by ``begin``: committed on a clean exit, else rolled back.

    Role and claims are set for the transaction only, so the connection goes back to the pool without them.
    """
    pooled = await _connected(engine)
    driver: Any = pooled.driver_connection
    tx = Transaction(engine, pooled)
    doomed = True
    try:
        with translated():
            await driver.execute(begin + engine.sync_engine.get_execution_options().get(BEGIN_WITH, ""))
        yield tx
        with translated():
            outcome = await driver.execute("commit")
        doomed = False
    except BaseException as error:
        doomed = _is_unanswered(error) or not await _rolled_back(driver)
        raise
    finally:
        await tx.release(doomed=doomed)
    if outcome != "COMMIT":
        # Somebody swallowed the error of a statement, and the server answered the commit with a rollback.
        raise UnavailableError("The change was not stored.", code="database_rolled_back", remedy="Try again.")


async def fetch_alone(engine: AsyncEngine, sql: str, *arguments: object) -> Any:
    """The first value of a statement that is a transaction of its own: one round trip instead of three.

    For functions that take on the caller's role themselves. Raises ``UnavailableError``.
    """
    pooled = await _connected(engine)
    driver: Any = pooled.driver_connection
    tx = Transaction(engine, pooled)
    doomed = True
    try:
        with translated():
            value = await driver.fetchval(sql, *arguments)
        doomed = False
        return value
    except BaseException as error:
        doomed = _is_unanswered(error) or not await _rolled_back(driver)
        raise
    finally:
        await tx.release(doomed=doomed)


async def _connected(engine: AsyncEngine) -> PoolProxiedConnection:
    """A connection of the pool that was not closed while it lay there (the server restarted).

    From the pool itself: one of SQLAlchemy's around it would cost twice as much, and reads use only the driver.
    """
    with translated():
        pooled = await greenlet_spawn(engine.sync_engine.raw_connection)
        while cast("Any", pooled.driver_connection).is_closed():
            await greenlet_spawn(pooled.invalidate)
            pooled = await greenlet_spawn(engine.sync_engine.raw_connection)
        return pooled


def _is_unanswered(error: BaseException) -> bool:
    """Whether a statement was given up before the server answered it.

    Then nobody knows whether a transaction is open: the driver believes the last answer, which may be from before the
    ``begin``. And to ask may take as long as the statement did.
    """
    return isinstance(error, asyncio.CancelledError) or isinstance(error.__cause__, TimeoutError)


async def _rolled_back(driver: Any) -> bool:
    """Leave the connection without a transaction; False if that cannot be done."""
    try:
        if driver.is_closed():
            return False
        if driver.is_in_transaction():
            await driver.execute("rollback")
        return not driver.is_in_transaction()
    except Exception:
        return False  # the error that led here matters; this one only dooms the connection
