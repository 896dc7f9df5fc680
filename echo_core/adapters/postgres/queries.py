"""Statements of SQLAlchemy Core, compiled once and run on the driver itself.

Building and executing a statement through SQLAlchemy costs several times the processor time of running its text on
asyncpg; reads are most of what the API does, and claims with their events most of what the engine does. Rows come back
as asyncpg's records: ``row["name"]``.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Select, TextClause, Update
from sqlalchemy.dialects.postgresql import asyncpg

_DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]


class Query:
    """The text of a statement for asyncpg, and the names of its parameters in order.

    Every value in the statement must be a named ``bindparam`` or a literal. The driver takes JSON as text
    (``json_text``).
    """

    def __init__(self, statement: Select[tuple[object, ...]] | TextClause | Update) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        self.sql = str(compiled)
        self.names = tuple(compiled.positiontup or ())
        if unnamed := [name for name, bind in compiled.binds.items() if not bind.required]:
            raise TypeError(f"These values are neither parameters nor literals: {', '.join(unnamed)}")

    def arguments(self, parameters: Mapping[str, object]) -> tuple[object, ...]:
        """The parameters in the order of the text."""
        return tuple(parameters[name] for name in self.names)
