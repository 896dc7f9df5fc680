"""The log file of a child."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from echo_core.adapters.embedded import child
from echo_core.adapters.embedded.child import Child, Command

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("relayed", [True, False])
async def test_log_of_a_child_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relayed: bool
) -> None:
    monkeypatch.setattr(child, "MAX_LOG_BYTES", 50_000)
    told: list[str] = []
    command = Command(
        name="talker",
        argv=[sys.executable, "-c", "for n in range(2000): print(f'{n:099}')"],
        env=dict(os.environ),
        log=tmp_path / "talker.log",
        relay=told.append if relayed else None,
    )
    for _ in range(2):
        running = await Child.spawn(command)
        assert await running.wait() == 0
        await running.kill()
        assert running.tail.splitlines()[-1].endswith("1999")
    assert sorted(os.listdir(tmp_path)) == ["talker.log", "talker.log.1"]  # noqa: PTH208 - async code, no pathlib
    if relayed:
        assert len(told) == 4000
        assert command.log.stat().st_size < 50_000 + child.LINE_BYTES
    else:
        # What writes into the file itself cannot be told to go on elsewhere: each start begins anew.
        assert command.log.stat().st_size == 2000 * 100
