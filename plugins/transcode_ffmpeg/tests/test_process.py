"""Confinement and the end of programs (T2, T3)."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from echo_transcode_ffmpeg import process
from echo_transcode_ffmpeg.process import NOTHING, Limits, OutputTooLargeError, ProgramTimeoutError, View, run

from echo_core.testing.transcoder_kit import children

MIB = 1024 * 1024
LIMITS = Limits(memory_bytes=2048 * MIB, cpu_s=60, file_bytes=MIB)
PATIENCE_S = 30
RUN_FOREVER = "import os, signal; print(os.getpid(), flush=True); signal.pause()"


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


async def outcome_of(
    argv: list[str], limits: Limits = LIMITS, timeout_s: float = PATIENCE_S, view: View = NOTHING
) -> process.Outcome:
    return await run(argv, cwd=Path("/"), limits=limits, timeout_s=timeout_s, view=view)


def wait_for_end(pid: int) -> bool:
    """Whether a process that may not be our child has ended, waiting for it a while."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], PATIENCE_S)[0])
    finally:
        os.close(handle)


async def test_tells_how_the_program_ended() -> None:
    outcome = await outcome_of(python("import sys; print('out'); print('a\\nb', file=sys.stderr); sys.exit(3)"))
    assert (outcome.returncode, outcome.stdout, outcome.errors) == (3, b"out\n", ("a", "b"))


async def test_keeps_only_the_last_lines_and_counts_all() -> None:
    outcome = await outcome_of(python("import sys; [print(n, file=sys.stderr) for n in range(1000)]"))
    assert outcome.error_count == 1000
    assert outcome.errors[-1] == "999"
    assert len(outcome.errors) == process.KEPT_LINES


async def test_endless_lines_are_cut() -> None:
    outcome = await outcome_of(python("import sys; sys.stderr.write('x' * 1_000_000)"))
    assert [len(line) for line in outcome.errors] == [process.MAX_LINE_CHARS]


async def test_endless_output_is_refused() -> None:
    before = children()
    with pytest.raises(OutputTooLargeError):
        await run(
            python("while True: print('x' * 1000)"),
            cwd=Path("/"),
            limits=LIMITS,
            timeout_s=PATIENCE_S,
            max_stdout_bytes=MIB,
        )
    assert children() <= before


async def test_the_environment_does_not_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    outcome = await outcome_of(python("import os; print(sorted(os.environ))"))
    assert outcome.stdout.decode().strip() == "['LC_ALL', 'PATH', 'SVT_LOG']"


async def test_files_cannot_grow_beyond_the_limit(tmp_path: Path) -> None:
    argv = python(f"open({str(tmp_path / 'f')!r}, 'wb').write(bytes(2 * {MIB}))")
    outcome = await outcome_of(argv, view=View(writes=(tmp_path,)))
    assert outcome.returncode == 1
    assert "File too large" in outcome.errors[-1]


async def test_memory_is_limited() -> None:
    outcome = await outcome_of(python(f"bytes(1024 * {MIB})"), replace(LIMITS, memory_bytes=512 * MIB))
    assert "MemoryError" in outcome.errors[-1]


async def test_processor_time_is_limited() -> None:
    outcome = await outcome_of(python("while True: pass"), replace(LIMITS, cpu_s=1))
    assert outcome.returncode in (-signal.SIGXCPU, -signal.SIGKILL)


async def test_priority_is_lowered() -> None:
    outcome = await outcome_of(python("import os; print(os.nice(0))"), replace(LIMITS, nice=7))
    assert int(outcome.stdout) == min(19, os.nice(0) + 7)


def autogroup_of(pid: int) -> str:
    path = Path(f"/proc/{pid}/autogroup")
    return path.read_text().strip() if path.exists() else ""


async def test_the_program_stands_back_where_niceness_alone_would_not_count() -> None:
    pids: asyncio.Queue[int] = asyncio.Queue()

    def line(text: str) -> bool:
        pids.put_nowait(int(text))
        return True

    argv, limits = python(RUN_FOREVER), replace(LIMITS, nice=9)
    task = asyncio.create_task(run(argv, cwd=Path("/"), limits=limits, timeout_s=PATIENCE_S, on_line=line))
    pid = await pids.get()
    try:
        assert os.sched_getscheduler(pid) == os.SCHED_BATCH
        assert psutil.Process(pid).ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
        group = autogroup_of(pid)
        if not group:
            pytest.skip("this kernel does not group tasks by session")
        assert group.split()[-1] == str(min(19, os.nice(0) + 9))
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_there_is_no_network() -> None:
    limits = replace(LIMITS, network="required", files="off", calls="off")
    outcome = await outcome_of(["/bin/cat", "/proc/self/net/dev"], limits)
    if outcome.returncode == 78:
        pytest.skip("this system does not permit network namespaces")
    interfaces = [line.split(":")[0].strip() for line in outcome.stdout.decode().splitlines()[2:]]
    assert interfaces == ["lo"]


async def test_a_program_that_does_not_exist_is_told() -> None:
    outcome = await outcome_of(["/nonexistent/ffmpeg"])
    assert outcome.returncode == 127
    assert "cannot execute" in outcome.errors[0]


async def test_a_program_that_takes_too_long_is_ended() -> None:
    before = children()
    with pytest.raises(ProgramTimeoutError) as caught:
        await outcome_of(python(RUN_FOREVER), timeout_s=0.3)
    assert not caught.value.stalled
    assert children() <= before


async def test_a_program_without_progress_is_ended() -> None:
    with pytest.raises(ProgramTimeoutError) as caught:
        await run(
            python(RUN_FOREVER),
            cwd=Path("/"),
            limits=LIMITS,
            timeout_s=PATIENCE_S,
            on_line=lambda line: False,
            stall_timeout_s=0.3,
        )
    assert caught.value.stalled


async def test_cancelling_ends_the_whole_group_even_if_it_ignores_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "KILL_AFTER_S", 0.1)
    pids: asyncio.Queue[int] = asyncio.Queue()

    def line(text: str) -> bool:
        pids.put_nowait(int(text))
        return True

    script = 'trap "" TERM; sleep 1000 & echo $!; echo $$; wait'
    argv = ["/bin/sh", "-c", script]
    limits = replace(LIMITS, calls="off")  # as where the kernel cannot refuse other processes
    task = asyncio.create_task(run(argv, cwd=Path("/"), limits=limits, timeout_s=PATIENCE_S, on_line=line))
    child, leader = await pids.get(), await pids.get()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # again, while it is ending
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wait_for_end(leader)
    assert wait_for_end(child)


def test_killing_this_process_kills_the_program(tmp_path: Path) -> None:
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from echo_transcode_ffmpeg.process import Limits, run\n"
        "limits = Limits(memory_bytes=1 << 31, cpu_s=60, file_bytes=1 << 20)\n"
        f"argv = [sys.executable, '-I', '-S', '-c', {RUN_FOREVER!r}]\n"
        "line = lambda text: print(text, flush=True) or True\n"
        "asyncio.run(run(argv, cwd=Path('/'), limits=limits, timeout_s=60, on_line=line))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, parent], stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        program = int(running.stdout.readline())
        running.kill()
        running.wait(PATIENCE_S)
        assert wait_for_end(program)
