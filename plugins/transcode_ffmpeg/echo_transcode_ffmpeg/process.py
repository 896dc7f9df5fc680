"""Run one confined program: limits, timeouts, and an end that leaves no process behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from echo_transcode_ffmpeg.config import Sandbox

LAUNCHER = Path(__file__).with_name("launcher.py")
KILL_AFTER_S = 5.0
"""Between SIGTERM and SIGKILL; ffmpeg needs 0.2 s to close its files."""
KEPT_LINES = 50
MAX_LINE_CHARS = 1000
CLEAN_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SVT_LOG": "1"}
"""All that a program sees of the environment: no credentials, no proxies, no FFREPORT. SVT-AV1 shall tell errors alone,
since each line counts as one."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use; see ``launcher.py``."""

    memory_bytes: int
    cpu_s: int
    file_bytes: int
    nice: int = 10
    open_files: int = 256
    network: Sandbox = "auto"
    files: Sandbox = "auto"
    calls: Sandbox = "auto"


@dataclass(frozen=True, kw_only=True)
class View:
    """What one program may see of the file system, besides itself and the system's libraries: absolute paths."""

    reads: tuple[Path, ...] = ()
    """Files."""
    writes: tuple[Path, ...] = ()
    """Directories in which it may make, change and remove files."""
    runs: tuple[Path, ...] = ()
    """Code that it loads and executes, beyond what lies where programs usually do."""


NOTHING = View()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a program ended. ``errors`` are its last lines of stderr, ``error_count`` how many there were in all."""

    returncode: int
    stdout: bytes
    errors: tuple[str, ...]
    error_count: int


class ProgramTimeoutError(Exception):
    """The program took too long; ``stalled``: it gave no sign of progress for too long."""

    def __init__(self, *, stalled: bool) -> None:
        super().__init__("stalled" if stalled else "timeout")
        self.stalled = stalled


class OutputTooLargeError(Exception):
    """The program wrote more to its stdout than anybody would read."""


@dataclass
class _Errors:
    last: deque[str]
    count: int = 0

    async def collect(self, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            self.last.append(line)
            self.count += 1


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    limits: Limits,
    timeout_s: float,
    view: View = NOTHING,
    on_line: Callable[[str], bool] | None = None,
    stall_timeout_s: float | None = None,
    max_stdout_bytes: int = 16 * 1024 * 1024,
) -> Outcome:
    """Run ``argv`` to its end and tell how it ended; ``argv[0]`` is an absolute path, and it sees what ``view`` says.

    Without any ``argv`` the outcome's stdout is what ``launcher.py`` tells of the system.

    ``on_line`` gets each line of stdout and says whether it shows progress; without it stdout is kept. Raises
    ``ProgramTimeoutError`` and ``OutputTooLargeError``; on these, and when cancelled, the whole process group has
    ended before the exception leaves.
    """
    shown = {name: [str(path) for path in paths] for name, paths in asdict(view).items()}
    confinement = {**asdict(limits), **shown, "parent": os.getpid()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(confinement), *argv),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=CLEAN_ENVIRONMENT,
        start_new_session=True,
    )
    if process.stdout is None or process.stderr is None:  # both are pipes, see above
        raise AssertionError
    errors = _Errors(deque(maxlen=KEPT_LINES))
    reader = asyncio.create_task(errors.collect(process.stderr))
    stdout = bytearray()
    total, watchdog = asyncio.timeout(timeout_s), asyncio.timeout(stall_timeout_s)
    try:
        async with total, watchdog:
            if on_line is None:
                await _keep(process.stdout, stdout, max_stdout_bytes)
            else:
                await _follow(process.stdout, on_line, watchdog, stall_timeout_s)
            await process.wait()
    except TimeoutError:
        raise ProgramTimeoutError(stalled=watchdog.expired()) from None
    finally:
        await _whatever_happens(_end(process, reader))
    return Outcome(
        returncode=process.returncode if process.returncode is not None else -signal.SIGKILL,
        stdout=bytes(stdout),
        errors=tuple(errors.last),
        error_count=errors.count,
    )


async def _keep(stream: asyncio.StreamReader, into: bytearray, limit: int) -> None:
    while chunk := await stream.read(65536):
        into += chunk
        if len(into) > limit:
            raise OutputTooLargeError


async def _follow(
    stream: asyncio.StreamReader, on_line: Callable[[str], bool], watchdog: asyncio.Timeout, stall_s: float | None
) -> None:
    loop = asyncio.get_running_loop()
    async for line in _lines(stream):
        if on_line(line) and stall_s is not None:
            watchdog.reschedule(loop.time() + stall_s)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines without their ends, cut to a length: hostile input may make ffmpeg print one without end."""
    rest = b""
    while chunk := await stream.read(8192):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line[:MAX_LINE_CHARS].decode(errors="replace").strip()
        rest = rest[:MAX_LINE_CHARS]
    if rest.strip():
        yield rest.decode(errors="replace").strip()


async def _whatever_happens(ending: Coroutine[None, None, None]) -> None:
    """Await ``ending`` to its end even if this task is cancelled meanwhile, again and again."""
    task = asyncio.create_task(ending)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


async def _end(process: asyncio.subprocess.Process, errors: asyncio.Task[None]) -> None:
    # asyncio tells of the end only when the pipes are read to theirs, and a full pipe would keep the program waiting.
    rest = asyncio.create_task(_drain(process.stdout))
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_AFTER_S):
                await process.wait()
    # Also after a good end: a wrapper script named as ffmpeg may have left children in the group.
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()
    await rest
    await errors


async def _drain(stream: asyncio.StreamReader | None) -> None:
    while stream is not None and await stream.read(65536):
        pass


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
