"""The servers for the length of a block: addresses, data that stays, and directories that cannot be used."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio

from echo_core.adapters.embedded.datadir import DataDir
from echo_core.adapters.embedded.errors import AlreadyRunningError, DataDirError, StartFailedError
from echo_core.adapters.embedded.services import ServiceAddresses, embedded_services
from echo_core.adapters.settings import DatabaseSettings, RedisSettings, Settings


@pytest.fixture
def new_children() -> Callable[[], list[psutil.Process]]:
    """Our own children since the test began; fixtures of other tests may have some too."""
    before = set(psutil.Process().children(recursive=True))
    return lambda: [p for p in psutil.Process().children(recursive=True) if p not in before]


async def fetch(addresses: ServiceAddresses, statement: str) -> object:
    connection = await asyncpg.connect(addresses.database_url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_data_addresses_and_passwords_survive_a_restart(
    settings: Settings, new_children: Callable[[], list[psutil.Process]]
) -> None:
    async with embedded_services(settings, fsync=False) as first:
        await fetch(first, "CREATE TABLE kept AS SELECT 7 AS number")
        children = new_children()
    assert children
    assert not [child for child in children if child.is_running()]
    async with embedded_services(settings, fsync=False) as second:
        assert second == first
        assert await fetch(second, "SELECT number FROM kept") == 7


async def test_text_is_ordered_by_code_point_whatever_the_locale(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    async with embedded_services(settings, fsync=False) as addresses:
        ordered = await fetch(addresses, "SELECT string_agg(w, '' ORDER BY w) FROM unnest('{b,ä,B,a,Ä}'::text[]) w")
        assert ordered == "BabÄä"
        assert await fetch(addresses, "SELECT lower('ÄÖÜ')") == "äöü"
        assert await fetch(addresses, "SHOW server_encoding") == "UTF8"


async def test_strangers_are_not_let_in(settings: Settings) -> None:
    async with embedded_services(settings, fsync=False) as addresses:
        wrong = addresses.database_url.replace("postgres:", "postgres:x")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(wrong)
        async with redis.asyncio.Redis.from_url(addresses.redis_url.replace("redis://:", "redis://:x")) as client:
            with pytest.raises(redis.AuthenticationError):
                await client.ping()
        data_dir = DataDir(settings.data_dir)
        for secret in data_dir.secrets.iterdir():
            assert secret.stat().st_mode & 0o777 == 0o600
            commands = [process.cmdline() for process in psutil.Process().children()]
            assert secret.read_text().strip() not in repr(commands)


async def test_durability_is_the_default(settings: Settings) -> None:
    async with embedded_services(settings) as addresses:
        assert await fetch(addresses, "SHOW fsync") == "on"
        assert await fetch(addresses, "SHOW data_checksums") == "on"
        async with redis.asyncio.Redis.from_url(addresses.redis_url) as client:
            policy = await client.config_get("maxmemory-policy")
            assert policy == {"maxmemory-policy": "noeviction"}


async def test_taken_port_is_replaced(settings: Settings) -> None:
    async with embedded_services(settings, fsync=False) as first:
        pass
    port = int(first.database_url.rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        async with embedded_services(settings, fsync=False) as second:
            assert second.database_url != first.database_url
            assert second.redis_url == first.redis_url
            assert await fetch(second, "SELECT 1") == 1


async def test_named_servers_are_used_and_none_started(
    settings: Settings, new_children: Callable[[], list[psutil.Process]]
) -> None:
    database, queue = "postgresql://me@db.example/echo", "redis://cache.example/0"
    settings = settings.model_copy(
        update={"database": DatabaseSettings(url=database), "redis": RedisSettings(url=queue)}  # type: ignore[arg-type]
    )
    async with embedded_services(settings) as addresses:
        assert addresses == ServiceAddresses(database_url=database, redis_url=queue)
        assert addresses.environment == {"ECHO_DATABASE__URL": database, "ECHO_REDIS__URL": queue}
        assert not new_children()


async def test_second_holder_is_refused(settings: Settings) -> None:
    async with embedded_services(settings, fsync=False):
        with pytest.raises(AlreadyRunningError) as refused:
            async with embedded_services(settings):
                pass
    assert refused.value.pid == os.getpid()


async def test_lost_password_is_replaced(settings: Settings) -> None:
    async with embedded_services(settings, fsync=False) as first:
        await fetch(first, "CREATE TABLE kept AS SELECT 7 AS number")
    (DataDir(settings.data_dir).secrets / "postgres").unlink()
    async with embedded_services(settings, fsync=False) as second:
        assert second.database_url != first.database_url
        assert await fetch(second, "SELECT number FROM kept") == 7


async def test_wrong_password_is_explained(
    settings: Settings, new_children: Callable[[], list[psutil.Process]]
) -> None:
    async with embedded_services(settings, fsync=False):
        pass
    (DataDir(settings.data_dir).secrets / "postgres").write_text("another")
    with pytest.raises(StartFailedError) as refused:
        async with embedded_services(settings, fsync=False):
            pass
    assert re.search(r"Delete .*secrets/postgres and start again", refused.value.remedy)
    assert not new_children()


async def test_half_made_cluster_is_made_anew(settings: Settings) -> None:
    draft = DataDir(settings.data_dir).postgres / ".18.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    async with embedded_services(settings, fsync=False) as addresses:
        assert await fetch(addresses, "SELECT 1") == 1
    assert not draft.exists()


@pytest.mark.parametrize("place", [".", "16"])
async def test_data_of_another_version_is_refused_and_left_alone(settings: Settings, place: str) -> None:
    foreign = DataDir(settings.data_dir).postgres / place
    foreign.mkdir(parents=True)
    (foreign / "PG_VERSION").write_text("16\n")
    with pytest.raises(DataDirError, match="holds data of PostgreSQL 16") as refused:
        async with embedded_services(settings, fsync=False):
            pass
    assert "pg_dump" in refused.value.remedy
    assert [path.name for path in foreign.iterdir()] == ["PG_VERSION"]


async def test_cluster_without_its_heart_is_refused(settings: Settings) -> None:
    async with embedded_services(settings, fsync=False):
        pass
    (DataDir(settings.data_dir).postgres / "18" / "global" / "pg_control").unlink()
    with pytest.raises(DataDirError, match="not whole"):
        async with embedded_services(settings, fsync=False):
            pass


async def test_damaged_cluster_is_explained(settings: Settings) -> None:
    async with embedded_services(settings, fsync=False):
        pass
    for segment in (DataDir(settings.data_dir).postgres / "18" / "pg_wal").glob("0*"):
        segment.write_bytes(bytes(segment.stat().st_size))
    with pytest.raises(StartFailedError, match="could not locate a valid checkpoint") as failed:
        async with embedded_services(settings, fsync=False):
            pass
    assert "restore a backup" in failed.value.remedy


async def test_mistake_in_the_configuration_is_explained(settings: Settings) -> None:
    async with embedded_services(settings, fsync=False):
        pass
    with (DataDir(settings.data_dir).postgres / "18" / "postgresql.conf").open("a") as file:
        file.write("shared_bufers = 1GB\n")
    with pytest.raises(StartFailedError, match="shared_bufers") as failed:
        async with embedded_services(settings, fsync=False):
            pass
    assert failed.value.remedy == "Correct postgresql.conf."


async def test_full_disk_is_explained(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100 << 20, 99 << 20, 1 << 20))
    with pytest.raises(DataDirError, match="is full: 1 MiB left"):
        async with embedded_services(settings):
            pass


async def test_place_that_is_no_directory_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match="cannot write"):
        async with embedded_services(Settings(data_dir=tmp_path / "file" / "data")):
            pass
