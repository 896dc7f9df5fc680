"""How much memory there is, by the machine and by cgroups."""

from __future__ import annotations

from pathlib import Path

import psutil

from echo_core.adapters.memory import read_memory

MIB = 1 << 20


def group(path: Path, *, limit: str, used: int, inactive: int = 0) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "memory.max").write_text(f"{limit}\n")
    (path / "memory.current").write_text(f"{used}\n")
    (path / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\nactive_file 5\n")


def own(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "cgroup"
    path.write_text(f"4:memory:/elsewhere\n0::{name}\n")
    return path


def test_the_tightest_group_around_us_counts(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root / "echo", limit=str(64 * MIB), used=40 * MIB, inactive=10 * MIB)
    group(root / "echo" / "worker", limit="max", used=30 * MIB)
    memory = read_memory(root, own(tmp_path, "/echo/worker"))
    assert memory.total_bytes == 64 * MIB
    assert memory.available_bytes == 34 * MIB


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    memory = read_memory(tmp_path / "none", own(tmp_path, "/"))
    assert memory.total_bytes == psutil.virtual_memory().total
    assert 0 < memory.available_bytes <= memory.total_bytes


def test_a_group_outside_of_our_view_is_not_looked_for(tmp_path: Path) -> None:
    group(tmp_path / "secret", limit=str(MIB), used=0)
    (tmp_path / "fs").mkdir()
    assert read_memory(tmp_path / "fs", own(tmp_path, "/../secret")).total_bytes > MIB
