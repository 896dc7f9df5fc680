"""How alembic reaches the database: over the connection it is given, else over ``-x url=postgresql://…``."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.tables import SCHEMA, Base

LOCK_TIMEOUT = "5s"
"""A migration that cannot have its lock within this time gives up instead of stopping everybody behind it."""


def _in_schema(name: str | None, type_: str, _parents: object) -> bool:
    return name == SCHEMA if type_ == "schema" else True


def _run(connection: Connection) -> None:
    connection.execute(text(f"create schema if not exists {SCHEMA}"))
    connection.execute(text("select set_config('lock_timeout', :timeout, false)"), {"timeout": LOCK_TIMEOUT})
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=_in_schema,
        compare_server_default=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


def _write() -> None:
    """The statements instead, for ``migration_sql``, which puts the transaction around them."""
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},  # the default one would write every % twice
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        literal_binds=True,
        transactional_ddl=False,
    )
    with context.begin_transaction():
        context.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        context.execute(f"create schema if not exists {SCHEMA}")
        context.run_migrations()


async def _run_online(url: str) -> None:
    opened = open_engine(url, application_name="echo-migrate", statement_timeout_s=0)
    async with opened as engine, engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        await connection.run_sync(_run)


def _main() -> None:
    if context.is_offline_mode():
        _write()
        return
    if (given := context.config.attributes.get("connection")) is not None:
        _run(given)
        return
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not isinstance(url, str):
        raise SystemExit("Say which database: alembic -x url=postgresql://user:password@host/name …")
    asyncio.run(_run_online(url))


_main()
