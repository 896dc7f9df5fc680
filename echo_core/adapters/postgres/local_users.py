"""Users of the embedded identity."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from echo_core.adapters.postgres.tables import UserRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.domain.ids import UserId
from echo_core.domain.users import User


class PostgresLocalUserRepository:
    """``LocalUserRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def get_or_add(self, email: str) -> User:
        """The user with that (lower-cased) address, created at need (worker's role only)."""
        address = email.strip().lower()
        statement = insert(UserRow.__table__).values(id=uuid7(), email=address)
        statement = statement.on_conflict_do_nothing(index_elements=["email"])
        await self._tx.execute(statement)
        row = (await self._tx.execute(select(UserRow.__table__).where(UserRow.email == address))).one()
        return User(id=UserId(row.id), email=row.email)
