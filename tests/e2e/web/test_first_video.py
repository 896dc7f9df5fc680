"""The first visit: sign up, upload, watch, describe."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.web.browser import PROCESSED_MS, expect_status
from tests.e2e.web.conftest import SignUp

pytestmark = pytest.mark.e2e

RECORD = """() => {
  window.seen = { percents: [], statuses: [] };
  const keep = (list, told) => told && list.at(-1) !== told && list.push(told);
  new MutationObserver(() => {
    const row = document.querySelector("[data-video]");
    keep(window.seen.percents, row?.querySelector("[role=progressbar]")?.getAttribute("aria-valuenow"));
    keep(window.seen.statuses, row?.lastElementChild?.textContent);
  }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
}"""
"""Lost when the page is loaded again."""


@pytest.mark.complaint(4)
def test_sign_up_upload_play_and_describe(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    page = ada.page
    page.evaluate(RECORD)
    ada.choose(short_clip, button="Choose files")
    expect(ada.upload_line(short_clip.name)).to_contain_text("Uploaded")
    expect(ada.badge("short")).to_have_text("Ready", timeout=PROCESSED_MS)
    seen = page.evaluate("() => window.seen")
    assert len(set(seen["percents"])) > 2, seen
    assert seen["statuses"].index("Processing") < seen["statuses"].index("Ready"), seen

    ada.open_video("short")
    page.get_by_role("button", name="Play", exact=True).first.click()
    page.wait_for_function("() => document.querySelector('video')?.currentTime > 1")

    page.get_by_label("Title", exact=True).fill("Second thoughts")
    page.get_by_label("Description").fill("Colours that move.\nAnd a tone.")
    page.get_by_label("Tags").fill("test, pattern")
    page.get_by_label("Tags").press("Enter")
    page.get_by_role("radio", name="Unlisted").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("All changes are saved.")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Second thoughts", level=1)).to_be_visible()
    expect(page.get_by_label("Title", exact=True)).to_have_value("Second thoughts")
    expect(page.get_by_label("Description")).to_have_value("Colours that move.\nAnd a tone.")
    expect(page.get_by_role("button", name="Remove the tag test")).to_be_visible()
    expect(page.get_by_role("button", name="Remove the tag pattern")).to_be_visible()
    expect(page.get_by_role("radio", name="Unlisted")).to_be_checked()
    expect(page.get_by_text("What you typed last time is back.")).to_be_hidden()
    expect(page.get_by_label("Link", exact=True)).to_have_value(f"{ada.instance.url}/watch/{page.url[-36:]}")
    expect_status(page, "Ready")
