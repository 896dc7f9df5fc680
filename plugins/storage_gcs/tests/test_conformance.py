"""The conformance kit on a bucket, through Google's own client."""

from collections.abc import Callable

import pytest

from echo_core.testing.manual_clock import ManualClock
from echo_core.testing.storage_kit import StorageTests
from tests.fakes.gcs.server import FakeGcs


@pytest.mark.complaint(11)
class TestGcsStorage(StorageTests):
    @pytest.fixture
    def advance_clock(self, gcs: FakeGcs, clock: ManualClock) -> Callable[[float], None]:
        def advance(seconds: float) -> None:
            gcs.advance(seconds)
            clock.advance(seconds)

        return advance

    @pytest.fixture
    def storage(self, storage):
        return storage
