"""Processes that an earlier run left behind: found by what was noted of them, stopped when they are provably ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from echo_core.adapters.embedded.child import Child
from echo_core.adapters.embedded.datadir import DataDir, process_of

NOTE = "children.json"
STOP_GRACE_S = 15.0
KILL_GRACE_S = 5.0


def note_child(data_dir: DataDir, child: Child) -> None:
    """Note a child, in place of an earlier one of its name, so that a later run can find it."""
    with suppress(psutil.Error):  # it may be gone already
        started_at = psutil.Process(child.pid).create_time()
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
    for name, process, _ in leftovers:
        say(f"stopping {name} (process {process.pid}), left over from an earlier run")
    await asyncio.to_thread(_stop, leftovers)
    await asyncio.to_thread(_clear_stale_pid_file, data_dir)
    forget_children(data_dir)


def _find(data_dir: DataDir) -> list[tuple[str, psutil.Process, int]]:
    """Name, process and stop signal of each."""
    found: dict[int, tuple[str, psutil.Process, int]] = {}
    for name, facts in data_dir.read_run(NOTE).items():
        if isinstance(facts, dict):
            with suppress(KeyError, TypeError, psutil.Error):
                process = process_of(facts["pid"], facts["started_at"])
                if process and _is_noted(process, facts):
                    found[process.pid] = (name, process, facts["stop_signal"])
    for cluster in data_dir.postgres.glob("*/postmaster.pid"):
        postmaster = _postmaster(cluster)
        if postmaster is not None:
            found.setdefault(postmaster.pid, ("postgres", postmaster, 2))
    return list(found.values())


def _is_noted(process: psutil.Process, facts: dict[str, object]) -> bool:
    """Its number and start time fit already; now its command line, or for those who change that, its directory."""
    return process.cmdline() == facts["argv"] or (facts["cwd"] is not None and process.cwd() == facts["cwd"])


def _postmaster(pid_file: Path) -> psutil.Process | None:
    """The server that a ``postmaster.pid`` names, when it is a postgres that works in the file's own directory."""
    with suppress(OSError, ValueError, IndexError, psutil.Error):
        process = psutil.Process(int(pid_file.read_text(encoding="utf-8").splitlines()[0]))
        if process.name() == "postgres" and Path(process.cwd()) == pid_file.parent:
            return process
    return None


def _stop(leftovers: list[tuple[str, psutil.Process, int]]) -> None:
    processes = [process for _, process, _ in leftovers]
    for _, process, number in leftovers:
        with suppress(psutil.Error):
            process.send_signal(number)
    _, alive = psutil.wait_procs(processes, timeout=STOP_GRACE_S)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=KILL_GRACE_S)


def _clear_stale_pid_file(data_dir: DataDir) -> None:
    """Remove a ``postmaster.pid`` whose number now belongs to a stranger: PostgreSQL would refuse to start.

    It never removes one itself while any process bears the number. We hold the directory and looked for its server.
    """
    for pid_file in data_dir.postgres.glob("*/postmaster.pid"):
        if _postmaster(pid_file) is None and not _backends(pid_file.parent):
            pid_file.unlink(missing_ok=True)


def _backends(cluster: Path) -> bool:
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.info["name"] == "postgres" and Path(process.cwd()) == cluster:
                return True
    return False
