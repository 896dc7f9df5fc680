"""What readiness says about an instance's storage."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from echo_core.application.health import run_checks
from echo_core.bootstrap import readiness_checks
from echo_core.plugin_api.storage import StorageUsage
from echo_core.testing.fake_storage import FakeStorage
from echo_core.testing.manual_clock import ManualClock


class Storage(FakeStorage):
    """A fake with as much room as a test says."""

    free_bytes: int | None = 0

    async def usage(self) -> StorageUsage:
        return StorageUsage(free_bytes=self.free_bytes, total_bytes=10)


@pytest.mark.parametrize(("free_bytes", "ok"), [(0, False), (1, True), (None, True)])
async def test_a_storage_with_only_its_reserve_left_is_told_and_serves_on(free_bytes: int | None, ok: bool) -> None:
    storage = Storage(clock=ManualClock())
    storage.free_bytes = free_bytes
    parts: Any = SimpleNamespace()
    checks = [c for c in readiness_checks(parts, parts, storage) if c.name.startswith("storage")]
    reached, room = await run_checks(checks)
    assert (reached.name, reached.ok, reached.required) == ("storage", True, True)
    assert (room.name, room.ok, room.required) == ("storage_room", ok, False)
    assert ok or "uploads are refused" in room.error
