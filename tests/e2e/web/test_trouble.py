"""A file that is no video, and a video that is deleted while Echo works on it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.api import Api
from tests.e2e.conftest import Clips, Instance, wait_for
from tests.e2e.web.browser import NOT_FOUND, expect_nothing_here, expect_status
from tests.e2e.web.conftest import SignUp

pytestmark = pytest.mark.e2e


def failed_at(api: Api, job_id: str) -> object:
    """When the job's failed step ended; None while there is none."""
    job = api.job(job_id)
    steps = cast("list[dict[str, object]]", job["steps"])
    return next((step["finishedAt"] for step in steps if step["state"] == "failed"), None)


def try_again(page: Page, api: Api, job_id: str) -> None:
    """Press the button in the page's alert, and wait until it has failed anew."""
    before = failed_at(api, job_id)
    page.get_by_role("alert").get_by_role("button", name="Try again").click()
    wait_for("it fails again", lambda: failed_at(api, job_id) not in {None, before})


@pytest.mark.complaint(5)
def test_file_that_is_no_video_says_why_and_what_to_do(sign_up: SignUp, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"This is not a video.\n" * 5000)
    ada = sign_up()
    page = ada.page
    ada.choose(broken)
    ada.upload_line(broken.name).get_by_role("link").click()
    expect_status(page, "Failed")
    api = ada.api()
    job_id = str(api.details(page.url[-36:])["job"]["jobId"])  # type: ignore[index]
    error = api.job(job_id)["error"]
    assert isinstance(error, dict)
    reason = page.get_by_role("alert")
    expect(reason).to_contain_text(error["message"])
    expect(reason).to_contain_text(error["remedy"])

    page.get_by_role("link", name="Every step").click()
    expect(page.get_by_role("heading", name="Processing", level=1)).to_be_visible()
    expect(reason).to_contain_text(error["message"])
    expect(reason).to_contain_text(error["remedy"])
    try_again(page, api, job_id)
    expect(reason).to_contain_text(error["message"])
    expect(page.locator('[data-step][data-state="failed"]')).to_have_count(1)

    page.go_back()
    try_again(page, api, job_id)
    expect_status(page, "Failed")
    expect(reason).to_contain_text(error["message"])
    expect(reason).to_contain_text(error["remedy"])
    expect(reason.get_by_role("button", name="Try again")).to_be_enabled()


@pytest.mark.complaint(7)
def test_deleting_stops_the_processing(sign_up: SignUp, clips: Clips, instance: Instance) -> None:
    ada = sign_up()
    ada.guard.allow(NOT_FOUND)
    page = ada.page
    ada.choose(clips.make("long.mp4", seconds=60, size="960x540"))
    wait_for("ffmpeg encodes", lambda: instance.find("ffmpeg", "libx264") is not None)
    video_id = ada.open_video("long")
    page.get_by_role("button", name="Delete this video").click()
    dialog = page.get_by_role("dialog", name="Delete this video?")
    expect(dialog).to_contain_text("long")
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Delete this video").click()
    dialog.get_by_role("button", name="Delete for ever").click()
    ada.expect_dashboard()
    expect(page.get_by_role("heading", name="Your first video")).to_be_visible()
    wait_for("no ffmpeg is left", lambda: instance.find("ffmpeg") is None, 8)  # encoding the rest would take longer
    page.goto(f"/video/{video_id}")
    expect_nothing_here(page)
