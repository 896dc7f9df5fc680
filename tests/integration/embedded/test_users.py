"""As whom the servers run: an ordinary user's as themselves, root's as an unprivileged user; closed doors stay shut."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from echo_core.adapters.embedded import cluster, identity
from echo_core.adapters.embedded.binaries import postgres_bin
from echo_core.adapters.embedded.child import LAUNCHER
from echo_core.adapters.embedded.errors import DataDirError
from echo_core.adapters.embedded.identity import Identity, able_to_reach, can_grant_search, may_pass
from echo_core.adapters.embedded.services import embedded_services
from echo_core.adapters.settings import Settings

CAP_DAC_READ_SEARCH_ONLY = "0000000000000004"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers as somebody else")
with_search = pytest.mark.skipif(not can_grant_search(), reason="this root lacks CAP_DAC_READ_SEARCH or CAP_SETPCAP")


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that everybody can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="echo-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def closed_dir(open_dir: Path) -> Path:
    path = open_dir / "home"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def closed_programs(closed_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PostgreSQL installed behind a closed door, libraries beside it as in the wheel."""
    package = postgres_bin().parent.parent
    packages = closed_dir / "site-packages"
    shutil.copytree(package / "pginstall18", packages / package.name / "pginstall18")
    shutil.copytree(package.with_name(f"{package.name}.libs"), packages / f"{package.name}.libs")
    programs = packages / package.name / "pginstall18" / "bin"
    monkeypatch.setattr(cluster, "postgres_bin", lambda: programs)
    return programs


def running_postgres(data_dir: Path) -> psutil.Process:
    """The server of that directory; other tests may have one of their own."""
    postgres = (child for child in psutil.Process().children() if child.name() == "postgres")
    (found,) = [server for server in postgres if str(data_dir) in " ".join(server.cmdline())]
    return found


def is_closed(path: Path) -> bool:
    return path.stat().st_mode & 0o777 == 0o700


def capabilities(process: psutil.Process) -> set[str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith(("CapPrm", "CapEff", "CapAmb"))}


@as_root
@with_search
async def test_root_behind_closed_doors_gives_the_server_eyes_but_no_hands(
    closed_dir: Path, closed_programs: Path
) -> None:
    async with embedded_services(Settings(data_dir=closed_dir / "data"), fsync=False):
        server = running_postgres(closed_dir)
        assert server.exe() == str(closed_programs / "postgres")
        assert 0 not in server.uids()
        assert 0 not in server.gids()
        assert capabilities(server) == {CAP_DAC_READ_SEARCH_ONLY}
    assert is_closed(closed_dir)


@as_root
async def test_root_with_open_doors_gives_the_server_no_privilege(open_dir: Path) -> None:
    user = Identity(pwd.getpwnam("nobody").pw_uid, 0)
    if not may_pass(user, postgres_bin() / "postgres"):
        pytest.skip("PostgreSQL is installed behind a closed door here")
    async with embedded_services(Settings(data_dir=open_dir / "data"), fsync=False):
        server = running_postgres(open_dir)
        assert 0 not in server.uids()
        assert capabilities(server) == {"0" * 16}


@as_root
async def test_root_serves_a_users_directory_as_that_user(open_dir: Path) -> None:
    data = open_dir / "data"
    data.mkdir()
    daemon = pwd.getpwnam("daemon")
    os.chown(data, daemon.pw_uid, daemon.pw_gid)
    async with embedded_services(Settings(data_dir=data), fsync=False):
        assert set(running_postgres(data).uids()) == {daemon.pw_uid}


@as_root
async def test_directory_that_changed_hands_follows_its_owner(open_dir: Path) -> None:
    settings = Settings(data_dir=open_dir / "data")
    async with embedded_services(settings, fsync=False):
        pass
    daemon = pwd.getpwnam("daemon")
    os.chown(settings.data_dir, daemon.pw_uid, daemon.pw_gid)
    async with embedded_services(settings, fsync=False):
        assert set(running_postgres(settings.data_dir).uids()) == {daemon.pw_uid}


@as_root
async def test_root_without_the_capability_copies_closed_programs(
    open_dir: Path, closed_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "can_grant_search", lambda: False)
    settings = Settings(data_dir=open_dir / "data")
    for _ in range(2):
        async with embedded_services(settings, fsync=False):
            server = running_postgres(settings.data_dir)
            assert Path(server.exe()).is_relative_to(settings.data_dir / "postgres")
            assert 0 not in server.uids()


@as_root
async def test_root_without_the_capability_refuses_a_closed_directory(
    closed_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "can_grant_search", lambda: False)
    with pytest.raises(DataDirError, match="cannot reach") as refused:
        async with embedded_services(Settings(data_dir=closed_dir / "data"), fsync=False):
            pass
    assert "/var/lib/echo" in refused.value.remedy
    assert is_closed(closed_dir)


def test_user_without_a_name_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(DataDirError, match="user 54321 has none"):
        identity.server_user(tmp_path)


@pytest.fixture
def nobody() -> Identity:
    """An ordinary user; with eyes, as in the launcher, where the interpreter lies behind a closed door."""
    entry = pwd.getpwnam("nobody")
    needed = (Path(sys.executable), Path(sysconfig.get_path("purelib")), Path(__file__))
    user = able_to_reach(Identity(entry.pw_uid, entry.pw_gid), *needed)
    if user is None:
        pytest.skip("an ordinary user can reach neither interpreter nor packages here")
    return user


@pytest.fixture
def as_nobody(nobody: Identity) -> list[str]:
    """What to put before a command to run it as that user."""
    options = {
        "parent": os.getpid(),
        "death_signal": int(signal.SIGKILL),
        "uid": nobody.uid,
        "gid": nobody.gid,
        "search": nobody.search,
    }
    return [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(options)]


@as_root
def test_ordinary_user_runs_it_all_as_themselves(
    start_up: Callable[..., Any], open_dir: Path, nobody: Identity, as_nobody: list[str]
) -> None:
    home = open_dir / "nobody"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.uid, nobody.gid)
    up = start_up(data_dir=home / "data", prefix=as_nobody)
    up.ready()
    processes = up.descendants()
    assert {"postgres", "valkey-server"} <= {process.name() for process in processes}
    assert all(set(process.uids()) == {nobody.uid} for process in processes)
    assert (home / "data" / "postgres" / "18").stat().st_uid == nobody.uid
    up.child("bin/postgres").kill()
    up.said("postgres runs again")
    assert up.end() == 0


@as_root
def test_ordinary_user_is_told_of_a_directory_that_is_not_theirs(
    start_up: Callable[..., Any], open_dir: Path, as_nobody: list[str]
) -> None:
    (open_dir / "data").mkdir(mode=0o755)
    up = start_up(data_dir=open_dir / "data", prefix=as_nobody)
    assert up.wait() == 1
    assert up.output.count(DataDirError.default_code) == 1
    assert f"Echo cannot write to {open_dir / 'data'}" in up.output
    assert "chown" in up.output


@as_root
def test_ordinary_user_is_told_of_data_that_another_user_made(
    start_up: Callable[..., Any], open_dir: Path, nobody: Identity, as_nobody: list[str]
) -> None:
    data = open_dir / "data"
    (data / "postgres").mkdir(parents=True)
    (data / "postgres").chmod(0o700)
    os.chown(data, nobody.uid, nobody.gid)
    up = start_up(data_dir=data, prefix=as_nobody)
    assert up.wait() == 1
    assert up.output.count(DataDirError.default_code) == 1
    assert f"{data / 'postgres'} belongs to another user" in up.output
