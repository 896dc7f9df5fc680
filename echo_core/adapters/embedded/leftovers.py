"""Processes that an earlier run left behind: found by what was noted of them, stopped when they are provably ours."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from echo_core.adapters.embedded.child import Child
from echo_core.adapters.embedded.datadir import DataDir, process_of, start_of

NOTE = "children.json"
STOP_GRACE_S = 15.0
KILL_GRACE_S = 5.0


def note_child(data_dir: DataDir, child: Child) -> None:
    """Note a child, in place of an earlier one of its name, so that a later run can find it."""
    with suppress(psutil.Error):  # it may be gone already
        started_at = start_of(child.pid)
        noted = data_dir.read_run(NOTE)
        command = child.command
        noted[command.name] = {
            "pid": child.pid,
            "started_at": started_at,
            "argv": list(command.argv),
            "cwd": str(command.cwd) if command.cwd else None,
            "stop_signal": int(command.stop_signal),
        }
        data_dir.write_run(NOTE, noted)


def forget_children(data_dir: DataDir) -> None:
    """All children are stopped: nothing is left to find."""
    (data_dir.run / NOTE).unlink(missing_ok=True)


async def stop_leftovers(data_dir: DataDir, say: Callable[[str], None]) -> None:
    """Stop what still runs of an earlier run, and remove what would mislead PostgreSQL. Hold the directory first."""
    leftovers = await asyncio.to_thread(_find, data_dir)
    for leftover in leftovers:
        if leftover.stop_signal is not None:
            say(f"stopping {leftover.name} (process {leftover.process.pid}), left over from an earlier run")
    await asyncio.to_thread(_stop, leftovers)
    await asyncio.to_thread(_clear_stale_pid_files, data_dir)
    forget_children(data_dir)


@dataclass(frozen=True, slots=True)
class _Leftover:
    """``stop_signal`` None: it ends when the one above it does."""

    name: str
    process: psutil.Process
    stop_signal: int | None


def _find(data_dir: DataDir) -> list[_Leftover]:
    found: dict[int, _Leftover] = {}
    for name, facts in data_dir.read_run(NOTE).items():
        if isinstance(facts, dict):
            with suppress(KeyError, TypeError, psutil.Error):
                process = process_of(facts["pid"], facts["started_at"])
                if process and _is_noted(process, facts):
                    found[process.pid] = _Leftover(name, process, int(facts["stop_signal"]))
    for pid_file in _pid_files(data_dir):
        postmaster = _noted_postmaster(pid_file)
        for process in _postgres_in(pid_file.parent):
            stop_signal = signal.SIGINT if process.pid == postmaster else None
            found.setdefault(process.pid, _Leftover("postgres", process, stop_signal))
    return list(found.values())


def _is_noted(process: psutil.Process, facts: Mapping[str, object]) -> bool:
    """Its number and start time fit already; now its command line, or for those who change that, its directory."""
    return bool(process.cmdline() == facts["argv"] or (facts["cwd"] is not None and process.cwd() == facts["cwd"]))


def _pid_files(data_dir: DataDir) -> list[Path]:
    """None after an orderly stop: PostgreSQL removes its own."""
    try:
        return list(data_dir.postgres.glob("*/postmaster.pid"))
    except PermissionError:  # the start that follows says so, and what to do
        return []


def _noted_postmaster(pid_file: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        return int(pid_file.read_text(encoding="utf-8").splitlines()[0])
    return None


def _postgres_in(cluster: Path) -> list[psutil.Process]:
    """Every process of a PostgreSQL that serves this very directory: they all work in it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == "postgres" and Path(process.cwd()) == cluster:
                found.append(process)
    return found


def _stop(leftovers: Sequence[_Leftover]) -> None:
    for leftover in leftovers:
        if leftover.stop_signal is not None:
            with suppress(psutil.Error):
                leftover.process.send_signal(leftover.stop_signal)
    _, alive = psutil.wait_procs([leftover.process for leftover in leftovers], timeout=STOP_GRACE_S)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=KILL_GRACE_S)


def _clear_stale_pid_files(data_dir: DataDir) -> None:
    """Remove each ``postmaster.pid`` without a server.

    PostgreSQL refuses to start while any process of its user bears the number in it, be it a stranger's by now. We
    may know better: we hold the directory, and looked for processes that serve it.
    """
    for pid_file in _pid_files(data_dir):
        if not _postgres_in(pid_file.parent):
            pid_file.unlink(missing_ok=True)
