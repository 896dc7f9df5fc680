"""What an earlier run left: stopped when it is provably ours, else left alone."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import psutil
import pytest

from echo_core.adapters.embedded.datadir import DataDir, find_instance, start_of
from echo_core.adapters.embedded.leftovers import note_child
from echo_core.adapters.embedded.postgres import EmbeddedPostgres
from echo_core.adapters.embedded.services import Server, embedded_services
from echo_core.adapters.embedded.valkey import EmbeddedValkey
from echo_core.adapters.settings import Settings


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
async def test_orphaned_server_is_stopped(
    settings: Settings, kind: type[EmbeddedPostgres] | type[EmbeddedValkey], *, noted: bool
) -> None:
    if kind is EmbeddedValkey and not noted:
        pytest.skip("only the note tells of an orphaned Valkey; it keeps no data and its port is replaced")
    data_dir = DataDir(settings.data_dir)
    data_dir.prepare()
    server: Server = kind(data_dir)
    orphan = await server.start()
    said: list[str] = []
    try:
        if noted:
            note_child(data_dir, orphan)
        async with embedded_services(settings, fsync=False, say=said.append):
            await orphan.wait()
    finally:
        await orphan.kill()
    assert said == [f"stopping {server.name} (process {orphan.pid}), left over from an earlier run"]


async def test_stranger_with_a_noted_number_is_left_alone(settings: Settings) -> None:
    data_dir = DataDir(settings.data_dir)
    data_dir.prepare()
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    try:
        facts = {
            "pid": stranger.pid,
            "started_at": start_of(stranger.pid),
            "argv": ["postgres"],
            "cwd": str(data_dir.postgres / "18"),
            "stop_signal": 9,
        }
        (data_dir.run / "children.json").write_text(json.dumps({"postgres": facts}))
        async with embedded_services(settings, fsync=False):
            assert stranger.returncode is None
            assert psutil.pid_exists(stranger.pid)
    finally:
        stranger.kill()
        assert await stranger.wait() == -9


async def test_pid_file_with_a_strangers_number_does_not_hinder(settings: Settings) -> None:
    async with embedded_services(settings, fsync=False):
        pid_file = DataDir(settings.data_dir).postgres / "18" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(psutil.Process().pid), *lines[1:], ""]))
    async with embedded_services(settings, fsync=False):
        assert pid_file.read_text().splitlines()[0] != str(psutil.Process().pid)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"postgres": 1}', '{"postgres": {"pid": "x"}}'])
async def test_damaged_notes_do_not_hinder(settings: Settings, text: str) -> None:
    data_dir = DataDir(settings.data_dir)
    data_dir.prepare()
    for name in ("children.json", "instance.json", "postgres.json", "valkey.json", "up.lock"):
        (data_dir.run / name).write_text(text)
    async with embedded_services(settings, fsync=False):
        pass


def test_instance_is_found_after_the_clock_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = DataDir(tmp_path)
    data_dir.prepare()
    with data_dir.announced(public_url="http://a", database_url="postgresql://b", redis_url="redis://c") as instance:
        started_at = psutil.Process().create_time()
        # The system reckons it from the clock and the time that it runs, so that it moves when the clock is set.
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: started_at + 60)
        assert find_instance(tmp_path) == instance
    assert find_instance(tmp_path) is None
