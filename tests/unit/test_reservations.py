"""Reservations of scratch disk and memory, over the workers of one machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from echo_core.adapters import reservations
from echo_core.adapters.memory import Memory
from echo_core.adapters.reservations import FORGET_WAITING_S, PATIENCE_S, FileReservations, resident_below
from echo_core.adapters.scratch import worker_scratch
from echo_core.application.admission import ASK_AGAIN_S, Prospect, Room, Shortage
from echo_core.plugin_api.needs import Needs

GIB = 1 << 30
MACHINE = Memory(total_bytes=8 * GIB, available_bytes=6 * GIB)

Worker = Callable[[], tuple[FileReservations, Path]]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(tmp_path: Path, clock: Clock) -> Iterator[Worker]:
    """Starts workers that share one scratch root; all end with the test."""
    with ExitStack() as stack:

        def start() -> tuple[FileReservations, Path]:
            _, directory = stack.enter_context(worker_scratch(tmp_path / "scratch"))
            return (
                FileReservations(
                    directory,
                    scratch_reserve_bytes=0,
                    memory_reserve_bytes=GIB,
                    memory=lambda: MACHINE,
                    resident=lambda pid: 0,
                    clock=clock,
                ),
                directory,
            )

        yield start


def memory(gib: float) -> Needs:
    return Needs(memory_bytes=int(gib * GIB))


def scratch_share(tmp_path: Path, share: float) -> Needs:
    return Needs(scratch_bytes=int(shutil.disk_usage(tmp_path).free * share))


async def prospect(reservations: FileReservations, name: str, needs: Needs) -> Prospect | None:
    shortage = await reservations.reserve(name, needs, claimant=name)
    return shortage.prospect if shortage else None


async def test_two_that_fit_alone_are_not_both_let_in(worker: Worker) -> None:
    one, _ = worker()
    assert await prospect(one, "a", memory(3)) is None
    assert await prospect(one, "b", memory(3)) is Prospect.WAIT
    await one.release("a")
    assert await prospect(one, "b", memory(3)) is None


async def test_workers_of_a_machine_share_what_there_is(worker: Worker, tmp_path: Path) -> None:
    (one, _), (two, _) = worker(), worker()
    assert await prospect(one, "a", scratch_share(tmp_path, 0.6)) is None
    assert await prospect(two, "b", scratch_share(tmp_path, 0.6)) is Prospect.WAIT
    await one.release("a")
    assert await prospect(two, "b", scratch_share(tmp_path, 0.6)) is None


async def test_what_a_killed_worker_had_reserved_is_free_again(worker: Worker, tmp_path: Path) -> None:
    one, _ = worker()
    with worker_scratch(tmp_path / "scratch") as (_, directory):
        killed = FileReservations(
            directory, scratch_reserve_bytes=0, memory_reserve_bytes=0, memory=lambda: MACHINE, resident=lambda pid: 0
        )
        assert await prospect(killed, "a", memory(5)) is None
        assert await prospect(one, "b", memory(3)) is Prospect.WAIT
        left = (directory.with_name(f"{directory.name}.held")).read_text()
    # As a kill leaves it: the file is there, and nobody holds the lock.
    directory.with_name(f"{directory.name}.held").write_text(left)
    directory.with_name(f"{directory.name}.lock").touch()
    assert await prospect(one, "b", memory(3)) is None
    with worker_scratch(tmp_path / "scratch"):
        assert not directory.with_name(f"{directory.name}.held").exists()


async def test_more_than_there_is_in_all_never_fits_and_says_the_numbers(worker: Worker) -> None:
    one, _ = worker()
    shortage = await one.reserve("a", memory(7.5), claimant="a")
    assert shortage == Shortage(
        room=Room.MEMORY,
        prospect=Prospect.NEVER,
        needed_bytes=int(7.5 * GIB),
        free_bytes=5 * GIB,
        total_bytes=7 * GIB,
    )
    error = shortage.error
    assert error.code == "memory_too_small"
    assert not error.retryable
    assert "7.5 GiB" in error.message
    assert "7.0 GiB" in error.message
    assert error.remedy


async def test_what_others_than_steps_take_is_no_reason_to_wait(worker: Worker) -> None:
    one, _ = worker()
    shortage = await one.reserve("a", memory(6), claimant="a")
    assert shortage is not None
    assert shortage.prospect is Prospect.SHORT
    assert shortage.error.code == "insufficient_memory"
    assert shortage.error.retryable


async def test_what_a_run_has_written_is_not_subtracted_twice(worker: Worker) -> None:
    one, directory = worker()
    facts = os.statvfs(directory)
    free = facts.f_bavail * facts.f_frsize
    written = 32 << 20
    run = directory / "a"
    run.mkdir()
    promised = free // 2
    assert await prospect(one, "a", Needs(scratch_bytes=promised)) is None
    (run / "output").write_bytes(b"x" * written)
    shortage = await one.reserve("b", Needs(scratch_bytes=free), claimant="b")
    assert shortage is not None
    # Others use this disk as well, so only about: without the subtraction it would be 32 MiB less.
    now = os.statvfs(directory)
    assert abs(shortage.free_bytes - (now.f_bavail * now.f_frsize - promised + written)) < written // 2


async def test_what_a_worker_has_started_uses_is_not_subtracted_twice(tmp_path: Path) -> None:
    with worker_scratch(tmp_path / "scratch") as (_, directory):
        one = FileReservations(
            directory,
            scratch_reserve_bytes=0,
            memory_reserve_bytes=0,
            memory=lambda: MACHINE,
            resident=lambda pid: 2 * GIB if pid == os.getpid() else 0,
        )
        assert await prospect(one, "a", memory(3)) is None
        shortage = await one.reserve("b", memory(7), claimant="b")
    assert shortage is not None
    assert shortage.free_bytes == 5 * GIB  # 6 are free, and of the 3 promised 2 are in use


def test_memory_of_children_is_seen() -> None:
    ask = "import sys; held = b'x' * (50 << 20); print(len(held), flush=True); sys.stdin.read()"
    before = resident_below(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert resident_below(os.getpid()) - before > 20 << 20
        child.communicate()


async def test_who_waits_for_long_is_not_overtaken_for_ever(worker: Worker, clock: Clock) -> None:
    (one, _), (two, _) = worker(), worker()
    assert await prospect(one, "small-1", memory(1)) is None
    assert await prospect(one, "large", memory(4.5)) is Prospect.WAIT
    assert await prospect(two, "small-2", memory(1)) is None
    for _ in range(4):
        clock.now += PATIENCE_S / 4
        assert await prospect(one, "large", memory(4.5)) is Prospect.WAIT
    assert await prospect(two, "small-3", memory(1)) is Prospect.WAIT
    await one.release("small-1")
    await two.release("small-2")
    assert await prospect(two, "large", memory(4.5)) is None


async def test_who_asks_no_more_keeps_nobody_waiting(worker: Worker, clock: Clock) -> None:
    one, _ = worker()
    assert await prospect(one, "small-1", memory(1)) is None
    for _ in range(5):
        assert await prospect(one, "large", memory(4.5)) is Prospect.WAIT
        clock.now += PATIENCE_S / 4
    assert await prospect(one, "small-2", memory(1)) is Prospect.WAIT
    for _ in range(int(FORGET_WAITING_S / ASK_AGAIN_S)):
        clock.now += ASK_AGAIN_S
        answer = await prospect(one, "small-2", memory(1))
    assert answer is None


async def test_who_could_not_ask_while_every_slot_was_taken_still_has_its_patience(
    worker: Worker, clock: Clock
) -> None:
    one, _ = worker()
    assert await prospect(one, "small-1", memory(1)) is None
    assert await prospect(one, "large", memory(4.5)) is Prospect.WAIT
    clock.now += 2 * PATIENCE_S
    await one.release("small-1")
    assert await prospect(one, "small-2", memory(1)) is Prospect.WAIT
    assert await prospect(one, "large", memory(4.5)) is None


async def test_a_file_that_makes_no_sense_promises_nothing(worker: Worker) -> None:
    (one, _), (_, directory) = worker(), worker()
    directory.with_name(f"{directory.name}.held").write_text("{")
    assert await prospect(one, "a", memory(4)) is None


async def test_a_frozen_holder_of_the_lock_keeps_nobody_from_working(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "LOCK_PATIENCE_S", 0.05)
    one, _ = worker()
    with (tmp_path / "scratch" / reservations.LEDGER).open("w") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        assert await one.reserve("run", memory(1), claimant="a") is None
        await one.release("run")
    two, _ = worker()
    assert await two.reserve("run", memory(4), claimant="b") is None
