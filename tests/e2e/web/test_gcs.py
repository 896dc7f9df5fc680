"""The web application with the videos in a bucket: another origin, its CORS, and what it forgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.e2e.conftest import BUCKET, Clips, Instance
from tests.e2e.web.browser import PATIENCE_MS, PROCESSED_MS, Guard, Person, throttle
from tests.e2e.web.test_first_video import test_sign_up_upload_play_and_describe  # noqa: F401 - on the instance below
from tests.e2e.web.test_uploads import padded
from tests.fakes.gcs.server import FakeGcs

pytestmark = pytest.mark.e2e


@pytest.fixture
def instance(gcs_instance: Instance, gcs: FakeGcs) -> Iterator[Instance]:
    """Whatever a journey broke of the bucket is mended after it."""
    yield gcs_instance
    gcs.faults.clear()


@pytest.fixture
def other_origins(gcs: FakeGcs) -> frozenset[str]:
    return frozenset({gcs.url})


@pytest.fixture
def long_clip(clips: Clips, short_clip: Path) -> Path:
    """Three chunks."""
    return padded(short_clip, clips.directory / "chunks.mp4", 20 << 20)


def test_upload_goes_straight_to_the_bucket_and_survives_its_moods(
    sign_up: Callable[..., Person], gcs: FakeGcs, long_clip: Path
) -> None:
    ada = sign_up()
    ada.guard.allow(r"Failed to load resource.*(503|ERR_EMPTY_RESPONSE|ERR_CONNECTION)|blocked by CORS policy")
    gcs.faults.add(method="PUT", path="upload_id", nth=1, keep_bytes=256 * 1024)
    gcs.faults.add(method="PUT", path="upload_id", nth=2, fail_after=256 * 1024)
    gcs.faults.add(method="PUT", path="upload_id", nth=4, drop_response=True)
    before = len(gcs.log)
    ada.choose(long_clip, button="Choose files")
    expect(ada.upload_line(long_clip.name)).to_contain_text("Uploaded", timeout=PROCESSED_MS)
    sent = sum(request.received for request in gcs.log[before:] if request.method == "PUT")
    assert sent >= long_clip.stat().st_size
    (stored,) = [one for name, one in gcs.objects(BUCKET).items() if name.endswith("/source/chunks.mp4")]
    assert stored.read() == long_clip.read_bytes()


def test_session_that_the_bucket_has_forgotten_is_begun_again_for_the_same_video(
    sign_up: Callable[..., Person], gcs: FakeGcs, long_clip: Path
) -> None:
    ada = sign_up()
    ada.guard.allow(r"Failed to load resource.*(404|410)|blocked by CORS policy")
    throttle(ada.devtools(), upload_bps=4_000_000)
    gcs.faults.add(method="PUT", path="upload_id", nth=2, session_gone=410)
    ada.choose(long_clip, button="Choose files")
    expect(ada.upload_line(long_clip.name)).to_contain_text("Uploaded", timeout=PROCESSED_MS)
    expect(ada.page.get_by_role("article")).to_have_count(1)
    begun = [url for url in ada.guard.urls if url.endswith("/signed-upload-url")]
    assert len(begun) == 1


def test_file_that_arrived_as_another_is_told_and_can_be_sent_again(
    sign_up: Callable[..., Person], gcs: FakeGcs, short_clip: Path
) -> None:
    """Whoever can write to the bucket cannot make Echo show another film."""
    ada = sign_up()
    ada.guard.allow(r"Failed to load resource.*409")
    page = ada.page

    def exchange(route: Route) -> None:
        name = str(route.request.post_data_json["storagePath"])
        gcs.put_object(BUCKET, name, b"another film, and shorter")
        route.continue_()

    page.route("**/upload-complete", exchange, times=1)
    ada.choose(short_clip, button="Choose files")
    line = ada.upload_line(short_clip.name)
    expect(line).to_contain_text("25 were stored", timeout=PROCESSED_MS)
    line.get_by_role("button", name=f"Try again: {short_clip.name}").click()
    expect(ada.badge("short")).to_have_text("Ready", timeout=PROCESSED_MS)
    expect(page.get_by_role("article")).to_have_count(1)


def test_bucket_that_lets_no_page_in_is_named_within_seconds(sign_up: Callable[..., Person], long_clip: Path) -> None:
    """Not a minute later, as a network that is unsteady."""
    ada = sign_up()
    ada.guard.allow(r"blocked by CORS policy|Failed to load resource|net::ERR_FAILED")

    def begin_for_no_page(route: Route) -> None:
        kept = ("authorization", "content-type", "idempotency-key")
        headers = {name: value for name, value in route.request.headers.items() if name in kept}  # and no Origin
        answer = httpx2.post(route.request.url, content=route.request.post_data_buffer or b"", headers=headers)
        route.fulfill(status=answer.status_code, body=answer.content, content_type="application/json")

    ada.page.route("**/signed-upload-url", begin_for_no_page)
    ada.choose(long_clip, button="Choose files")
    line = ada.upload_line(long_clip.name)
    expect(line).to_contain_text("CORS rules allow this page", timeout=PATIENCE_MS)


def test_bucket_that_hides_how_much_it_has_is_named_within_seconds(
    sign_up: Callable[..., Person], long_clip: Path
) -> None:
    """The rule that everybody forgets."""
    ada = sign_up()
    ada.page.route("**/*upload_id=*", lambda route: route.fulfill(status=308))
    ada.choose(long_clip, button="Choose files")
    line = ada.upload_line(long_clip.name)
    expect(line).to_contain_text("CORS rules expose the header Range", timeout=PATIENCE_MS)
