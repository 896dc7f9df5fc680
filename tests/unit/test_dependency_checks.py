"""What the doctor hears of a storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from echo_core.adapters import dependency_checks
from echo_core.adapters.dependency_checks import check_storage
from echo_core.plugin_api import AuthError, StorageFinding, UnavailableError
from echo_core.testing.fake_storage import FakeStorage


class Examined(FakeStorage):
    """Finds ``findings`` of its setup, or fails."""

    findings: Sequence[StorageFinding] = ()
    away: Exception | None = None
    trouble: Exception | None = None

    async def check(self) -> None:
        if self.away is not None:
            raise self.away

    async def examine(self) -> Sequence[StorageFinding]:
        if self.trouble is not None:
            raise self.trouble
        return self.findings

    @asynccontextmanager
    async def open_storage(self) -> AsyncIterator[FakeStorage]:
        """As a registry does."""
        yield self


async def told(storage: Examined) -> dict[str, tuple[bool | None, str, str]]:
    return {check.name: (check.ok, check.detail, check.remedy) for check in await check_storage(storage, "fake")}


async def test_each_finding_is_told_as_it_is() -> None:
    storage = Examined()
    storage.findings = [
        StorageFinding(name="permissions", ok=True, detail="all"),
        StorageFinding(name="cors", ok=False, detail="none", remedy="Run the setup."),
        StorageFinding(name="lifecycle", ok=True, known=False, detail="it may not be read", remedy="Allow it."),
    ]
    found = await told(storage)
    assert list(found) == ["storage", "storage permissions", "storage cors", "storage lifecycle"]
    assert found["storage"][0] is True
    assert found["storage permissions"] == (True, "all", "")
    assert found["storage cors"] == (False, "none", "Run the setup.")
    assert found["storage lifecycle"] == (None, "it may not be read", "Allow it.")


async def test_storage_that_has_nothing_to_tell_is_one_check() -> None:
    assert list(await told(Examined())) == ["storage"]


async def test_storage_that_is_away_is_not_examined() -> None:
    storage = Examined()
    storage.away = UnavailableError("It does not answer.", remedy="Start it.")
    storage.trouble = AssertionError("it was")
    assert await told(storage) == {"storage": (False, "It does not answer.", "Start it.")}


@pytest.mark.parametrize(
    ("trouble", "detail", "remedy"),
    [
        (AuthError("It lets nobody in.", remedy="Ask."), "It lets nobody in.", "Ask."),
        (TimeoutError(), f"No answer within {dependency_checks.TIMEOUT_S:g} s.", "restart"),
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops", "defect"),
    ],
)
async def test_examination_that_fails_is_told_like_any_other_check(
    trouble: Exception, detail: str, remedy: str
) -> None:
    storage = Examined()
    storage.trouble = trouble
    ok, told_detail, told_remedy = (await told(storage))["storage setup"]
    assert (ok, told_detail) == (False, detail)
    assert remedy in told_remedy
