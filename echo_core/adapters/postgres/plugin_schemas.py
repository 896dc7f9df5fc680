"""The tables of a plugin: a schema of its own, and a login role that may use that schema and nothing else.

The owner of the database owns the tables too, so that what the plugin runs with can read and write rows but change no
table. No other role of Echo gets any right there: whoever the API acts for, password hashes are out of reach.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from echo_core.adapters.postgres.migrate import (
    CONCURRENTLY,
    MIGRATION_LOCK,
    TRIES,
    MigrationError,
    owner_connection,
    scram_verifier,
)
from echo_core.plugin_api.identity import Migration

log = structlog.get_logger("echo.postgres")

LOCK_TIMEOUT = "5s"
"""As for the kernel's migrations: one that cannot have its lock gives up, and stops nobody behind it."""


async def migrate_plugin(owner_url: str, *, role: str, password: str, migrations: Sequence[Migration]) -> None:
    """Create the role and its schema (both named ``role``, lower-case letters, digits and ``_``) and run what of
    ``migrations`` has not run there yet, all or nothing. Safe to repeat, and to run several times at once.

    Raises ``UnavailableError`` and ``MigrationError``.
    """
    verifier = scram_verifier(password)
    async with owner_connection(owner_url) as connection:
        # Held until the connection ends, as by the kernel's migrations: roles must not change beside them.
        await connection.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        await connection.commit()
        for left in reversed(range(TRIES)):
            try:
                await connection.run_sync(_upgrade, role, verifier, migrations)
                break
            except DBAPIError as error:
                await connection.rollback()
                if not left or CONCURRENTLY not in str(error.orig):
                    raise
    log.info("plugin_schema.migrated", schema=role, migration=migrations[-1].name if migrations else "")


def _upgrade(connection: Connection, role: str, verifier: str, migrations: Sequence[Migration]) -> None:
    connection.execute(text("select set_config('lock_timeout', :timeout, true)"), {"timeout": LOCK_TIMEOUT})
    # A verifier is base64, digits, "$" and ":"; a password clause takes no parameters.
    for statement in (*before_migrations(role), f"alter role {role} with login password '{verifier}'"):
        connection.exec_driver_sql(statement)
    done = set(connection.execute(text(f"select name from {role}.migrations")).scalars())  # noqa: S608 - our own name
    known = [migration.name for migration in migrations]
    if newer := sorted(done - set(known)):
        raise MigrationError(
            f"Schema {role} has the migration {newer[-1]}, which the installed version of the plugin does not know.",
            code="database_newer",
            remedy="It was migrated by a newer version: install that one, or restore a backup from before.",
        )
    connection.execute(text("select set_config('search_path', :schema, true)"), {"schema": role})
    for migration in migrations:
        if migration.name not in done:
            for statement in _statements(migration.sql):
                connection.exec_driver_sql(statement)
            connection.execute(text("insert into migrations (name) values (:name)"), {"name": migration.name})
    for statement in grants(role):
        connection.exec_driver_sql(statement)
    connection.commit()


def before_migrations(role: str) -> Sequence[str]:
    """What makes the role, its schema, and the table of migrations that have run."""
    return (
        # Roles belong to the server: another instance of Echo on it may be creating this one as well.
        f"do $$ begin if not exists (select from pg_roles where rolname = '{role}') then "
        f"create role {role} login noinherit; end if; "
        "exception when duplicate_object or unique_violation then null; end $$",
        f"create schema if not exists {role}",
        f"revoke all on schema {role} from public",
        f"create table if not exists {role}.migrations "
        "(name text constraint migrations_pkey primary key, run_at timestamptz not null default now())",
    )


def grants(role: str) -> Sequence[str]:
    """What the role may do in its schema, once the migrations have run."""
    return (
        f"grant usage on schema {role} to {role}",
        f"grant select, insert, update, delete on all tables in schema {role} to {role}",
        f"revoke insert, update, delete on {role}.migrations from {role}",
    )


def _statements(sql: str) -> list[str]:
    """The single statements: the driver prepares them, and only one at a time. None of them may hold a ';' inside."""
    return [statement for part in sql.split(";") if (statement := part.strip())]
