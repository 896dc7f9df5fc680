"""Object notifications: hints from Pub/Sub, and from nobody else."""

import base64
import json
from contextlib import asynccontextmanager
from typing import Any

import pytest
from echo_storage_gcs.notifications import make_routes, stored_object
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from echo_core.plugin_api import UnavailableError
from tests.fakes.gcs.server import FakeGcs

from .conftest import BUCKET

URL = "https://echo.example/plugins/storage_gcs/notifications"
KEY = "videos/018f/source/film.mp4"


class Hints:
    def __init__(self) -> None:
        self.keys: list[str] = []
        self.away = False

    async def object_stored(self, key: str) -> None:
        if self.away:
            raise UnavailableError("The database is away.")
        self.keys.append(key)


@pytest.fixture
def hints() -> Hints:
    return Hints()


@pytest.fixture
def receive(open_storage, gcs: FakeGcs, hints: Hints):
    """``receive(push)`` gives the status; ``receive(push, configured=False)`` where no notifications are wanted."""

    def receive(push: Any, *, configured: bool = True, headers: dict[str, str] | None = None, body: bytes = b"") -> int:
        wanted = {
            "audience": URL,
            "service_account": "push@echo-test.iam.gserviceaccount.com",
            "certs_url": f"{gcs.url}/oauth2/v1/certs",
        }

        @asynccontextmanager
        async def lifespan(app: Starlette):
            async with open_storage(notifications=wanted if configured else {}) as storage:
                yield {"storage": storage, "upload_hints": hints}

        async def unavailable(request: Request, error: Exception) -> Response:
            return Response(status_code=503)

        handlers = {UnavailableError: unavailable}  # as the kernel does
        with TestClient(Starlette(routes=make_routes(), lifespan=lifespan, exception_handlers=handlers)) as client:
            return client.post(
                "/notifications",
                content=body or push.body,
                headers=push.headers if headers is None else headers,
            ).status_code

    return receive


@pytest.fixture
def push(gcs: FakeGcs):
    return lambda **options: gcs.push_notification(
        URL, BUCKET, KEY, **({"email": "push@echo-test.iam.gserviceaccount.com"} | options)
    )


def test_pub_sub_is_believed_to_hint(receive, push, hints: Hints) -> None:
    assert receive(push()) == 204
    assert hints.keys == [KEY]


@pytest.mark.parametrize(
    "wrong",
    [
        {"audience": "https://other.example"},
        {"email": "stranger@echo-test.iam.gserviceaccount.com"},
        {"email_verified": False},
        {"expired": True},
        {"other_key": True},
        {"claims": {"iss": "https://evil.example"}},
    ],
)
def test_nobody_else_is(receive, push, hints: Hints, wrong: dict[str, Any]) -> None:
    assert receive(push(**wrong)) == 401
    assert hints.keys == []


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer"}, {"authorization": "Bearer x.y.z"}, {"authorization": "Basic eDp5"}]
)
def test_nor_is_one_without_a_token(receive, push, hints: Hints, headers: dict[str, str]) -> None:
    assert receive(push(), headers=headers) == 401
    assert hints.keys == []


def test_without_configuration_there_is_no_such_thing(receive, push, hints: Hints) -> None:
    assert receive(push(), configured=False) == 404
    assert hints.keys == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"message": 1}', b'{"message": {"data": "%%%"}}'])
def test_what_is_not_understood_is_taken_or_it_would_come_again(receive, push, hints: Hints, body: bytes) -> None:
    assert receive(push(), body=body) == 204
    assert hints.keys == []


def test_other_news_is_no_news(receive, push, gcs: FakeGcs, hints: Hints) -> None:
    assert receive(push(event_type="OBJECT_DELETE")) == 204
    gcs.create_bucket("another")
    other = gcs.push_notification(URL, "another", KEY, email="push@echo-test.iam.gserviceaccount.com")
    assert receive(other) == 204
    assert hints.keys == []


def test_pub_sub_says_it_again_while_the_database_is_away(receive, push, hints: Hints) -> None:
    hints.away = True
    assert receive(push()) == 503


def test_keys_that_cannot_be_had_are_no_refusal(receive, push, gcs: FakeGcs) -> None:
    gcs.faults.add(path="/oauth2/v1/certs", status=503, times=100)
    assert receive(push()) == 503


def test_what_google_says_instead_of_keys_is_no_refusal(receive, push, gcs: FakeGcs) -> None:
    gcs.faults.add(path="/oauth2/v1/certs", status=200, body=["no", "keys"], times=100)
    assert receive(push()) == 503


def test_strangers_make_nobody_ask_google(receive, push, gcs: FakeGcs) -> None:
    for wrong in ({"audience": "https://other.example"}, {"email": "stranger@echo-test.iam.gserviceaccount.com"}):
        assert receive(push(**wrong)) == 401
    assert [r for r in gcs.log if r.path == "/oauth2/v1/certs"] == []


def test_notification_without_attributes() -> None:
    data = base64.b64encode(json.dumps({"bucket": BUCKET, "name": KEY}).encode()).decode()
    assert stored_object(json.dumps({"message": {"data": data}}).encode(), BUCKET) == KEY
