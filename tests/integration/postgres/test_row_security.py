"""Row level security: walks the catalogue, so a new table cannot be forgotten."""

# ruff: noqa: S608 - table names are this file's own
from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, ProgrammingError

from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.errors import sqlstate
from echo_core.adapters.postgres.transaction import BEGIN, BEGIN_AS_SERVICE, begin_as_user, fetch_alone, transaction
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork
from echo_core.application.ports import NewEvent, VideoQuery
from echo_core.domain.ai_calls import Budgets
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import UserId
from echo_core.domain.users import User
from echo_core.domain.videos import Visibility
from tests.fakes.api import SEAL
from tests.integration.postgres.test_ai_repositories import new_call, new_suggestion, new_track
from tests.integration.postgres.test_small_repositories import upload_of

pytestmark = pytest.mark.integration

INSUFFICIENT_PRIVILEGE = "42501"
VERSION_TABLE = "alembic_version"
"""Nobody but its owner is granted anything on it; forced row security would hide it from that owner too."""

OWNED_TABLES = sorted(
    [
        "ai_calls",
        "artefacts",
        "caption_tracks",
        "event_counters",
        "events",
        "idempotency_keys",
        "jobs",
        "passages",
        "steps",
        "suggestions",
        "uploads",
        "users",
        "videos",
    ]
)
SERVICE_TABLES = ["ai_checkpoints", "workers"]
"""Nobody's rows: only the service role may see them."""
OWNER_COLUMN = {"users": "id"}
PRIMARY_KEYS = {
    "events": {"sequence": 99},
    "idempotency_keys": {"key": "'other'"},
    "event_counters": {},
    "users": {"email": "'other@example.org'"},
    "uploads": {"video_id": "gen_random_uuid()"},
    "caption_tracks": {"name": "'other'"},
    "passages": {"number": 99},
}
"""What a copied row needs besides another owner, so that nothing but row security can refuse it; else a new id."""


def sql(text: str) -> sa.TextClause:
    return sa.text(text)


@pytest.fixture
async def everything(api, worker, worker_engine, alice, bob, new_video, new_job, new_artefact):
    """A row of Alice's and one of Bob's in every owned table."""
    for owner in (alice, bob):
        video = new_video(owner)
        async with api.for_user(owner) as uow:
            await uow.videos.add(video)
            await uow.uploads.add(upload_of(video))
            await uow.jobs.add(new_job(video))
            await uow.events.add([NewEvent(type="video.created", owner_id=owner.id, video_id=video.id)])
            await uow.idempotency.reserve("key", "hash", uuid4())
        async with worker.for_worker() as uow:
            await uow.artefacts.put([new_artefact(video)])
            await uow.caption_tracks.put(new_track(video))
            await uow.suggestions.add(new_suggestion(video))
            await uow.ai_calls.reserve(new_call(video), Budgets(per_video_usd=1.0, per_day_usd=1.0))
        async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
            statement = sql("insert into echo.users (id, email) values (:id, :email)")
            await tx.execute(statement, {"id": owner.id, "email": owner.email})


async def owners_seen(engine, begin, table):
    column = OWNER_COLUMN.get(table, "owner_id")
    async with transaction(engine, begin) as tx:
        return {getattr(row, column) for row in await tx.execute(sql(f"select * from echo.{table}"))}


async def refused(engine, begin, statement, **parameters) -> bool:
    """Whether the statement is forbidden, or changes nothing."""
    try:
        async with transaction(engine, begin) as tx:
            return (await tx.execute(sql(statement), parameters)).rowcount == 0
    except ProgrammingError as error:
        return sqlstate(error) == INSUFFICIENT_PRIVILEGE


async def test_every_table_is_known_here_and_has_forced_row_security_with_policies_for_named_roles(database):
    async with open_engine(database.owner_url) as engine, transaction(engine, "begin") as tx:
        tables = await tx.execute(
            sql(
                """
                select c.relname, c.relrowsecurity and c.relforcerowsecurity as forced,
                    (select count(*) from pg_policy p where p.polrelid = c.oid and p.polqual is not null
                        and p.polwithcheck is not null and p.polroles = array['authenticated'::regrole::oid]) as owners,
                    (select count(*) from pg_policy p where p.polrelid = c.oid and 0 = any (p.polroles)) as of_public
                from pg_class c where c.relnamespace = 'echo'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
                """
            )
        )
        found = {row.relname: row for row in tables}
        grants = await tx.execute(
            sql(
                """
                select distinct grantee from information_schema.role_table_grants
                where table_schema = 'echo' and table_name = :table
                """
            ),
            {"table": VERSION_TABLE},
        )
        assert {row.grantee for row in grants} == {"postgres"}
    found.pop(VERSION_TABLE)
    assert sorted(found) == sorted(OWNED_TABLES + SERVICE_TABLES)
    for name, row in found.items():
        assert (row.forced, row.owners, row.of_public) == (True, int(name in OWNED_TABLES), 0), name


async def test_every_owner_column_leads_an_index(database):
    async with open_engine(database.owner_url) as engine, transaction(engine, "begin") as tx:
        for table in OWNED_TABLES:
            indexed = await tx.execute(
                sql(
                    """
                    select 1 from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                    where i.indrelid = cast(:table as regclass) and a.attname = :column and i.indpred is null
                    """
                ),
                {"table": f"echo.{table}", "column": OWNER_COLUMN.get(table, "owner_id")},
            )
            assert indexed.all(), table


async def test_functions_that_see_more_have_a_fixed_path_and_an_owner_that_may_do_little(database):
    async with open_engine(database.owner_url) as engine, transaction(engine, "begin") as tx:
        functions = await tx.execute(
            sql(
                """
                select p.proname, p.prosecdef, p.proconfig, r.rolname as owner,
                    r.rolsuper or r.rolbypassrls as mighty,
                    array(select grantee::regrole::text from aclexplode(p.proacl) where grantee <> proowner) as callers
                from pg_proc p join pg_roles r on r.oid = p.proowner
                where p.pronamespace = 'echo'::regnamespace and p.prosecdef
                """
            )
        )
        found = {row.proname: row for row in functions}
    callers = {
        "queue_position": ["authenticated"],
        "queue_outlook": ["authenticated", "service_role"],
        "learned_rates": ["authenticated", "service_role"],
        "event_heads": ["echo_api"],
        "queue_statistics": ["echo_api"],
        "watchable_owner": ["echo_api"],
        "hint_upload": ["echo_api"],
        "index_track": [],
        "index_video": [],
        "put_passage": [],
        "search_matches": ["authenticated"],
        "track_written": [],
        "video_written": [],
        "release_ai_call": ["echo_api", "service_role"],
        "reserve_ai_call": ["echo_api", "service_role"],
        "settle_ai_call": ["echo_api", "service_role"],
    }
    assert {name: row.callers for name, row in found.items()} == callers
    for row in found.values():
        assert (row.prosecdef, row.proconfig, row.owner, row.mighty) == (
            True,
            ['search_path=""'],
            "echo_definer",
            False,
        )


@pytest.mark.parametrize("table", OWNED_TABLES)
async def test_a_query_that_forgot_its_where_returns_only_the_callers_rows(
    api_engine, worker_engine, everything, alice, bob, table
):
    assert await owners_seen(api_engine, begin_as_user(alice), table) == {alice.id}
    assert await owners_seen(api_engine, begin_as_user(bob), table) == {bob.id}
    assert await owners_seen(worker_engine, BEGIN_AS_SERVICE, table) == {alice.id, bob.id}


@pytest.mark.parametrize("table", OWNED_TABLES)
async def test_nothing_can_be_written_for_another_owner(api_engine, everything, alice, bob, table):
    column = OWNER_COLUMN.get(table, "owner_id")
    as_bob = begin_as_user(bob)
    fresh = PRIMARY_KEYS.get(table, {"id": "gen_random_uuid()"})
    copied = f"jsonb_populate_record(mine, jsonb_build_object('{column}', cast(:alice as text)"
    copied += "".join(f", '{name}', {value}" for name, value in fresh.items()) + "))"
    insert = f"insert into echo.{table} select ({copied}).* from echo.{table} mine limit 1"
    assert await refused(api_engine, as_bob, insert, alice=str(alice.id))
    assert await refused(api_engine, as_bob, f"update echo.{table} set {column} = :alice", alice=alice.id)
    touch = f"update echo.{table} set {column} = {column} where {column} = :alice"
    assert await refused(api_engine, as_bob, touch, alice=alice.id)
    assert await refused(api_engine, as_bob, f"delete from echo.{table} where {column} = :alice", alice=alice.id)
    assert await owners_seen(api_engine, begin_as_user(alice), table) == {alice.id}


@pytest.mark.parametrize("begin", [BEGIN, "begin; select set_config('role', 'anon', true)"])
@pytest.mark.parametrize("table", OWNED_TABLES)
async def test_without_a_user_no_table_can_be_read(api_engine, begin, table):
    with pytest.raises(ProgrammingError, match="permission denied"):
        await owners_seen(api_engine, begin, table)


@pytest.mark.parametrize("table", OWNED_TABLES)
async def test_a_user_transaction_without_claims_sees_nothing(api_engine, everything, table):
    assert await owners_seen(api_engine, "begin; select set_config('role', 'authenticated', true)", table) == set()


ESCAPES = [
    "select set_config('role', 'service_role', true)",
    "set local role service_role",
    "set local role echo_worker",
    "set local role echo_definer",
    "set session authorization echo_worker",
    "alter table echo.videos disable row level security",
    "create table echo.mine ()",
    "select * from echo.alembic_version",
    "select * from echo.workers",
]
ONLY_FOR_THE_LOGIN = [
    "select * from echo.event_heads('{}')",
    "select * from echo.queue_statistics()",
    "select echo.watchable_owner(gen_random_uuid())",
    "select echo.hint_upload(gen_random_uuid(), '')",
    "select echo.list_videos('{}', 1, null, null, null)",
]


@pytest.mark.parametrize("escape", [*ESCAPES, *ONLY_FOR_THE_LOGIN])
async def test_no_way_leads_out_of_a_users_transaction(api_engine, alice, escape):
    with pytest.raises(DBAPIError) as caught:
        async with transaction(api_engine, begin_as_user(alice)) as tx:
            await tx.execute(sql(escape))
    assert sqlstate(caught.value) == INSUFFICIENT_PRIVILEGE


@pytest.mark.parametrize(
    "escape",
    [
        *ESCAPES,
        "select * from echo.videos",
        "select echo.queue_outlook(null)",
        "select echo.learned_rates(1)",
        "select * from echo.workers",
    ],
)
async def test_leaving_the_users_role_leads_nowhere(api_engine, alice, escape):
    with pytest.raises(DBAPIError) as caught:  # noqa: PT012 - one transaction
        async with transaction(api_engine, begin_as_user(alice)) as tx:
            await tx.execute(sql("reset role"))
            await tx.execute(sql(escape))
    assert sqlstate(caught.value) == INSUFFICIENT_PRIVILEGE


async def test_the_worker_cannot_change_the_schema_or_its_rights(worker_engine):
    for statement in ("alter table echo.videos no force row level security", "create role mine", "create schema mine"):
        with pytest.raises(ProgrammingError, match=r"must be owner|permission denied"):
            async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
                await tx.execute(sql(statement))


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_a_pooled_connection_forgets_role_and_claims(database, alice, ending):
    seen = sql("select pg_backend_pid(), current_user, coalesce(current_setting('request.jwt.claims', true), '')")
    async with open_engine(database.api_url, pool_size=1) as engine:
        try:
            async with transaction(engine, begin_as_user(alice)) as tx:
                pid, user, claims = (await tx.execute(seen)).one()
                assert (user, json.loads(claims)) == (
                    "authenticated",
                    {"aal": "aal1", "sub": str(alice.id), "role": "authenticated"},
                )
                if ending == "rollback":
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        async with engine.connect() as connection:
            assert (await connection.execute(seen)).one() == (pid, "echo_api", "")


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "not-a-uuid", "role": "service_role"},
        {"sub": "'; drop table echo.videos; --", "name": "O'Neil \\ $$"},
        {"sub": None, "user_metadata": {"name": "\x00"}},
        {"name": "\x00"},
        {"name": "\ud800"},
        {"name": object()},
        {"padding": "x" * 100_000},
    ],
)
async def test_no_claim_can_break_a_transaction_or_change_who_asks(api, alice, stored, claims):
    _, job = await stored(alice)
    user = User(id=alice.id, claims=claims)
    async with api.for_user(user) as uow:
        assert await uow.jobs.get(job.id) == job


async def test_what_users_write_about_themselves_is_not_shown_to_policies(api_engine, alice):
    user = User(id=alice.id, claims={"user_metadata": {"admin": True}, "app_metadata": {"plan": "x"}})
    async with transaction(api_engine, begin_as_user(user)) as tx:
        claims = (await tx.execute(sql("select current_setting('request.jwt.claims')"))).scalar_one()
    assert set(json.loads(claims)) == {"app_metadata", "sub", "role"}


async def test_a_list_of_videos_shows_only_the_callers_and_leaves_the_connection_without_a_role(
    database, stored, alice, bob
):
    mine = (await stored(alice))[0].id
    await stored(bob)
    async with open_engine(database.api_url, pool_size=1) as engine:
        units_of_work = PostgresUserUnitsOfWork(engine, nobody, SEAL)
        for _ in range(8):  # the plan is kept from the sixth time on
            page = await units_of_work.list_videos(alice, VideoQuery(limit=5))
            assert [video.id for video in page.videos] == [mine]
        left_behind = "select current_user || coalesce(current_setting('request.jwt.claims', true), '')"
        assert await fetch_alone(engine, left_behind) == "echo_api"
        stranger = User(id=UserId(uuid4()), claims={"sub": str(alice.id), "role": "service_role"})
        assert (await units_of_work.list_videos(stranger, VideoQuery(limit=5))).videos == ()


async def test_a_list_that_fails_gives_its_connection_back_or_closes_it(database, stored, alice):
    await stored(alice)
    async with open_engine(database.api_url, pool_size=1) as engine:
        with pytest.raises(asyncpg.PostgresError):
            await fetch_alone(engine, "select 1 / 0")
        sleeping = asyncio.create_task(fetch_alone(engine, "select pg_sleep(60)"))
        while not await sleeps(database):
            await asyncio.sleep(0.01)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        page = await PostgresUserUnitsOfWork(engine, nobody, SEAL).list_videos(alice, VideoQuery(limit=5))
        assert len(page.videos) == 1


async def nobody(*_: object) -> None:
    """Nothing to tell."""


async def sleeps(database) -> bool:
    async with open_engine(database.owner_url) as engine, transaction(engine, "begin") as tx:
        found = await tx.execute(sql("select 1 from pg_stat_activity where query like 'select pg_sleep%'"))
        return found.first() is not None


@pytest.mark.parametrize("visibility", list(Visibility))
async def test_only_the_owner_of_what_anybody_may_watch_is_told(api, stored, alice, unknown_video_id, visibility):
    video, _ = await stored(alice, job=False, visibility=visibility)
    deleted, _ = await stored(alice, job=False, visibility=visibility, deleted_at=video.created_at)
    told = None if visibility is Visibility.PRIVATE else alice.id
    assert await api.watchable_owner(video.id) == told
    assert await api.watchable_owner(deleted.id) is None
    assert await api.watchable_owner(unknown_video_id) is None


@pytest.mark.parametrize("visibility", list(Visibility))
async def test_row_security_does_not_look_at_visibility(api, api_engine, stored, alice, bob, visibility):
    video, _ = await stored(alice, visibility=visibility)
    assert await owners_seen(api_engine, begin_as_user(bob), "videos") == set()
    with pytest.raises(ProgrammingError, match="permission denied"):
        await owners_seen(api_engine, "begin; select set_config('role', 'anon', true)", "videos")
    with pytest.raises(UnknownEntityError):
        async with api.for_user(bob) as uow:
            await uow.videos.get(video.id)
    assert not (await api.list_videos(bob, VideoQuery(limit=10))).videos


async def test_who_owns_what_anybody_may_watch_is_for_the_api_to_know(database, api_engine, worker_engine, alice):
    ask = "select echo.watchable_owner(gen_random_uuid())"
    anonymous = "begin; select set_config('role', 'anon', true)"
    for engine, begin in ((api_engine, begin_as_user(alice)), (api_engine, anonymous), (worker_engine, BEGIN)):
        assert await refused(engine, begin, ask)
    async with transaction(api_engine, BEGIN) as tx:
        assert (await tx.execute(sql(ask))).scalar_one() is None


async def test_functions_that_see_more_see_few_columns_of_a_video(database):
    async with open_engine(database.owner_url) as engine, transaction(engine, "begin") as tx:
        granted = await tx.execute(
            sql(
                """
                select column_name from information_schema.column_privileges
                where grantee = 'echo_definer' and table_schema = 'echo' and table_name = 'videos'
                """
            )
        )
        assert {row.column_name for row in granted} == {
            "id",
            "owner_id",
            "visibility",
            "deleted_at",
            "duration_s",
            "size_bytes",
        }


async def test_hints_are_for_the_api_to_give_and_move_one_time_only(database, api_engine, worker_engine, alice):
    hint = "select echo.hint_upload(gen_random_uuid(), 'videos/x')"
    anonymous = "begin; select set_config('role', 'anon', true)"
    for engine, begin in ((api_engine, begin_as_user(alice)), (api_engine, anonymous), (worker_engine, BEGIN)):
        assert await refused(engine, begin, hint)
    async with transaction(api_engine, BEGIN) as tx:
        assert (await tx.execute(sql(hint))).scalar_one() in (None, "")
    for statement in ("update echo.uploads set check_at = now()", "select check_at from echo.uploads"):
        assert await refused(api_engine, BEGIN, statement)
    async with open_engine(database.owner_url) as engine, transaction(engine, "begin") as tx:
        granted = await tx.execute(
            sql(
                """
                select privilege_type, column_name from information_schema.column_privileges
                where grantee = 'echo_definer' and table_schema = 'echo' and table_name = 'uploads'
                """
            )
        )
        assert {(row.privilege_type, row.column_name) for row in granted} == {
            ("SELECT", "video_id"),
            ("SELECT", "storage_key"),
            ("SELECT", "state"),
            ("SELECT", "check_at"),
            ("UPDATE", "check_at"),
        }
