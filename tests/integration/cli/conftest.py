"""One real instance for all tests of the command line, started as a user starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil
import pytest

ECHOCTL = [sys.executable, "-m", "echo_core.entrypoints.cli"]
START_S = 120.0
STOP_S = 30.0
COMMAND_S = 120.0


@dataclass
class Running:
    """A program whose lines are read as they come; ``until`` waits for one of them."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False

    def read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self.news:
                    self.lines.append(line)
                    self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def until(self, found: Callable[[str], bool], deadline_s: float = COMMAND_S) -> None:
        with self.news:
            seen = self.news.wait_for(lambda: self.ended or any(found(line) for line in self.lines), deadline_s)
        assert seen, f"not within {deadline_s:.0f} s:\n{''.join(self.lines)}"
        assert any(found(line) for line in self.lines), f"ended without it:\n{''.join(self.lines)}"


@dataclass(frozen=True)
class Instance:
    """``echoctl up`` and what is needed to run other commands beside it."""

    up: Running
    environment: dict[str, str]
    home: Path

    def echoctl(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ECHOCTL, *map(str, arguments)],
            env={**self.environment, **environment},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def start(self, *arguments: object, **environment: str) -> Running:
        """Run a command whose standard error is read while it runs."""
        return _start(*arguments, environment={**self.environment, **environment}, home=self.home)

    def kill_api(self) -> None:
        """End the API process at once; ``up`` starts another."""
        for child in psutil.Process(self.up.process.pid).children():
            if "serve" in child.cmdline():
                child.kill()


def _start(*arguments: object, environment: dict[str, str], home: Path) -> Running:
    process = subprocess.Popen(
        [*ECHOCTL, *map(str, arguments)],
        env=environment,
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background may have told its children to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    running = Running(process)
    assert process.stderr is not None
    threading.Thread(target=running.read, args=(process.stderr,), daemon=True).start()
    return running


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    home = tmp_path_factory.mktemp("echo")
    # PostgreSQL runs as another user when the tests run as root, and must be able to pass.
    for directory in (home, *home.parents[:2]):
        directory.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ECHO_")}
    environment |= {"ECHO_DATA_DIR": str(home / "data"), "ECHO_HTTP__PORT": str(port)}
    environment |= {"ECHO_AI__TRANSCRIBE": "[]", "ECHO_AI__DESCRIBE": "[]"}  # clips of tests say nothing
    environment |= {"ECHO_PLUGINS__STORAGE_LOCAL__MIN_FREE_BYTES": "0", "XDG_STATE_HOME": str(home / "state")}
    up = _start("up", environment=environment, home=home)
    try:
        up.until(lambda line: "Echo runs at" in line, START_S)
        yield Instance(up, environment, home)
    finally:
        up.process.send_signal(signal.SIGTERM)
        up.process.wait(STOP_S)
