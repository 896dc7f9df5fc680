"""One transaction in one role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import CursorResult, Executable
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from echo_core.adapters.postgres.errors import translated
from echo_core.adapters.postgres.queries import Query
from echo_core.domain.users import User
from echo_core.plugin_api.errors import UnavailableError

UNTRUSTED_CLAIMS = frozenset({"user_metadata"})
"""Claims that users write themselves; no policy may believe them, so none sees them."""

BEGIN = "begin; select set_config('role', 'none', true), set_config('request.jwt.claims', '', true)"
BEGIN_AS_SERVICE = "begin; select set_config('role', 'service_role', true), set_config('request.jwt.claims', '', true)"


def begin_as_user(user: User) -> str:
    """Begin, become ``authenticated`` and set the claims, in one round trip.

    The simple protocol takes no parameters, so the claims travel as hexadecimal digits, from which no text can break
    out. ``sub`` is the verified user's id, whatever the claims say: ``auth.uid()`` can always be computed.
    """
    fixed = {"sub": str(user.id), "role": "authenticated"}
    try:
        claims = {name: value for name, value in user.claims.items() if name not in UNTRUSTED_CLAIMS}
        encoded = msgspec.json.encode({**claims, **fixed})
    except (TypeError, ValueError):  # a lone surrogate, or not JSON at all
        encoded = msgspec.json.encode(fixed)
    if b"\\u0000" in encoded:  # jsonb refuses it, and with it every statement of this user
        encoded = msgspec.json.encode(fixed)
    return (
        "begin; select set_config('role', 'authenticated', true), "
        f"set_config('request.jwt.claims', convert_from(decode('{encoded.hex()}', 'hex'), 'UTF8'), true)"
    )


class Transaction:
    """Runs statements in the one open transaction. Every call raises ``UnavailableError`` when the database is away
    or busy."""

    def __init__(self, connection: AsyncConnection, driver: Any) -> None:
        self._connection = connection
        self._driver = driver  # asyncpg.Connection, which has no types

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
    ) -> CursorResult[Any]:
        """Run a statement of SQLAlchemy Core; a sequence of parameters runs it for each."""
        async with translated():
            return await self._connection.execute(statement, parameters)

    async def fetch(self, query: Query, **parameters: object) -> Sequence[Any]:
        """Run a compiled select on the driver itself."""
        async with translated():
            rows: Sequence[Any] = await self._driver.fetch(query.sql, *query.arguments(parameters))
            return rows

    async def find(self, query: Query, **parameters: object) -> Any:
        """The first row of a compiled select, or None."""
        async with translated():
            return await self._driver.fetchrow(query.sql, *query.arguments(parameters))


@asynccontextmanager
async def transaction(engine: AsyncEngine, begin: str) -> AsyncIterator[Transaction]:
    """A transaction opened by ``begin``: committed on a clean exit, else rolled back.

    Role and claims are set for the transaction only, so the connection goes back to the pool without them.
    """
    async with _connected(engine) as (connection, driver):
        try:
            async with translated():
                await driver.execute(begin)
            yield Transaction(connection, driver)
            async with translated():
                outcome = await driver.execute("commit")
        except BaseException:
            await _roll_back(connection, driver)
            raise
        if outcome != "COMMIT":
            # Somebody swallowed the error of a statement, and the server answered the commit with a rollback.
            raise UnavailableError("The change was not stored.", code="database_rolled_back", remedy="Try again.")


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[tuple[AsyncConnection, Any]]:
    """A connection of the pool that was not closed while it lay there (the server restarted), and its driver's."""
    connection = engine.connect()
    async with translated():
        await connection.start()
    try:
        async with translated():
            driver: Any = (await connection.get_raw_connection()).driver_connection
            while driver.is_closed():
                await connection.invalidate()
                driver = (await connection.get_raw_connection()).driver_connection
        yield connection, driver
    finally:
        await connection.close()


async def _roll_back(connection: AsyncConnection, driver: Any) -> None:
    """Leave the connection without a transaction, or leave it to nobody."""
    rolled_back = False
    try:
        if not driver.is_closed():
            if driver.is_in_transaction():
                await driver.execute("rollback")
            rolled_back = not driver.is_in_transaction()
    except Exception:  # noqa: S110 - the error that led here matters, this one only dooms the connection
        pass
    finally:
        if not rolled_back:
            await connection.invalidate()
