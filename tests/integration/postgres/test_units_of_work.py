"""Units of work: commit, rollback, what is told after them, and what an absent or busy database looks like."""

# ruff: noqa: PT012 - what fails is a whole unit of work
from __future__ import annotations

import asyncio
import socket

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres.engine import driver_url, open_engine
from echo_core.adapters.postgres.errors import translated
from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.transaction import BEGIN_AS_SERVICE, transaction
from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork
from echo_core.application.ports import NewEvent
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import new_step_id
from echo_core.plugin_api.errors import InvalidRequestError, UnavailableError
from echo_core.plugin_api.steps import Resource

pytestmark = pytest.mark.integration


async def run_as_superuser(database, sql, *arguments):
    connection = await asyncpg.connect(database.owner_url)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


def created(video) -> NewEvent:
    return NewEvent(type="video.created", owner_id=video.owner_id, video_id=video.id, facts={"title": video.title})


async def test_events_and_rings_are_told_after_the_commit(api, alice, new_video, announced):
    video, step_id = new_video(alice), new_step_id()
    async with api.for_user(alice) as uow:
        await uow.videos.add(video)
        uow.ring(step_id, Resource.CPU)
        events = await uow.events.add([created(video)])
        assert (announced.events, announced.rings) == ([], [])
    assert (announced.events, announced.rings) == (list(events), [(step_id, Resource.CPU)])


async def test_an_exception_rolls_back_and_tells_nobody(api, alice, new_video, announced):
    video = new_video(alice)
    with pytest.raises(ZeroDivisionError):
        async with api.for_user(alice) as uow:
            await uow.videos.add(video)
            await uow.events.add([created(video)])
            uow.ring(new_step_id(), Resource.CPU)
            raise ZeroDivisionError
    async with api.for_user(alice) as uow:
        with pytest.raises(UnknownEntityError):
            await uow.videos.get(video.id)
        assert await uow.events.bounds(alice.id) == (1, 0)
    assert (announced.events, announced.rings) == ([], [])


async def test_an_error_of_the_announcement_never_reaches_the_caller(api, alice, new_video, announced):
    announced.error = RuntimeError("no bus")
    video = new_video(alice)
    async with api.for_user(alice) as uow:
        await uow.videos.add(video)
        await uow.events.add([created(video)])
    async with api.for_user(alice) as uow:
        assert await uow.videos.get(video.id) == video


async def test_a_swallowed_database_error_does_not_pass_for_a_commit(worker, alice, new_video, announced):
    video = new_video(alice)
    with pytest.raises(UnavailableError) as caught:
        async with worker.for_worker() as uow:
            await uow.videos.add(video)
            await uow.events.add([created(video)])
            with pytest.raises(DBAPIError):
                await uow.videos.add(video)
    assert caught.value.code == "database_rolled_back"
    assert announced.events == []


async def test_an_unreachable_database_is_unavailable(postgres, announced):
    nobody_listens = "postgresql://echo:secret-word@127.0.0.1:1/echo"
    async with open_engine(nobody_listens, connect_timeout_s=5) as engine:
        with pytest.raises(UnavailableError) as caught:
            async with PostgresWorkerUnitsOfWork(engine, announced).for_worker():
                pytest.fail("there is no database")
    assert caught.value.code == "database_unavailable"
    assert "secret-word" not in f"{caught.value}{caught.value.remedy}"


async def test_a_refused_login_is_unavailable_and_says_what_to_check(database, announced):
    async with open_engine(database.server.url(database.name, user="echo_api", password="wrong")) as engine:
        with pytest.raises(UnavailableError, match="refused the login"):
            async with PostgresWorkerUnitsOfWork(engine, announced).for_worker():
                pytest.fail("the password is wrong")


@pytest.mark.parametrize("doomed", ["execute", "fetch", "commit"])
async def test_a_connection_lost_inside_a_transaction_is_unavailable_and_the_pool_recovers(
    database, worker_engine, doomed
):
    with pytest.raises(UnavailableError) as caught:
        async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
            pid = (await tx.execute(sa.text("select pg_backend_pid()"))).scalar_one()
            await run_as_superuser(database, "select pg_terminate_backend($1, 60000)", pid)
            if doomed == "execute":
                await tx.execute(sa.text("select 1"))
            elif doomed == "fetch":
                await tx.fetch(Query(sa.select(sa.literal_column("1"))))
    assert caught.value.code == "database_unavailable"
    async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
        assert (await tx.execute(sa.text("select current_user"))).scalar_one() == "service_role"


async def test_a_transaction_that_is_cancelled_at_any_moment_leaves_no_connection_inside_it(database, announced):
    async def work(engine: AsyncEngine) -> None:
        async with transaction(engine, BEGIN_AS_SERVICE) as tx:
            await tx.execute(sa.text("select 1"))

    async with open_engine(database.worker_url, pool_size=1) as engine:
        for turns in range(60):
            task = asyncio.create_task(work(engine))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with engine.connect() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
                # Each statement outside a transaction has one of its own, so its number changes.
                ids = [await driver.fetchval("select pg_current_xact_id()::text") for _ in range(2)]
            assert ids[0] != ids[1], f"still in a transaction after {turns} turns"


async def test_a_goodbye_to_an_idle_connection_is_unavailable():
    # What the driver raises when the server's FATAL message was read and the end of the connection was not yet.
    with pytest.raises(UnavailableError), translated():
        raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")


async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(database, worker_engine):
    async with (
        transaction(worker_engine, BEGIN_AS_SERVICE) as one,
        transaction(worker_engine, BEGIN_AS_SERVICE) as two,
    ):
        pids = {(await tx.execute(sa.text("select pg_backend_pid()"))).scalar_one() for tx in (one, two)}
    await run_as_superuser(
        database, "select pg_terminate_backend(pid, 60000) from unnest($1::int[]) as t (pid)", list(pids)
    )
    async with (
        transaction(worker_engine, BEGIN_AS_SERVICE) as one,
        transaction(worker_engine, BEGIN_AS_SERVICE) as two,
    ):
        assert not pids & {(await tx.execute(sa.text("select pg_backend_pid()"))).scalar_one() for tx in (one, two)}


async def test_a_statement_that_takes_too_long_is_busy(database, announced):
    async with open_engine(database.worker_url, statement_timeout_s=0.05) as engine:
        with pytest.raises(UnavailableError) as caught:
            async with transaction(engine, BEGIN_AS_SERVICE) as tx:
                await tx.execute(sa.text("select pg_sleep(60)"))
    assert (caught.value.code, caught.value.retryable) == ("database_busy", True)


@pytest.mark.parametrize("stands_still", ["between two statements", "between preparing and running one"])
async def test_a_process_that_stands_still_holds_its_locks_for_a_moment_only(
    database, worker, alice, stored, announced, stands_still
):
    video, _ = await stored(alice)
    connections: list[asyncpg.Connection] = []
    async with open_engine(database.worker_url, statement_timeout_s=1) as engine:
        event.listen(engine.sync_engine, "connect", lambda c, _: connections.append(c.driver_connection))
        with pytest.raises(UnavailableError) as caught:
            async with PostgresWorkerUnitsOfWork(engine, announced).for_worker() as frozen:
                await frozen.videos.get(video.id, for_update=True)
                if stands_still == "between preparing and running one":
                    await connections[0].prepare("select from echo.videos")
                async with asyncio.timeout(10), worker.for_worker() as uow:
                    await uow.videos.get(video.id, for_update=True)
                await frozen.videos.get(video.id)
    assert (caught.value.code, caught.value.retryable) == ("database_unavailable", True)


async def test_a_deadlock_lets_one_through_and_is_retryable_for_the_other(worker, alice, bob, stored):
    (first, _), (second, _) = await stored(alice), await stored(bob)
    locked = asyncio.Barrier(2)

    async def lock(mine, theirs):
        async with worker.for_worker() as uow:
            await uow.videos.get(mine, for_update=True)
            await locked.wait()
            await uow.videos.get(theirs, for_update=True)

    outcomes = await asyncio.gather(lock(first.id, second.id), lock(second.id, first.id), return_exceptions=True)
    failed = [outcome for outcome in outcomes if outcome is not None]
    assert [(type(error), error.code, error.retryable) for error in failed] == [
        (UnavailableError, "database_busy", True)
    ]


async def test_a_cancelled_caller_leaves_no_transaction_behind(database, worker, alice, stored):
    video, _ = await stored(alice)

    async def wait_for_the_lock():
        async with worker.for_worker() as uow:
            await uow.videos.get(video.id, for_update=True)

    async with worker.for_worker() as uow:
        await uow.videos.get(video.id, for_update=True)
        waiting = asyncio.create_task(wait_for_the_lock())
        blocked = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = $1"
        while not await run_as_superuser(database, blocked, database.name):
            pass
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    open_ones = "select from pg_stat_activity where xact_start is not null and usename = 'echo_worker' and datname = $1"
    assert not await run_as_superuser(database, open_ones, database.name)


async def test_more_callers_than_connections_wait_their_turn(database, announced):
    async with open_engine(database.worker_url, pool_size=2) as engine:
        units = PostgresWorkerUnitsOfWork(engine, announced)

        async def ask():
            async with units.for_worker() as uow:
                await uow.jobs.now()

        await asyncio.gather(*(ask() for _ in range(20)))


def test_addresses_in_the_forms_that_people_have():
    url = driver_url("postgres://echo:p%40ss@db.example:6543/echo?sslmode=require")
    assert (url.drivername, url.password, url.query) == ("postgresql+asyncpg", "p@ss", {"ssl": "require"})
    for wrong in ("mysql://echo:hidden@db/echo", "hidden", "postgresql://echo:hidden@db:port/echo"):
        with pytest.raises(InvalidRequestError) as caught:
            driver_url(wrong)
        assert "hidden" not in f"{caught.value}{caught.value.remedy}"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such option")
async def test_a_connection_that_nobody_acknowledges_ends_long_before_a_statement_would(database):
    opened = open_engine(database.api_url, connect_timeout_s=3, statement_timeout_s=60)
    async with opened as engine, engine.connect() as connection:
        raw = await connection.get_raw_connection()
        plug = raw.driver_connection._transport.get_extra_info("socket")
        assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        told = await connection.execute(sa.text("select current_setting('tcp_keepalives_idle')"))
        assert told.scalar_one() == "30"
