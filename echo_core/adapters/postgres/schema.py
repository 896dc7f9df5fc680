"""Do this code and the database's schema fit together?

While an instance is upgraded, code of two versions works on one database. So a migration only adds (expand); what no
code uses any more is removed by a later one (contract), which says so by naming the oldest code that can still work:
``needs_code = "<revision>"`` in its module. Migrating leaves both numbers in ``echo.schema_revision()``, where every
process looks: docs/scaling.md, "Upgrades".
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

import echo_core
from echo_core.adapters.postgres.errors import sqlstate, translated
from echo_core.plugin_api.errors import ProviderError

_MISSING = frozenset({"3F000", "42883", "42501"})
"""invalid_schema_name, undefined_function, insufficient_privilege (on the schema): never migrated, or long ago."""


class SchemaError(ProviderError):
    """Code and schema do not fit: ``migrations_pending`` or ``database_newer``."""

    default_code = "migrations_pending"


def migrations_location() -> Path:
    """The migrations: packed into the wheel, or beside the package in a checkout."""
    package = Path(echo_core.__file__).parent
    packed = package / "_migrations"
    return packed if packed.is_dir() else package.parent / "migrations"


@cache
def code_revision() -> str:
    """The newest revision that this code knows. From the names of the files: importing alembic takes longer than the
    rest of a process's start."""
    return max(path.name.partition("_")[0] for path in (migrations_location() / "versions").glob("[0-9]*_*.py"))


async def check_schema(engine: AsyncEngine) -> None:
    """Raises ``SchemaError`` when this code cannot work with the schema, ``UnavailableError`` when nobody can tell."""
    needed = code_revision()
    try:
        with translated():
            async with engine.connect() as connection:
                found = await connection.execute(text("select revision, needs_code from echo.schema_revision()"))
                revision, needs_code = found.one()
    except DBAPIError as error:
        if sqlstate(error) not in _MISSING:
            raise
        revision, needs_code = "", ""
    if revision < needed:
        raise SchemaError(
            f"The database has {f'revision {revision}' if revision else 'no schema of Echo, or an old one'}; this "
            f"version of Echo needs {needed}.",
            remedy="Run 'echoctl migrate' of this version; processes of the version before go on working.",
        )
    if needs_code > needed:
        raise SchemaError(
            f"The database has revision {revision}, with which no Echo older than revision {needs_code} can work; this "
            f"one knows {needed}.",
            code="database_newer",
            remedy="Install the newer version of Echo here as well, or restore a backup from before its migration.",
        )
