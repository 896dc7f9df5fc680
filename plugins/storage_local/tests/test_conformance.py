"""The conformance kit on the real thing: a real folder behind a real server."""

from collections.abc import Callable

import pytest
from echo_storage_local.backend import LocalStorage

from echo_core.testing.manual_clock import ManualClock
from echo_core.testing.storage_kit import StorageTests


@pytest.mark.complaint(11)
class TestLocalStorage(StorageTests):
    @pytest.fixture
    def advance_clock(self, clock: ManualClock) -> Callable[[float], None]:
        return clock.advance

    @pytest.fixture
    def storage(self, served) -> LocalStorage:
        return served.storage
