"""Who goes first on a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from echo_core.adapters.priority import lower_priority
before = Path("/proc/self/autogroup").read_text() if Path("/proc/self/autogroup").exists() else ""
lower_priority(7)
print(os.nice(0))
print(before)
print(Path("/proc/self/autogroup").read_text() if before else "")
"""


def ask(*, new_session: bool) -> list[str]:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-I", "-S", "-c", ASK, root]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=new_session)
    return [line for line in done.stdout.splitlines() if line]


def test_a_worker_stands_back_with_its_whole_session() -> None:
    nice, *groups = ask(new_session=True)
    assert int(nice) == min(19, os.nice(0) + 7)
    if not groups:
        pytest.skip("this kernel does not group tasks by session")
    assert groups[-1].split()[-1] == nice


def test_a_session_that_is_somebody_elses_is_left_as_it_is() -> None:
    nice, *groups = ask(new_session=False)
    assert int(nice) == min(19, os.nice(0) + 7)
    assert groups[:1] == groups[1:]
