"""What the operator does, where it starts, and who may read its tables."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from echo_identity_local.signing import Signer
from echo_identity_local.tables import SCHEMA

from echo_core.plugin_api import DomainError, InvalidRequestError, UnavailableError
from echo_core.testing.manual_clock import ManualClock

pytestmark = pytest.mark.integration


async def test_the_operator_adds_lists_and_resets(served: Any, password: str) -> None:
    await served.identity.add_user("B@example.org", password)
    await served.identity.add_user("a@example.org", password)
    assert [user.email for user in await served.identity.list_users()] == ["a@example.org", "b@example.org"]
    assert [user.email for user in await served.identity.list_users(after="a@example.org")] == ["b@example.org"]
    with pytest.raises(DomainError) as taken:
        await served.identity.add_user("b@EXAMPLE.org", password)
    assert taken.value.code == "user_already_exists"
    with pytest.raises(DomainError) as weak:
        await served.identity.add_user("c@example.org", "short")
    assert weak.value.code == "weak_password"
    session = await served.sign_up("c@example.org")
    await served.identity.set_password("c@example.org", "something new")
    assert (await served.user(session["access_token"])).status_code == 403
    with pytest.raises(DomainError) as unknown:
        await served.identity.set_password("nobody@example.org", password)
    assert unknown.value.code == "user_not_found"
    assert await served.identity.find_user("nobody@example.org") is None


async def test_it_does_not_start_in_production_unless_allowed(serve_identity: Any) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        async with serve_identity(production=True):
            raise AssertionError("it started")
    assert refused.value.code == "identity_in_production"
    async with serve_identity(production=True, allow_in_production=True) as served:
        await served.identity.check()


async def test_without_tables_it_says_so(served: Any, database: Any) -> None:
    await served.identity.check()
    database.server.run(f"drop schema {SCHEMA} cascade", database=database.name)
    with pytest.raises(UnavailableError) as missing:
        await served.identity.check()
    assert missing.value.code == "identity_unavailable"
    answer = await served.post("/token?grant_type=refresh_token", {"refresh_token": "x"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


async def test_migrating_again_changes_nothing(served: Any, migrate_again: Any) -> None:
    import asyncio

    await served.sign_up()
    await asyncio.to_thread(migrate_again)
    assert len(await served.identity.list_users()) == 1


@pytest.mark.parametrize("role", ["", "authenticated", "anon"])
async def test_the_api_reads_no_table_of_users(database: Any, role: str) -> None:
    connection = await asyncpg.connect(database.api_url)
    try:
        if role:
            await connection.execute(f"set role {role}")
        for table in ("users", "sessions", "refresh_tokens", "flow_states", "identities", "oauth_states", "migrations"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"select * from {SCHEMA}.{table}")
    finally:
        await connection.close()


async def test_the_workers_role_reads_no_table_of_users(database: Any) -> None:
    connection = await asyncpg.connect(database.worker_url)
    try:
        for role in ("echo_worker", "service_role"):
            await connection.execute(f"set role {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"select * from {SCHEMA}.users")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "select * from echo.videos",
        "select * from echo.users",
        "set role authenticated",
        "set role service_role",
        f"drop table {SCHEMA}.users",
        f"create table {SCHEMA}.mine (x int)",
        f"insert into {SCHEMA}.migrations (name) values ('9999')",
    ],
)
async def test_the_plugins_role_may_do_nothing_else(role_url: str, statement: str) -> None:
    connection = await asyncpg.connect(role_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


def test_the_key_follows_from_the_secret() -> None:
    def keys(seed: bytes) -> Any:
        clock = ManualClock()
        return Signer(seed, issuer="i", audience="a", role="r", now=clock.now).public_keys()

    assert keys(b"one") == keys(b"one") != keys(b"two")
    (key,) = keys(b"one")["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
    assert "d" not in key
