"""Migrations: from nothing, onto what hosted databases look like, with data, twice at once."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from alembic import command

import echo_core
from echo_core.adapters.postgres import migrate as module
from echo_core.adapters.postgres import schema
from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.migrate import MigrationError, migrate, pending, scram_verifier
from echo_core.adapters.postgres.migration_sql import migration_sql
from echo_core.adapters.postgres.schema import SchemaError, check_schema, code_revision, migrations_location
from echo_core.adapters.postgres.transaction import BEGIN_AS_SERVICE, transaction
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork, PostgresWorkerUnitsOfWork
from echo_core.application.ports import NewEvent, VideoQuery
from echo_core.domain.ids import UserId
from echo_core.domain.users import User
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.identity import Migration
from echo_core.plugin_api.steps import Resource
from tests.fakes.api import SEAL
from tests.integration.conftest import API_PASSWORD, BUNDLED_BIN, PASSWORD, WORKER_PASSWORD, Database, postgres_server

pytestmark = pytest.mark.integration

PASSWORDS = {"api_password": API_PASSWORD, "worker_password": WORKER_PASSWORD}
OLDER_BINS = {"16": BUNDLED_BIN.parents[1] / "pginstall" / "bin", "15": Path("/usr/lib/postgresql/15/bin")}

SUPABASE_LIKE = """
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role supabase_auth_admin nologin noinherit;
create role hosted login createrole createdb bypassrls password 'hosted';
grant anon, authenticated, service_role to hosted with admin option;
create schema auth authorization supabase_auth_admin;
grant usage on schema auth to anon, authenticated, service_role, hosted;
create function auth.uid() returns uuid language sql stable as $$
    select /* theirs */ coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
    )::uuid
$$;
alter function auth.uid() owner to supabase_auth_admin;
"""
MANAGED = "create role hosted login createrole createdb password 'hosted'"


async def query(url, sql):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


async def live(database, new_video, new_job) -> None:
    """The life of a video in short: both logins work, each in its role, and see what they should."""

    async def ignore(events, rings):
        pass

    async with open_engine(database.api_url) as api_engine, open_engine(database.worker_url) as worker_engine:
        api = PostgresUserUnitsOfWork(api_engine, ignore, SEAL)
        worker = PostgresWorkerUnitsOfWork(worker_engine, ignore)
        alice, bob = User(id=UserId(uuid4())), User(id=UserId(uuid4()))
        video = new_video(alice)
        job = new_job(video)
        async with api.for_user(alice) as uow:
            await uow.videos.add(video)
            await uow.jobs.add(job)
            await uow.events.add([NewEvent(type="video.created", owner_id=alice.id, video_id=video.id)])
            assert (await uow.jobs.outlook([job.id]))[job.steps[0].id].steps_before == 0
        assert (await api.list_videos(bob, VideoQuery(limit=5))).videos == ()
        async with worker.for_worker() as uow:
            before, step_id = await uow.jobs.claim_candidate(Resource.LIGHT)
            await uow.jobs.save(before, before.claimed(step_id, worker="w", now=await uow.jobs.now(), lease_s=9))
            assert (await uow.jobs.learned_rates()).work_per_media_s == {}
        assert len((await api.list_videos(alice, VideoQuery(limit=5))).videos) == 1
        assert await api.event_heads([alice.id, bob.id]) == {alice.id: 1, bob.id: 0}
        assert (await api.queue_statistics())[0].running == 1


async def test_from_nothing_the_roles_may_do_as_little_as_possible(database):
    roles = await query(
        database.owner_url,
        """
        select rolname, rolsuper or rolcreaterole or rolcreatedb or rolreplication as mighty, rolinherit, rolcanlogin,
            rolbypassrls, array(
                select roleid::regrole::text from pg_auth_members where member = r.oid order by 1
            ) as may_become
        from pg_roles r where rolname in ('anon', 'authenticated', 'service_role') or rolname like 'echo\\_%'
        """,
    )
    assert not any(role["mighty"] or role["rolinherit"] for role in roles)
    assert {role["rolname"] for role in roles if role["rolbypassrls"]} == {"service_role"}
    assert {role["rolname"]: role["may_become"] for role in roles if role["rolcanlogin"]} == {
        "echo_api": ["anon", "authenticated"],
        "echo_worker": ["service_role"],
    }
    assert not any(role["may_become"] for role in roles if not role["rolcanlogin"])
    owned = await query(
        database.owner_url, "select from pg_class c join pg_roles r on r.oid = c.relowner and r.rolname like 'echo%'"
    )
    assert owned == []


async def test_migrating_again_changes_nothing_but_the_passwords(database):
    before = await query(database.owner_url, "select oid, relname from pg_class order by oid")
    await migrate(database.owner_url, **PASSWORDS)
    assert await query(database.owner_url, "select oid, relname from pg_class order by oid") == before


def test_the_models_say_what_the_migrations_make(database):
    """``alembic check``."""

    async def check():
        async with open_engine(database.owner_url, statement_timeout_s=0) as engine, engine.connect() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")

            def run(sync_connection):
                config = module.alembic_config()
                config.attributes["connection"] = sync_connection
                command.check(config)

            await connection.run_sync(run)

    asyncio.run(check())


async def test_many_at_once_are_safe(postgres):
    with postgres.database() as empty:
        assert await pending(empty.owner_url)
        await asyncio.gather(*(migrate(empty.owner_url, **PASSWORDS) for _ in range(4)))
        assert not await pending(empty.owner_url)


MIGRATE = """
import asyncio, sys
from echo_core.adapters.postgres.migrate import migrate
asyncio.run(migrate(sys.argv[1], api_password=sys.argv[2], worker_password=sys.argv[3]))
"""


async def test_two_instances_on_one_new_server_can_start_at_once():
    """Their databases have locks of their own, but the roles are the server's."""
    with postgres_server() as server, server.database() as one, server.database() as two:
        started = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", MIGRATE, database.owner_url, API_PASSWORD, WORKER_PASSWORD
            )
            for database in (one, two)
        ]
        assert [await process.wait() for process in started] == [0, 0]
        assert not await pending(one.owner_url)
        assert not await pending(two.owner_url)


async def test_an_upgrade_keeps_the_data_of_every_earlier_revision(postgres, new_video, new_job):
    scripts = list(module.alembic_scripts().walk_revisions())[::-1]
    with postgres.database() as old:
        async with open_engine(old.owner_url, statement_timeout_s=0) as engine, engine.connect() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")
            await connection.run_sync(module._upgrade, "0002")
            await connection.execute(
                sa.text(
                    """
                    insert into echo.videos (id, owner_id, status, title, filename, content_type)
                    values (gen_random_uuid(), gen_random_uuid(), 'ready', 'Old', 'a.mp4', 'video/mp4')
                    """
                )
            )
            await connection.commit()
        assert scripts[-1].revision != "0002"
        assert await pending(old.owner_url)
        await migrate(old.owner_url, **PASSWORDS)
        assert await titles(old) == ["Old"]
        await live(old, new_video, new_job)


OF_TWO_STORAGES = """
with made as (
    insert into echo.videos (id, owner_id, status, title, filename, content_type)
    select gen_random_uuid(), gen_random_uuid(), 'ready', backend, 'a.mp4', 'video/mp4'
    from unnest(array['local', 'of-a-plugin']) as backend
    returning id, owner_id, title as backend
), sent as (
    insert into echo.uploads (
        video_id, owner_id, state, storage_key, filename, content_type, backend, backend_state, expires_at, created_at
    )
    select id, owner_id, 'completed', 'videos/' || id, 'a.mp4', 'video/mp4', backend, '', now(), now() from made
)
insert into echo.artefacts (
    id, video_id, owner_id, step, lease_token, kind, name, storage_key, content_type, size_bytes, producer,
    checksum, generation
)
select
    gen_random_uuid(), id, owner_id, 'ladder', 1, 'rendition', 'a', 'videos/' || id || '/a', 'video/mp4', 9, 'x', '', ''
from made
"""


def test_artefacts_that_were_there_are_kept_by_the_storage_of_their_source():
    """Also where the login that migrates is bound by row level security."""
    with postgres_server() as server:
        server.run("create database hosted")
        server.run(MANAGED, database="hosted")
        server.run("alter database hosted owner to hosted")
        hosted = Database(server, "hosted")
        owner_url = server.url("hosted", user="hosted", password="hosted")
        asyncio.run(upgrade(owner_url, "0015"))
        asyncio.run(query(hosted.owner_url, OF_TWO_STORAGES))
        hosted.migrate(owner_url)
        kept = "select v.title, a.backend from echo.artefacts a join echo.videos v on v.id = a.video_id order by 1"
        found = asyncio.run(query(hosted.owner_url, kept))
        forced = asyncio.run(query(hosted.owner_url, "select from pg_class where relforcerowsecurity"))
        secured = asyncio.run(query(hosted.owner_url, "select from pg_class where relrowsecurity"))
    assert [tuple(row) for row in found] == [("local", "local"), ("of-a-plugin", "of-a-plugin")]
    assert len(forced) == len(secured) > 1


A_WORKER_AND_A_STEP = """
insert into echo.workers (name, steps, light_slots, cpu_slots, net_slots, version, expires_at)
values ('old', '{}', 1, 2, 3, '1', now() + interval '1 hour');
with made as (
    insert into echo.videos (id, owner_id, status, title, filename, content_type)
    values (gen_random_uuid(), gen_random_uuid(), 'ready', 'Old', 'a.mp4', 'video/mp4') returning id, owner_id
), worked as (
    insert into echo.jobs (id, video_id, owner_id, kind, state)
    select gen_random_uuid(), id, owner_id, 'process', 'running' from made returning id, owner_id
)
insert into echo.steps (
    id, job_id, owner_id, name, position, resource, optional, max_attempts, first_delay_s, max_delay_s, timeout_s,
    timeout_per_media_s, weight, consumes, produces, state, run_at
)
select gen_random_uuid(), id, owner_id, resource, 1, resource, false, 3, 1, 1, 60, 0, 1, '{}', '{}', 'queued', now()
from worked, unnest(array['light', 'cpu', 'net']) as resource
"""


def test_steps_of_ai_come_to_a_database_with_steps_and_workers():
    """Also where the login that migrates is no superuser: the function that it drops belongs to another role."""
    with postgres_server() as server:
        server.run("create database hosted")
        server.run(MANAGED, database="hosted")
        server.run("alter database hosted owner to hosted")
        hosted = Database(server, "hosted")
        owner_url = server.url("hosted", user="hosted", password="hosted")
        asyncio.run(upgrade(owner_url, "0016"))
        asyncio.run(execute(hosted.owner_url, A_WORKER_AND_A_STEP))
        hosted.migrate(owner_url)
        asyncio.run(query(hosted.owner_url, "update echo.steps set resource = 'ai' where resource = 'net'"))
        asyncio.run(query(hosted.owner_url, "update echo.workers set ai_slots = 7"))
        with pytest.raises(asyncpg.CheckViolationError):
            asyncio.run(query(hosted.owner_url, "update echo.steps set resource = 'other'"))
        told = asyncio.run(asyncio.wait_for(outlook_slots(hosted.owner_url), 30))
    assert told == {"light": 1, "cpu": 2, "ai": 7}


async def outlook_slots(url) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    try:
        jobs = [row["id"] for row in await connection.fetch("select id from echo.jobs")]
        await connection.execute("set role service_role")
        rows = await connection.fetch(
            "select s.resource, o.slots from echo.queue_outlook($1) o join echo.steps s on s.id = o.step_id", jobs
        )
        return {row["resource"]: row["slots"] for row in rows}
    finally:
        await connection.close()


async def upgrade(url, revision) -> None:
    async with open_engine(url, statement_timeout_s=0) as engine, engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        await connection.run_sync(module._upgrade, revision)


async def titles(database) -> list[str]:
    opened = open_engine(database.worker_url)
    async with opened as engine, transaction(engine, BEGIN_AS_SERVICE) as tx:
        return [row.title for row in await tx.execute(sa.text("select title from echo.videos limit 5"))]


@pytest.mark.parametrize(
    ("prepared", "version"),
    [(SUPABASE_LIKE, "18"), (SUPABASE_LIKE, "15"), (MANAGED, "16"), (MANAGED, "15")],
    ids=["supabase-like-18", "supabase-like-15", "managed-16", "managed-15"],
)
def test_a_login_that_is_no_superuser_can_migrate_and_replaces_nothing(prepared, version, new_video, new_job):
    bin_dir = BUNDLED_BIN if version == "18" else OLDER_BINS[version]
    if not bin_dir.is_dir():
        pytest.skip(f"PostgreSQL {version} is not installed")
    with postgres_server(bin_dir) as server:
        server.run("create database hosted")
        server.run(prepared, database="hosted")
        server.run("alter database hosted owner to hosted")
        hosted = Database(server, "hosted")
        owner_url = server.url("hosted", user="hosted", password="hosted")
        auth = "select oid, proowner, prosrc from pg_proc where oid = to_regprocedure('auth.uid()')"
        before = asyncio.run(query(hosted.owner_url, auth))
        for _ in range(2):
            hosted.migrate(owner_url)
        asyncio.run(live(hosted, new_video, new_job))
        after = asyncio.run(query(hosted.owner_url, auth))
        assert len(after) == 1
        if before:
            assert after == before


# --- as SQL -----------------------------------------------------------------------------------------------------------

NOTES = {
    "echo_notes": [Migration(name="0001_notes", sql="create table notes (text text); insert into notes values ('a')")]
}


async def execute(url, script) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


def script(start="", plugins=NOTES) -> str:
    passwords = {"echo_api": API_PASSWORD, "echo_worker": WORKER_PASSWORD}
    return migration_sql(start=start, plugins=plugins, passwords=passwords)


CATALOGUE = """
select 'column' as kind, attrelid::regclass::text || '.' || attname || ' ' || atttypid::regtype || attnotnull as what
from pg_attribute where attnum > 0 and attrelid::regclass::text like 'echo.%'
union all select 'policy', tablename || policyname || roles::text || cmd || coalesce(qual, '') ||
    coalesce(with_check, '')
from pg_policies
union all select 'constraint', conrelid::regclass::text || conname || pg_get_constraintdef(oid) from pg_constraint
where connamespace = 'echo'::regnamespace
union all select 'index', indexdef from pg_indexes where schemaname = 'echo'
union all select 'grant', table_name || grantee || privilege_type from information_schema.role_table_grants
where table_schema = 'echo'
union all select 'function', p.oid::regprocedure::text || proowner::regrole || prosrc || coalesce(proacl::text, '')
from pg_proc p where pronamespace in ('echo'::regnamespace, 'auth'::regnamespace)
order by 1, 2
"""


async def test_the_script_makes_what_migrating_makes(postgres, database, new_video, new_job):
    with postgres.database() as empty:
        await execute(empty.owner_url, script())
        assert not await pending(empty.owner_url)
        assert await query(empty.owner_url, CATALOGUE) == await query(database.owner_url, CATALOGUE)
        await check(empty)
        await live(empty, new_video, new_job)
        await migrate(empty.owner_url, **PASSWORDS)


@pytest.mark.parametrize("start", ["0002", "0009"])
async def test_the_script_goes_on_from_any_revision(postgres, database, start):
    with postgres.database() as old:
        await upgrade(old.owner_url, start)
        await execute(old.owner_url, script(start))
        assert await query(old.owner_url, CATALOGUE) == await query(database.owner_url, CATALOGUE)


async def test_the_script_passes_over_what_a_plugin_has_run(postgres, database):
    head = code_revision()
    for _ in range(2):
        await execute(database.owner_url, script(head))
    assert len(await query(database.owner_url, "select from echo_notes.notes")) == 1


async def test_a_script_that_does_not_fit_changes_nothing(postgres, database):
    before = await query(database.owner_url, CATALOGUE)
    with pytest.raises(asyncpg.DuplicateTableError):
        await execute(database.owner_url, script())
    assert await query(database.owner_url, CATALOGUE) == before
    with pytest.raises(MigrationError) as caught:
        script("0400")
    assert caught.value.code == "revision_unknown"


def test_without_logins_the_script_holds_no_secret():
    assert "password '" not in migration_sql(plugins=NOTES)
    assert script().count("password 'SCRAM-SHA-256$") == 2


@pytest.mark.parametrize("version", ["18", "15"])
def test_the_script_runs_on_a_supabase_like_database(version, new_video, new_job):
    bin_dir = BUNDLED_BIN if version == "18" else OLDER_BINS[version]
    if not bin_dir.is_dir():
        pytest.skip(f"PostgreSQL {version} is not installed")
    with postgres_server(bin_dir) as server:
        server.run("create database hosted")
        server.run(SUPABASE_LIKE, database="hosted")
        server.run("alter database hosted owner to hosted")
        hosted = Database(server, "hosted")
        asyncio.run(execute(server.url("hosted", user="hosted", password="hosted"), script()))
        asyncio.run(live(hosted, new_video, new_job))


def test_the_oldest_supported_server_works_from_nothing(new_video, new_job):
    if not OLDER_BINS["15"].is_dir():
        pytest.skip("PostgreSQL 15 is not installed")
    with postgres_server(OLDER_BINS["15"]) as server:
        database = Database(server, "postgres")
        database.migrate()
        asyncio.run(live(database, new_video, new_job))


def test_a_login_that_may_not_create_roles_is_told_what_to_do():
    with postgres_server() as server:
        server.run("create role weak login password 'weak'")
        server.run("create database weak owner weak")
        with pytest.raises(MigrationError) as caught:
            Database(server, "weak").migrate(server.url("weak", user="weak", password="weak"))
        assert caught.value.code == "migration_not_permitted"
        assert "createrole" in caught.value.remedy
        tables = asyncio.run(query(server.url("weak"), "select from pg_tables where schemaname = 'echo'"))
        assert tables == [], "a failed migration leaves nothing behind"


async def test_an_unreachable_database_is_unavailable():
    for call in (migrate("postgresql://a:b@127.0.0.1:1/c", **PASSWORDS), pending("postgresql://a:b@127.0.0.1:1/c")):
        with pytest.raises(UnavailableError) as caught:
            await call
        assert caught.value.code == "database_unavailable"


async def test_a_database_of_a_newer_echo_is_left_alone(database):
    await query(database.owner_url, "update echo.alembic_version set version_num = 'from_the_future'")
    for call in (migrate(database.owner_url, **PASSWORDS), pending(database.owner_url)):
        with pytest.raises(MigrationError) as caught:
            await call
        assert caught.value.code == "database_newer"


def test_passwords_reach_no_log(postgres):
    with postgres.database() as fresh:
        postgres.run(f"alter database {fresh.name} set log_statement = 'all'")
        asyncio.run(
            migrate(fresh.owner_url, api_password="api-pass-in-no-log", worker_password="worker-pass-in-no-log")
        )
        logged = postgres.log.read_text()
        assert "alter role echo_api" in logged
        assert "in-no-log" not in logged
        fresh.migrate()


def test_a_verifier_is_what_postgresql_would_have_stored(postgres):
    stored = asyncio.run(
        query(postgres.url("postgres"), "select rolpassword from pg_authid where rolname = 'postgres'")
    )
    salt = module.base64.b64decode(stored[0]["rolpassword"].split("$")[1].partition(":")[2])
    assert scram_verifier(PASSWORD, salt) == stored[0]["rolpassword"]


@pytest.mark.parametrize("password", ["", "pässword", "new\nline"])
def test_passwords_that_might_be_prepared_differently_are_refused(password):
    with pytest.raises(ValueError, match="printable ASCII"):
        scram_verifier(password)


def test_the_migrations_are_found_in_a_checkout_and_in_a_wheel(monkeypatch, tmp_path):
    assert (migrations_location() / "env.py").is_file()
    (tmp_path / "echo_core" / "_migrations").mkdir(parents=True)
    monkeypatch.setattr(echo_core, "__file__", str(tmp_path / "echo_core" / "__init__.py"))
    assert migrations_location() == tmp_path / "echo_core" / "_migrations"


def test_revisions_are_one_line_and_each_says_what_it_does():
    scripts = list(module.alembic_scripts().walk_revisions())
    assert [script.revision for script in scripts[::-1]] == [f"{n:04}" for n in range(1, len(scripts) + 1)]
    assert all(inspect.cleandoc(script.doc) for script in scripts)
    assert code_revision() == scripts[0].revision


# --- code of one version, a schema of another -------------------------------------------------------------------------


async def check(database) -> None:
    for url in (database.api_url, database.worker_url):
        async with open_engine(url) as engine:
            await check_schema(engine)


async def test_code_and_its_own_schema_fit(database):
    await check(database)


async def test_code_refuses_a_schema_that_lacks_its_migrations(postgres, database, monkeypatch):
    monkeypatch.setattr(schema, "code_revision", lambda: "0099")
    with pytest.raises(SchemaError, match="needs 0099") as caught:
        await check(database)
    assert caught.value.code == "migrations_pending"


def test_code_refuses_a_database_that_was_never_migrated(postgres):
    with postgres.database() as empty, pytest.raises(SchemaError) as caught:
        asyncio.run(check(empty))
    assert caught.value.code == "migrations_pending"


@pytest.mark.usefixtures("database")  # its migrations have given the logins their passwords
async def test_code_works_with_a_newer_schema_that_only_adds(postgres, monkeypatch):
    """The code of the version before, while an instance is being upgraded."""
    with postgres.database() as upgraded:
        await upgrade(upgraded.owner_url, "0016")
        monkeypatch.setattr(schema, "code_revision", lambda: "0003")
        await check(upgraded)


async def test_code_that_knows_no_steps_of_ai_is_told_to_stop(database, monkeypatch):
    """It could not read their jobs."""
    monkeypatch.setattr(schema, "code_revision", lambda: "0016")
    with pytest.raises(SchemaError) as caught:
        await check(database)
    assert caught.value.code == "database_newer"


def test_code_refuses_a_schema_from_which_what_it_needs_was_removed(postgres, monkeypatch):
    real_scripts = module.alembic_scripts

    def scripts():
        found = real_scripts()
        newest = found.get_revision("head")
        newest.module.needs_code = newest.revision
        return found

    monkeypatch.setattr(module, "alembic_scripts", scripts)
    with postgres.database() as contracted:
        contracted.migrate()
        asyncio.run(check(contracted))
        monkeypatch.setattr(schema, "code_revision", lambda: "0003")
        with pytest.raises(SchemaError) as caught:
            asyncio.run(check(contracted))
        assert caught.value.code == "database_newer"


async def test_code_cannot_tell_while_the_database_is_away():
    async with open_engine("postgresql://a:b@127.0.0.1:1/c") as engine:
        with pytest.raises(UnavailableError):
            await check_schema(engine)
