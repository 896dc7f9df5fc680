"""A bucket of the fake, opened by the plugin as an instance would."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from echo_storage_gcs.backend import GcsStorage, open_gcs_storage
from echo_storage_gcs.config import GcsConfig

from echo_core.plugin_api import PluginContext
from echo_core.testing.manual_clock import ManualClock
from tests.fakes.gcs.server import FakeGcs, cors_for

BUCKET = "echo-videos"
ORIGIN = "https://echo.example"


def make_context(gcs: FakeGcs, clock: ManualClock, data_dir: Path, **config: Any) -> PluginContext:
    given = {"credentials": json.dumps(gcs.service_account_info()), "endpoint": gcs.url, "iam_endpoint": gcs.url}
    return context_of(clock, data_dir, **(given | config))


def context_of(clock: ManualClock, data_dir: Path, **config: Any) -> PluginContext:
    return PluginContext(
        plugin="storage_gcs",
        config=GcsConfig.model_validate({"bucket": BUCKET} | config),
        data_dir=data_dir,
        routes_url="http://127.0.0.1:1/plugins/storage_gcs",
        clock=clock,
        derive_key=lambda label: hashlib.sha256(f"test:{label}".encode()).digest(),
        page_origins=(ORIGIN,),
    )


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    with FakeGcs.serve(tmp_path_factory.mktemp("gcs")) as gcs:
        gcs.create_bucket(BUCKET, cors=cors_for(ORIGIN))
        yield gcs


@pytest.fixture
def gcs(serving: FakeGcs) -> FakeGcs:
    serving.reset()
    return serving


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def open_storage(
    gcs: FakeGcs, clock: ManualClock, tmp_path: Path
) -> Callable[..., AbstractAsyncContextManager[GcsStorage]]:
    """``async with open_storage(**config)``."""
    return lambda **config: open_gcs_storage(make_context(gcs, clock, tmp_path, **config))


@pytest.fixture
async def storage(open_storage: Callable[..., AbstractAsyncContextManager[GcsStorage]]) -> AsyncIterator[GcsStorage]:
    async with open_storage() as storage:
        yield storage
