"""Scratch directories of workers that live, died, or start at the same moment."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from echo_core.adapters.scratch import sweep, worker_scratch


def test_directory_is_the_worker_s_own_and_goes_with_it(tmp_path: Path) -> None:
    with worker_scratch(tmp_path) as (name, directory):
        assert directory.name == name
        (directory / "source").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_directory_of_a_killed_worker_is_swept_and_that_of_a_living_one_kept(tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    dead.mkdir()
    (tmp_path / "dead.lock").touch()
    with worker_scratch(tmp_path) as (_, living):
        sweep(tmp_path)
        assert not dead.exists()
        assert living.is_dir()
        assert len(list(tmp_path.iterdir())) == 2


def test_worker_whose_lock_is_swept_while_it_starts_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_flock = fcntl.flock
    swept: list[Path] = []

    def sweeper_was_faster(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not swept:
            swept.extend(tmp_path.glob("*.lock"))
            swept[0].unlink()
        real_flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", sweeper_was_faster)
    with worker_scratch(tmp_path) as (_, living):
        assert swept
        sweep(tmp_path)
        assert living.is_dir()
        assert living.with_name(f"{living.name}.lock").exists()


def test_two_workers_may_sweep_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dead.lock").touch()
    real_open = os.open

    def other_was_faster(path: Path, flags: int) -> int:
        Path(path).unlink()
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", other_was_faster)
    sweep(tmp_path)
