"""Real servers in directories of their own, and ``up`` with stand-ins for the programs as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from echo_core.adapters.embedded.datadir import Instance, find_instance
from echo_core.adapters.settings import Settings

DEADLINE_S = 60.0
ROOT = Path(__file__).parents[3]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.integration)


def eventually(condition: Callable[[], object], what: str, describe: Callable[[], str] = lambda: "") -> None:
    """Wait until it holds; fail with ``what`` when it does not within the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {DEADLINE_S:g} s: {what}\n{describe()}")
        time.sleep(0.02)


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Up:
    """One ``up`` in a process of its own."""

    def __init__(self, data_dir: Path, port: int, process: subprocess.Popen[bytes], output: Path) -> None:
        self.data_dir = data_dir
        self.port = port
        self.process = process
        self._output = output
        self.seen: set[psutil.Process] = set()

    @property
    def output(self) -> str:
        return self._output.read_text()

    def said(self, words: str, times: int = 1) -> None:
        eventually(lambda: self.output.count(words) >= times, f"it says {words!r}", lambda: self.output)

    def ready(self) -> Instance:
        def found() -> bool:
            assert self.process.poll() is None, self.output
            return "Echo runs at" in self.output

        eventually(found, "it runs", lambda: self.output)
        instance = find_instance(self.data_dir)
        assert instance is not None
        self.descendants()
        return instance

    def descendants(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children(recursive=True)
        self.seen.update(found)
        return found

    def child(self, *words: str) -> psutil.Process:
        """Its own child with these words in the command line."""

        found: list[psutil.Process] = []

        def single() -> bool:
            # looked at once: a child that replaces its program has no command line for a moment
            children = psutil.Process(self.process.pid).children()
            found[:] = [child for child in children if all(word in " ".join(child.cmdline()) for word in words)]
            return len(found) == 1

        eventually(single, f"one child like {words}", lambda: self.output)
        return found[0]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.descendants()
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(DEADLINE_S)
        eventually(lambda: all(gone(process) for process in self.seen), "no process is left", lambda: repr(self.seen))
        return code


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start_up(tmp_path: Path, free_port: int) -> Iterator[Callable[..., Up]]:
    """Start ``up``; whatever is left of it at the end of the test is killed, children included."""
    ups: list[Up] = []

    def start(
        *,
        data_dir: Path = tmp_path / "data",
        port: int = free_port,
        api: str = "api",
        worker: str = "worker",
        prefix: Sequence[str] = (),
    ) -> Up:
        output = tmp_path / f"output{len(ups)}"
        script = Path(__file__).with_name("supervise.py")
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*prefix, sys.executable, str(script), str(data_dir), str(port), api, worker],
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        ups.append(Up(data_dir, port, process, output))
        return ups[-1]

    yield start
    for up in ups:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()
        for process in up.seen:
            with suppress(psutil.NoSuchProcess):
                process.kill()


async def fetch(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@pytest.fixture
def sql() -> Callable[[str, str], object]:
    """Run one statement and return its first value."""
    return lambda url, statement: asyncio.run(fetch(url, statement))


@pytest.fixture
def ping() -> Callable[[str], bool]:
    """Whether the Redis at this URL answers."""

    def answers(url: str) -> bool:
        with redis.Redis.from_url(url) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    return answers
