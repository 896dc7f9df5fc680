"""Dark and light, and the screen of a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.web.browser import NOT_FOUND, expect_nothing_here
from tests.e2e.web.conftest import SignUp, Visit

pytestmark = pytest.mark.e2e

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}

BRIGHTNESS = """() => {
  const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number);
  return (r + g + b) / 765;
}"""

NOTE_THE_THEME = """
window.themes = [];
new MutationObserver(() => {
  const theme = document.documentElement?.dataset.theme;
  if (theme && !window.themes.length) window.themes.push({ theme, at: performance.now() });
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-theme"] });
"""


def is_dark(page: Page) -> bool:
    brightness: float = page.evaluate(BRIGHTNESS)
    return brightness < 0.3


def test_dark_is_what_the_system_says_until_somebody_chooses(sign_up: SignUp) -> None:
    ada = sign_up(color_scheme="dark")
    page = ada.page
    assert is_dark(page)
    page.emulate_media(color_scheme="light")
    assert not is_dark(page)

    page.goto("/settings")
    page.get_by_text("Dark", exact=True).click()
    expect(page.get_by_role("radio", name="Dark")).to_be_checked()
    assert is_dark(page)
    page.add_init_script(NOTE_THE_THEME)
    page.reload()
    expect(page.get_by_role("radio", name="Dark")).to_be_checked()
    assert is_dark(page)
    noted = page.evaluate("() => window.themes")
    painted = page.evaluate("() => performance.getEntriesByName('first-paint')[0].startTime")
    assert [one["theme"] for one in noted] == ["dark"]
    assert noted[0]["at"] < painted

    page.get_by_text("As the system", exact=True).click()
    page.reload()
    expect(page.get_by_role("radio", name="As the system")).to_be_checked()
    assert not is_dark(page)
    page.emulate_media(color_scheme="dark")
    assert is_dark(page)


def expect_no_sideways_scrolling(page: Page) -> None:
    expect(page.get_by_role("heading", level=1).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
          .filter((element) => element.getBoundingClientRect().right > 391 && !element.closest(".overflow-x-auto"))
          .map((element) => element.outerHTML.slice(0, 120))"""
    )
    assert page.evaluate("() => document.scrollingElement.scrollWidth") <= 390, (page.url, wide)
    assert page.evaluate("() => innerWidth") <= 390, (page.url, wide)


def test_every_page_fits_a_phone(sign_up: SignUp, visit: Visit, short_clip: Path) -> None:
    guest = visit(**PHONE)
    for path in ("/login", "/signup"):
        guest.page.goto(path)
        expect_no_sideways_scrolling(guest.page)

    ada = sign_up(**PHONE)
    ada.guard.allow(NOT_FOUND)
    page = ada.page
    expect_no_sideways_scrolling(page)
    api = ada.api()
    video_id, job_id = api.upload(short_clip, filename="a-very-long-name-without-any-space-as-cameras-give-them-0001.mp4")
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    api.call("PUT", f"/api/v1/videos/{video_id}/metadata", expect=200, json={"visibility": "public", "title": "W" * 60})
    for path in ("/dashboard", f"/video/{video_id}", f"/jobs/{job_id}", "/settings", f"/watch/{video_id}"):
        page.goto(path)
        expect_no_sideways_scrolling(page)
    page.goto("/video/nothing")
    expect_nothing_here(page)
    expect_no_sideways_scrolling(page)

    page.goto("/dashboard")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload videos").tap()
    chooser.value.set_files([short_clip])
    expect(ada.upload_line(short_clip.name)).to_contain_text("Uploaded")
    expect_no_sideways_scrolling(page)
    page.get_by_role("button", name="Account").tap()
    for entry in ("Settings", "Sign out"):
        expect(page.get_by_role("menuitem", name=entry)).to_be_in_viewport(ratio=1)
    expect_no_sideways_scrolling(page)
    page.get_by_role("menuitem", name="Settings").tap()
    expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()
