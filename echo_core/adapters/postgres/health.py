"""Is the database there, and is it ours?"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres.errors import translated


async def check_database(engine: AsyncEngine) -> None:
    """Raises ``UnavailableError`` when the database does not answer a query."""
    with translated():
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))
