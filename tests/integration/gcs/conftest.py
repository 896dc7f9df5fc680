"""The fake of Google Cloud Storage, Google's own client of it, and a bare HTTP client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from google.cloud import storage
from google.oauth2 import service_account

from tests.fakes.gcs.server import FakeGcs, cors_for

BUCKET = "echo-videos"
ORIGIN = "https://echo.example"


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
def client(gcs: FakeGcs) -> Iterator[storage.Client]:
    credentials = service_account.Credentials.from_service_account_info(gcs.service_account_info())
    client = storage.Client(project=gcs.project, credentials=credentials, client_options={"api_endpoint": gcs.url})
    # Otherwise a thread asks for the bucket's place meanwhile, for traces, and takes faults that are meant for others.
    client._bucket_metadata_cache.update_cache(BUCKET, BUCKET, "global")
    yield client
    client.close()


@pytest.fixture
def bucket(client: storage.Client) -> storage.Bucket:
    return client.bucket(BUCKET)


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=30) as http:
        yield http


@pytest.fixture
def sign(gcs: FakeGcs, bucket: storage.Bucket) -> Any:
    """A V4 URL for the method and the object."""

    def sign(method: str, name: str, **options: Any) -> str:
        options = {"expiration": 600, **options}
        return bucket.blob(name).generate_signed_url(
            version="v4", method=method, api_access_endpoint=gcs.url, **options
        )

    return sign
