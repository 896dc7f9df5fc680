"""A file that is no video, and a video that is deleted while Echo works on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Clips, Instance, wait_for
from tests.e2e.web.browser import NOT_FOUND, expect_nothing_here, expect_status
from tests.e2e.web.conftest import SignUp

pytestmark = pytest.mark.e2e


def attempts(page: Page) -> int:
    """How often the failed step has run, as the job's page tells it."""
    step = page.locator('[data-step][data-state="failed"]')
    expect(step).to_have_count(1)
    told = step.inner_text()
    return int(told.partition("attempt ")[2][:2].strip(" ·\n") or 1)


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
    first = attempts(page)
    with page.expect_response("**/retry") as answer:
        reason.get_by_role("button", name="Try again").click()
    assert answer.value.ok
    page.wait_for_function(
        """(first) => {
          const step = document.querySelector('[data-step][data-state="failed"]');
          return Number(/attempt (\\d+)/.exec(step?.textContent ?? "")?.[1]) > first;
        }""",
        arg=first,
    )
    expect(reason).to_contain_text(error["message"])

    page.go_back()
    with page.expect_response("**/retry") as answer:
        reason.get_by_role("button", name="Try again").click()
    assert answer.value.ok
    expect_status(page, "Failed")
    expect(reason).to_contain_text(error["remedy"])


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
    wait_for("no ffmpeg is left", lambda: instance.find("ffmpeg") is None, 15)
    page.goto(f"/video/{video_id}")
    expect_nothing_here(page)
