"""One child process: started through the launcher, its output kept, stopped without leaving anything behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from echo_core.adapters.embedded.identity import Identity

LAUNCHER = Path(__file__).with_name("launcher.py")
LINE_BYTES = 64 << 10  # a longer line is passed on in pieces
PUMP_GRACE_S = 2.0  # for the last output of a child that is gone; a grandchild may hold the pipe open for ever
TAIL_BYTES = 4096
MAX_LOG_BYTES = 64 << 20
"""Of a child's log file; then it is set aside, and the one that was set aside before goes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A program to run. ``env`` is its whole environment.

    Its output goes to ``log``; with ``relay`` also there, line by line. ``stop_signal`` asks it to end,
    ``hurry_signal`` demands it, ``death_signal`` is what the kernel sends when the parent dies (Linux only).
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path | None = None
    stdin: Path | None = None
    identity: Identity | None = None
    relay: Callable[[str], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    hurry_signal: signal.Signals = signal.SIGKILL
    death_signal: signal.Signals = signal.SIGKILL


def describe_exit(code: int) -> str:
    """``exit code 1`` or ``signal SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def read_tail(log: Path, since: int = 0) -> str:
    """The last lines of a log, none from before offset ``since``."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(since, size - TAIL_BYTES)
            file.seek(start)
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    lines = text.splitlines()[1:] if start > since else text.splitlines()
    return "\n".join(lines[-20:])


class Child:
    """A running child. Made by ``spawn``; ``stop`` or ``kill`` it before dropping it, even when it has ended."""

    def __init__(self, command: Command, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self.command = command
        self.log_start = log.tell()
        self._process = process
        self._log = log
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls, command: Command) -> Self:
        """Start it. The calling thread must live as long as the child: its end is the parent's death for the kernel."""
        _set_aside(command.log)
        log = command.log.open("ab", buffering=0)  # nothing left to write at close, when the disk may be full
        read_end = write_end = None
        try:
            if command.relay:
                read_end, write_end = os.pipe()
            child = cls(command, await _spawn(command, log if write_end is None else write_end), log)
            if read_end is not None:
                pipe, read_end = read_end, None
                child._pump = asyncio.create_task(child._pass_on(pipe), name=f"output of {command.name}")
        except BaseException:
            log.close()
            raise
        finally:
            for end in (read_end, write_end):
                if end is not None:
                    os.close(end)
        return child

    @property
    def pid(self) -> int:
        """The process, which also leads a process group and session of its own."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; ``-n`` after signal n."""
        return self._process.returncode

    @property
    def tail(self) -> str:
        """The last lines it wrote."""
        return read_tail(self.command.log, self.log_start)

    async def wait(self) -> int:
        """Wait until it ends; its exit code, ``-n`` after signal n."""
        return await self._process.wait()

    async def stop(self, grace_s: float, hurry: asyncio.Event | None = None) -> int:
        """Ask it to end; insist when ``grace_s`` are over or ``hurry`` is set; leave nobody of its group.

        Cancelled, it kills at once.
        """
        try:
            self._signal(self.command.stop_signal)
            if not await self._ended(grace_s, hurry) and self.command.hurry_signal is not signal.SIGKILL:
                self._signal(self.command.hurry_signal)
                await self._ended(grace_s, None)
        finally:
            code = await self.kill()
        return code

    async def kill(self) -> int:
        """Kill it and its group, and wait for the end of it. Does nothing the second time."""
        if self._log.closed and self.exit_code is not None:
            return self.exit_code  # its number may be another's by now
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        code = await self._process.wait()
        if self._pump is not None:
            _, late = await asyncio.wait({self._pump}, timeout=PUMP_GRACE_S)
            for task in late:
                task.cancel()
                await asyncio.wait({task})
        self._log.close()
        return code

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _ended(self, timeout_s: float, hurry: asyncio.Event | None) -> bool:
        waits = {asyncio.create_task(self.wait())}
        if hurry is not None:
            waits.add(asyncio.create_task(self._hurried(hurry)))
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return self.exit_code is not None

    async def _hurried(self, hurry: asyncio.Event) -> int:
        await hurry.wait()
        return 0

    async def _pass_on(self, pipe: int) -> None:
        """Copy the child's output to its log and its relay until it closes its end."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
        )
        rest = b""
        try:
            while chunk := await reader.read(LINE_BYTES):
                with suppress(OSError):  # a full disk must not block the child on its own output
                    if self._log.tell() > MAX_LOG_BYTES:
                        self._begin_anew()
                    self._log.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                self._relay(lines)
            self._relay([rest] if rest else [])
        finally:
            transport.close()

    def _begin_anew(self) -> None:
        """Go on in an empty log file; the one before is kept beside it."""
        _set_aside(self.command.log)
        before, self._log = self._log, self.command.log.open("ab", buffering=0)
        before.close()
        self.log_start = 0

    def _relay(self, lines: list[bytes]) -> None:
        if self.command.relay is not None:
            for line in lines:
                self.command.relay(line.decode(errors="replace").rstrip("\r"))


def _set_aside(log: Path) -> None:
    """Rename a log file that has become too long; the one that was set aside before goes."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


async def _spawn(command: Command, output: IO[bytes] | int) -> asyncio.subprocess.Process:
    identity = command.identity
    options = {
        "parent": os.getpid(),
        "death_signal": int(command.death_signal),
        "uid": identity.uid if identity else None,
        "gid": identity.gid if identity else None,
        "search": identity.search if identity else False,
    }
    stdin = os.open(command.stdin or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(LAUNCHER),
            json.dumps(options),
            *command.argv,
            stdin=stdin,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(command.env),
            cwd=command.cwd,
            start_new_session=True,
        )
    finally:
        os.close(stdin)
