"""How the schema of the plugin comes about: again, at once, by an owner who is no superuser, and when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from echo_identity_local.tables import MIGRATIONS, SCHEMA

from echo_core.adapters.postgres.migrate import MigrationError
from echo_core.adapters.postgres.plugin_schemas import migrate_plugin
from echo_core.plugin_api import Migration

pytestmark = pytest.mark.integration

PASSWORD = "identity-password"
ALL = [migration.name for migration in MIGRATIONS]


@pytest.fixture
def bare(postgres: Any) -> Iterator[Any]:
    """A database of the kernel without the plugin's schema."""
    with postgres.database("echo_template") as fresh:
        yield fresh


async def run(url: str, migrations: tuple[Migration, ...] = MIGRATIONS, role: str = SCHEMA) -> None:
    await migrate_plugin(url, role=role, password=PASSWORD, migrations=migrations)


async def names(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row["name"] for row in await connection.fetch(f"select name from {SCHEMA}.migrations order by name")]
    finally:
        await connection.close()


async def test_several_at_the_same_moment_run_each_migration_once(bare: Any) -> None:
    await asyncio.gather(*(run(bare.owner_url) for _ in range(3)))
    assert await names(bare.owner_url) == ALL


async def test_what_fails_leaves_everything_as_it_was(bare: Any) -> None:
    await run(bare.owner_url)
    broken = (*MIGRATIONS, Migration(name="9999", sql="create table more (x int); create table users (x int)"))
    with pytest.raises(MigrationError):
        await run(bare.owner_url, broken)
    assert await names(bare.owner_url) == ALL
    await run(bare.owner_url, (*MIGRATIONS, Migration(name="9999", sql="create table more (x int)")))
    assert await names(bare.owner_url) == sorted([*ALL, "9999"])


async def test_users_from_before_addresses_were_verified_are_kept(bare: Any) -> None:
    await run(bare.owner_url, MIGRATIONS[:1])
    connection = await asyncpg.connect(bare.owner_url)
    insert = (
        f"insert into {SCHEMA}.users (id, email, password_hash, user_metadata, app_metadata, created_at, updated_at) "
        "values (gen_random_uuid(), 'ada@example.org', 'hash', '{}', '{}', now(), now())"
    )
    try:
        await connection.execute(insert)
        await run(bare.owner_url)
        (row,) = await connection.fetch(f"select email, password_hash, email_verified_at from {SCHEMA}.users")
        assert tuple(row) == ("ada@example.org", "hash", None)
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(insert)
    finally:
        await connection.close()


async def test_an_older_version_of_the_plugin_is_refused(bare: Any) -> None:
    await run(bare.owner_url, (*MIGRATIONS, Migration(name="9999", sql="create table more (x int)")))
    with pytest.raises(MigrationError) as newer:
        await run(bare.owner_url)
    assert newer.value.code == "database_newer"


async def test_an_owner_without_superuser_is_enough(postgres: Any) -> None:
    with postgres.database() as empty:
        postgres.run("create role hosted login createrole password 'hosted'")
        postgres.run(f"grant create on database {empty.name} to hosted")
        url = postgres.url(empty.name, user="hosted", password="hosted")
        # A role of another name: on this server a superuser has made the usual one, which only it may change.
        await run(url, role="echo_identity_hosted")
        await run(url, role="echo_identity_hosted")
        login = await asyncpg.connect(postgres.url(empty.name, user="echo_identity_hosted", password=PASSWORD))
        try:
            assert await login.fetch("select * from echo_identity_hosted.users") == []
        finally:
            await login.close()
