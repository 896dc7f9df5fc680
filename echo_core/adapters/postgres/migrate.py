"""Bringing the database to the present schema, from a checkout or an installed wheel."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.errors import sqlstate, unavailable
from echo_core.adapters.postgres.schema import migrations_location
from echo_core.adapters.postgres.tables import SCHEMA
from echo_core.plugin_api.errors import ProviderError

log = structlog.get_logger("echo.postgres")

MIGRATION_LOCK = 0x6563_686F_0002
"""Key of the advisory lock under which one process migrates a database ("echo", 2)."""
OLDEST_SERVER = 15
SCRAM_ITERATIONS = 4096
"""PostgreSQL's own default (scram_iterations); the passwords are long and random."""
TRIES = 5
"""Roles belong to the server, the lock to one database: another instance of Echo may be changing them as well."""
CONCURRENTLY = "concurrently"
"""In "tuple concurrently updated" (XX000, internal_error), the catalogue's way of saying it."""


class MigrationError(ProviderError):
    """The database cannot be brought to the present schema; the remedy says what its administrator has to do."""

    default_code = "migration_failed"


async def migrate(owner_url: str, *, api_password: str, worker_password: str) -> None:
    """Create or upgrade the schema, and give the login roles ``echo_api`` and ``echo_worker`` these passwords.

    Safe to repeat and to run several times at once: one does it, the others wait and find it done. (Not for two
    databases at once in one process: alembic's context is global.) The login needs a direct connection, or a pooler
    in session mode. Passwords are hashed here, so that no log of the server can hold them; they must be printable
    ASCII.

    Raises ``UnavailableError`` (unreachable, or a lock could not be had in time) and ``MigrationError``.
    """
    verifiers = {"echo_api": scram_verifier(api_password), "echo_worker": scram_verifier(worker_password)}
    async with owner_connection(owner_url) as connection:
        await _check_server(connection)
        await connection.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        await connection.commit()
        for left in reversed(range(TRIES)):
            try:
                await connection.run_sync(_upgrade)
                for role, verifier in verifiers.items():
                    # A verifier is base64, digits, "$" and ":"; a password clause takes no parameters.
                    await connection.exec_driver_sql(f"alter role {role} with login password '{verifier}'")
                await connection.commit()
                break
            except DBAPIError as error:
                await connection.rollback()
                if not left or CONCURRENTLY not in str(error.orig):
                    raise
    log.info("database.migrated", revision=alembic_scripts().get_current_head())


async def pending(owner_url: str) -> bool:
    """Whether migrations are missing. Raises ``UnavailableError``, and ``MigrationError`` (code ``database_newer``)
    if the database was migrated by a newer Echo."""
    async with owner_connection(owner_url) as connection:
        current = await connection.run_sync(_current_revision)
    if current is None:
        return True
    scripts = alembic_scripts()
    if current not in {script.revision for script in scripts.walk_revisions()}:
        raise _newer(current)
    return current != scripts.get_current_head()


@asynccontextmanager
async def owner_connection(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection of the owner, its errors told as what to do about them."""
    async with open_engine(url, application_name="echo-migrate", pool_size=1, statement_timeout_s=0) as engine:
        try:
            async with engine.connect() as connection:
                yield await connection.execution_options(isolation_level="READ COMMITTED")
        except (DBAPIError, OSError) as error:
            raise _explained(error) from error


def _explained(error: DBAPIError | OSError) -> ProviderError:
    if sqlstate(error) == "42501":
        return MigrationError(
            f"The login of database.url may not do what a migration needs: {_first_line(error)}.",
            code="migration_not_permitted",
            remedy="Let a superuser run: alter role <login> createrole; grant create on database <name> to <login>; "
            "if the roles exist already: grant anon, authenticated, service_role, echo_definer, echo_api, echo_worker "
            "to <login> with admin option.",
        )
    if (mapped := unavailable(error)) is not None:
        return mapped
    return MigrationError(
        f"The migration failed and was rolled back: {_first_line(error)}.",
        remedy="The database is as it was. Report this with the log.",
    )


def _first_line(error: DBAPIError | OSError) -> str:
    original = error.orig if isinstance(error, DBAPIError) else error
    cause = original.__cause__ if original is not None and original.__cause__ is not None else original
    return str(cause).partition("\n")[0].rstrip(".")


async def _check_server(connection: AsyncConnection) -> None:
    number = (await connection.execute(text("select current_setting('server_version_num')::int"))).scalar_one()
    if number // 10_000 < OLDEST_SERVER:
        raise MigrationError(
            f"The server is PostgreSQL {number // 10_000}.",
            code="database_too_old",
            remedy=f"Echo needs PostgreSQL {OLDEST_SERVER} or newer.",
        )


def _newer(revision: str) -> MigrationError:
    return MigrationError(
        f"The database has revision {revision}, which this version of Echo does not know.",
        code="database_newer",
        remedy="It was migrated by a newer Echo: install that version, or restore a backup from before.",
    )


def _upgrade(connection: Connection, revision: str = "head") -> None:
    current = _current_revision(connection)
    if current is not None and current not in {script.revision for script in alembic_scripts().walk_revisions()}:
        raise _newer(current)
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    _say_revision(connection)


def _say_revision(connection: Connection) -> None:
    """Leave the revision, and the oldest code that can work with it, where the API's and the worker's login see them.

    A function rather than a table: it has no rows that a role could be let into, and changes with the transaction.
    """
    current = _current_revision(connection) or ""
    for statement in revision_statements(current, needed_code(current)):
        connection.execute(text(statement))
    connection.commit()


def needed_code(revision: str) -> str:
    """The oldest version of Echo that can work with the schema of that revision; empty: any."""
    applied = [script for script in alembic_scripts().walk_revisions() if script.revision <= revision]
    return max((getattr(script.module, "needs_code", "") for script in applied), default="")


def revision_statements(revision: str, needs_code: str) -> Sequence[str]:
    """What makes the function that tells them."""
    return (
        f"create or replace function {SCHEMA}.schema_revision() returns table (revision text, needs_code text) "
        f"language sql immutable set search_path = '' as $$ select '{revision}', '{needs_code}' $$",
        f"revoke all on function {SCHEMA}.schema_revision() from public",
        f"grant execute on function {SCHEMA}.schema_revision() to echo_api, echo_worker",
    )


def _current_revision(connection: Connection) -> str | None:
    there = connection.execute(text("select to_regclass(:table)"), {"table": f"{SCHEMA}.alembic_version"}).scalar_one()
    if there is None:
        return None
    context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
    return context.get_current_revision()


def alembic_config() -> Config:
    """Where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(migrations_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def alembic_scripts() -> ScriptDirectory:
    """The migrations."""
    return ScriptDirectory.from_config(alembic_config())


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """What PostgreSQL stores for a password (RFC 5802, section 3; RFC 7677), so that it never sees the password.

    Raises ``ValueError`` unless the password is printable ASCII, for which SASLprep changes nothing.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("passwords of the database roles must be printable ASCII")
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
