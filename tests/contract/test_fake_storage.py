"""The fake storage keeps the rules it stands in for."""

from collections.abc import AsyncIterator, Callable

import pytest

from echo_core.testing.fake_storage import FakeStorage, serve_fake_storage
from echo_core.testing.manual_clock import ManualClock
from echo_core.testing.storage_kit import StorageTests


@pytest.mark.complaint(11)
class TestFakeStorage(StorageTests):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def advance_clock(self, clock: ManualClock) -> Callable[[float], None]:
        return clock.advance

    @pytest.fixture
    async def storage(self, clock: ManualClock) -> AsyncIterator[FakeStorage]:
        async with serve_fake_storage(clock=clock) as storage:
            yield storage
