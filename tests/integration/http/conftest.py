"""The API over a real PostgreSQL; storage and tokens stay in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import pytest

from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork, PostgresWorkerUnitsOfWork
from echo_core.domain.ids import StepId
from echo_core.plugin_api.events import Event
from echo_core.plugin_api.steps import Resource
from tests.fakes.api import SEAL, FakeApi


class Announced:
    """What was told after commits."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.rings: list[StepId] = []

    async def __call__(self, events: Sequence[Event], rings: Sequence[tuple[StepId, Resource]]) -> None:
        self.events += events
        self.rings += [step_id for step_id, _ in rings]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


@pytest.fixture
def announced() -> Announced:
    return Announced()


@pytest.fixture
async def api(database: Any, announced: Announced) -> AsyncIterator[FakeApi]:
    async with open_engine(database.api_url, pool_size=20) as engine:
        yield FakeApi(units_of_work=PostgresUserUnitsOfWork(engine, announced, SEAL))


@pytest.fixture
async def worker(database: Any, announced: Announced) -> AsyncIterator[PostgresWorkerUnitsOfWork]:
    async with open_engine(database.worker_url, pool_size=5) as engine:
        yield PostgresWorkerUnitsOfWork(engine, announced)


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.client() as client:
        yield client
