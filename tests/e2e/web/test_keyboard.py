"""Everything by keyboard, and always visible where one is."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.web.browser import PASSWORD, PROCESSED_MS
from tests.e2e.web.conftest import Visit

pytestmark = pytest.mark.e2e

MOST_STOPS = 80

FOCUSED = """() => {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return null;
  const name = focused.getAttribute("aria-label") ?? focused.labels?.[0]?.textContent ?? focused.textContent;
  const outlined = (style) => style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) > 0;
  const shows = [
    [focused, null], [focused, "::after"], [focused.closest("label"), null], [focused.parentElement, null],
  ].some(([element, part]) => element && outlined(getComputedStyle(element, part)));
  return { name: name.trim(), tag: focused.localName, visible: focused.matches(":focus-visible") && shows };
}"""


def tab_to(page: Page, name: str, *, tag: str) -> None:
    """Press Tab until it is there; wherever one stops on the way, it must be seen."""
    passed = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        if stop is None:
            continue  # around the end of the page
        assert stop["visible"], stop
        if stop["name"].startswith(name) and stop["tag"] == tag:
            return
        passed.append(f"{stop['tag']} {stop['name'][:40]!r}")
    raise AssertionError(f"Tab never comes to {tag} {name!r}, only to {passed}")


def test_everything_by_keyboard(visit: Visit, short_clip: Path) -> None:
    ada = visit()
    page = ada.page
    page.on("filechooser", lambda _: None)  # from here on they are caught; switched on by the wait, Enter may be faster
    page.goto("/login")
    expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()
    tab_to(page, "Create an account", tag="a")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Create your account")).to_be_visible()
    tab_to(page, "E-mail address", tag="input")
    page.keyboard.type("keyboard@example.org")
    tab_to(page, "Password", tag="input")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    ada.expect_dashboard()

    tab_to(page, "Account", tag="button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Settings")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Sign out")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Account")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Settings")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()
    expect(page.get_by_role("menuitem", name="Settings")).to_be_hidden()
    tab_to(page, "As the system", tag="input")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Light")).to_be_checked()
    tab_to(page, "Echo, my videos", tag="a")
    page.keyboard.press("Enter")
    ada.expect_dashboard()

    tab_to(page, "Upload videos", tag="button")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([short_clip])
    expect(ada.badge("short")).to_have_text("Ready", timeout=PROCESSED_MS)

    tab_to(page, "short", tag="a")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="short", level=1)).to_be_visible()
    tab_to(page, "Title", tag="input")
    page.keyboard.press("Control+a")
    page.keyboard.type("By keyboard")
    tab_to(page, "Private", tag="input")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="Unlisted")).to_be_checked()
    tab_to(page, "Save", tag="button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="By keyboard", level=1)).to_be_visible()
    expect(page.get_by_text("All changes are saved.")).to_be_visible()
