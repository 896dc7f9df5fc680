"""Pages for everybody: watching and embedding without an account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.e2e.api import Api
from tests.e2e.conftest import Instance
from tests.e2e.web.browser import NOT_FOUND, expect_nothing_here
from tests.e2e.web.conftest import Visit

pytestmark = pytest.mark.e2e


def describe(api: Api, video_id: str, **changes: object) -> None:
    api.call("PUT", f"/api/v1/videos/{video_id}/metadata", expect=200, json=changes)


@pytest.fixture(scope="module")
def public_video(instance: Instance, short_clip: Path) -> Iterator[str]:
    api = instance.api("publisher@example.org")
    video_id, job_id = api.upload(short_clip)
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    describe(
        api,
        video_id,
        title="A week by the sea",
        description="Waves.\nAnd wind.",
        tags=["sea"],
        chapters=[{"startSeconds": 0, "title": "Arrival"}, {"startSeconds": 2, "title": "Storm"}],
        visibility="public",
    )
    yield video_id
    api.call("DELETE", f"/api/v1/videos/{video_id}", expect=204)


def test_anybody_watches_a_public_video(visit: Visit, public_video: str) -> None:
    guest = visit()
    page = guest.page
    page.goto(f"/watch/{public_video}")
    expect(page.get_by_role("heading", name="A week by the sea", level=1)).to_be_visible()
    expect(page).to_have_title("A week by the sea · Echo")
    expect(page.get_by_text("And wind.")).to_be_visible()
    chapters = page.get_by_role("navigation", name="Chapters").get_by_role("button")
    expect(chapters).to_have_count(2)
    expect(chapters.last).to_contain_text("0:02")
    expect(chapters.last).to_contain_text("Storm")
    expect(page.get_by_role("list", name="Tags")).to_contain_text("sea")
    page.get_by_role("button", name="Play", exact=True).first.click()
    page.wait_for_function("() => document.querySelector('video')?.currentTime > 0.5")
    assert not guest.context.cookies()


def test_public_video_plays_in_a_frame_of_another_site(visit: Visit, public_video: str, pages: str) -> None:
    guest = visit()
    guest.guard.origins.add(pages)
    guest.page.goto(f"{pages}/frame.html?{urlencode({'src': f'{guest.instance.url}/embed/{public_video}'})}")
    frame = guest.page.frame_locator("iframe")
    expect(frame.locator("video").first).to_be_visible()
    frame.get_by_role("button", name="Play", exact=True).first.click()
    inside = next(frame for frame in guest.page.frames if "/embed/" in frame.url)
    inside.wait_for_function("() => document.querySelector('video').currentTime > 0.5")


def test_watch_page_may_not_be_framed(visit: Visit, public_video: str, pages: str) -> None:
    guest = visit()
    guest.guard.origins.add(pages)
    guest.guard.allow(r"frame-ancestors|refused to (connect|display)")
    with guest.page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        guest.page.goto(f"{pages}/frame.html?{urlencode({'src': f'{guest.instance.url}/watch/{public_video}'})}")
    expect(guest.page.frame_locator("iframe").get_by_role("heading", name="A week by the sea")).to_have_count(0)


def test_private_video_is_nothing_to_others(visit: Visit, instance: Instance, public_video: str) -> None:
    api = instance.api("publisher@example.org")
    guest = visit()
    guest.guard.allow(NOT_FOUND)
    describe(api, public_video, visibility="private")
    try:
        guest.page.goto(f"/watch/{public_video}")
        expect_nothing_here(guest.page)
        assert "A week by the sea" not in guest.page.content()
        guest.page.goto(f"/embed/{public_video}")
        expect(guest.page.get_by_role("alert")).to_have_text("This video is not here, or is not shared.")
    finally:
        describe(api, public_video, visibility="public")
