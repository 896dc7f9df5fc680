"""A real PgBouncer in transaction mode between Echo and PostgreSQL: every transaction gets another connection."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.schema import check_schema
from echo_core.adapters.postgres.transaction import BEGIN_AS_SERVICE, begin_as_user, transaction
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork, PostgresWorkerUnitsOfWork
from echo_core.application.ports import LeaseRef, NewEvent, VideoQuery
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import UserId
from echo_core.domain.users import User
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.steps import Resource
from tests.fakes.api import SEAL
from tests.integration.conftest import (
    API_PASSWORD,
    NOBODY,
    START_TIMEOUT_S,
    WORKER_PASSWORD,
    Database,
    _die_with_parent,
    _free_port,
)

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed"),
]

SERVER_CONNECTIONS = 2
"""Fewer than clients, so that connections change hands all the time."""
USERS = 12


@dataclass(frozen=True)
class Pooler:
    database: Database
    port: int

    @property
    def api_url(self) -> str:
        return make_url(self.database.api_url).set(port=self.port).render_as_string(hide_password=False)

    @property
    def worker_url(self) -> str:
        return make_url(self.database.worker_url).set(port=self.port).render_as_string(hide_password=False)


@pytest.fixture
def pooler(database: Database) -> Iterator[Pooler]:
    home, port = Path(tempfile.mkdtemp(prefix="echo-pooler-")), _free_port()
    (home / "users.txt").write_text(f'"echo_api" "{API_PASSWORD}"\n"echo_worker" "{WORKER_PASSWORD}"\n')
    (home / "pgbouncer.ini").write_text(
        f"""
        [databases]
        * = host=127.0.0.1 port={database.server.port}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = scram-sha-256
        auth_file = {home}/users.txt
        pool_mode = transaction
        default_pool_size = {SERVER_CONNECTIONS}
        """
    )
    identity: dict[str, object] = {}
    if os.geteuid() == 0:  # PgBouncer refuses root
        identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        os.chown(home, NOBODY, NOBODY)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(  # type: ignore[call-overload]
            [PGBOUNCER, home / "pgbouncer.ini"], stdout=log, stderr=log, preexec_fn=_die_with_parent, **identity
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _listens(port):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Pooler(database, port)
    finally:
        process.kill()
        process.wait(START_TIMEOUT_S)
        shutil.rmtree(home, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def ignore(events: object, rings: object) -> None:
    return


async def test_api_and_worker_live_behind_a_pooler_in_transaction_mode(pooler, new_video, new_job) -> None:
    async with (
        open_engine(pooler.api_url, pool_size=10, transaction_pooling=True) as api_engine,
        open_engine(pooler.worker_url, pool_size=10, transaction_pooling=True) as worker_engine,
    ):
        await check_schema(api_engine)
        await check_schema(worker_engine)
        api, worker = (
            PostgresUserUnitsOfWork(api_engine, ignore, SEAL),
            PostgresWorkerUnitsOfWork(worker_engine, ignore),
        )

        async def one_user_lives() -> None:
            user = User(id=UserId(uuid4()))
            video = new_video(user)
            job = new_job(video)
            async with api.for_user(user) as uow:
                await uow.videos.add(video)
                await uow.jobs.add(job)
                await uow.events.add([NewEvent(type="video.created", owner_id=user.id, video_id=video.id)])
            for _ in range(3):
                page = await api.list_videos(user, VideoQuery(limit=5))
                assert [v.id for v in page.videos] == [video.id]
                async with api.for_user(user) as uow:
                    assert await uow.jobs.get(job.id) == job
                with pytest.raises(UnknownEntityError):
                    async with api.for_user(User(id=UserId(uuid4()))) as uow:
                        await uow.jobs.get(job.id)
                assert await api.event_heads([user.id]) == {user.id: 1}

        async def one_step_is_claimed() -> None:
            async with worker.for_worker() as uow:
                before, step_id = await uow.jobs.claim_candidate(Resource.LIGHT, ["inspect"])
                claimed = before.claimed(step_id, worker="w", now=await uow.jobs.now(), lease_s=9)
                await uow.jobs.save(before, claimed)
            async with worker.for_worker() as uow:
                await uow.jobs.try_lock_reconciler()
                beats = await uow.jobs.renew(
                    [LeaseRef(step_id=step_id, lease_token=1, progress=0.5)], lease_s=9, extend=True
                )
                assert [beat.owned for beat in beats] == [True]

        await asyncio.gather(*(one_user_lives() for _ in range(USERS)))
        await asyncio.gather(*(one_step_is_claimed() for _ in range(USERS)))


async def test_limits_hold_behind_the_pooler_and_no_connection_keeps_them(pooler) -> None:
    user = User(id=UserId(uuid4()))
    opened = open_engine(pooler.api_url, statement_timeout_s=0.2, transaction_pooling=True)
    async with opened as engine:
        with pytest.raises(UnavailableError) as caught:
            async with transaction(engine, begin_as_user(user)) as tx:
                await tx.execute(text("select pg_sleep(5)"))
        assert caught.value.code == "database_busy"
    async with open_engine(pooler.worker_url, transaction_pooling=True) as engine:
        async with transaction(engine, BEGIN_AS_SERVICE) as tx:
            zone = await tx.execute(text("select current_setting('timezone'), current_setting('statement_timeout')"))
            assert zone.one() == ("UTC", "10s")
        async with engine.connect() as connection:
            timeout = await connection.execute(text("select current_setting('statement_timeout'), current_user"))
            assert timeout.one() == ("0", "echo_worker")


async def test_a_pooler_that_was_not_told_of_says_which_setting_is_missing(pooler) -> None:
    async with open_engine(pooler.api_url) as engine:
        with pytest.raises(UnavailableError) as caught:
            async with transaction(engine, "begin"):
                pytest.fail("the pooler takes no settings")
    assert "database.transaction_pooling" in caught.value.remedy
