"""What ``migrate`` would do to a database that is not at hand, as a script of plain SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO

from alembic import command

from echo_core.adapters.postgres.migrate import (
    MigrationError,
    alembic_config,
    alembic_scripts,
    needed_code,
    revision_statements,
    scram_verifier,
)
from echo_core.adapters.postgres.plugin_schemas import before_migrations, grants
from echo_core.plugin_api.identity import Migration

HEAD = "head"


def migration_sql(
    *, start: str = "", plugins: Mapping[str, Sequence[Migration]], passwords: Mapping[str, str] | None = None
) -> str:
    """One transaction that brings a database from revision ``start`` (empty: from nothing) to the present schema.

    ``plugins``: the migrations of each role and schema of a plugin; those that have run are passed over. ``passwords``
    of login roles are written as SCRAM verifiers; without them the script holds no secret, and sets none.

    Raises ``MigrationError`` (code ``revision_unknown``).
    """
    scripts = alembic_scripts()
    known = {script.revision for script in scripts.walk_revisions()}
    if start and start not in known:
        raise MigrationError(
            f"There is no revision {start}.",
            code="revision_unknown",
            remedy="Take the version_num of echo.alembic_version in the database; these are known: "
            f"{', '.join(sorted(known))}.",
        )
    out = StringIO()
    config = alembic_config()
    config.output_buffer = out
    command.upgrade(config, f"{start}:{HEAD}" if start else HEAD, sql=True)
    head = scripts.get_current_head() or ""
    statements = [*revision_statements(head, needed_code(head))]
    for role, migrations in plugins.items():
        statements += [*before_migrations(role), *(_unless_run(role, migration) for migration in migrations)]
        statements += grants(role)
    for role, password in (passwords or {}).items():
        statements.append(f"alter role {role} with login password '{scram_verifier(password)}'")
    rest = "".join(f"{statement};\n\n" for statement in statements)
    return (
        f"-- Echo's schema, from {f'revision {start}' if start else 'nothing'} to revision {head}. Run it as the owner "
        f"of the database.\nbegin;\n\n{out.getvalue()}{rest}commit;\n"
    )


def _unless_run(role: str, migration: Migration) -> str:
    return (
        f"do $echo$ begin\nif not exists (select from {role}.migrations where name = '{migration.name}') then\n"
        f"set local search_path = {role};\n{migration.sql.strip().rstrip(';')};\n"
        f"insert into {role}.migrations (name) values ('{migration.name}');\nset local search_path to default;\n"
        "end if;\nend $echo$"
    )
