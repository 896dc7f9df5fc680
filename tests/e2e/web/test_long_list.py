"""A thousand videos in one list."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect
from uuid_utils import uuid7

from tests.e2e.conftest import Instance
from tests.e2e.web.conftest import SignUp

pytestmark = pytest.mark.e2e

COUNT = 1000
FAILED = 7
MOST_ROWS = 60

SCROLL_ON = """() => {
  scrollBy(0, innerHeight * 3);
  return document.querySelectorAll("[data-video]").length;
}"""

MORE_OR_END = """(last) => scrollY + innerHeight < document.body.scrollHeight - 200 ||
  [...document.querySelectorAll("[data-video]")].some((row) => row.textContent.includes(last))"""


def insert_videos(instance: Instance, owner_id: str) -> None:
    """Rows as the list shows them, the first one the oldest; every so many one has failed."""
    url = json.loads((instance.data_dir / "run" / "instance.json").read_text())["database_url"]
    rows: list[tuple[Any, ...]] = [
        (str(uuid7()), owner_id, "failed" if number % (COUNT // FAILED) == 1 else "ready", f"Video number {number:04}")
        for number in range(COUNT)
    ]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into echo.videos (id, owner_id, status, title, filename, content_type) "
            "values (%s, %s, %s, %s, 'film.mp4', 'video/mp4')",
            sorted(rows),
        )


def rows(page: Page) -> int:
    return page.locator("[data-video]").count()


def test_thousand_videos_scroll_search_and_filter(sign_up: SignUp, instance: Instance) -> None:
    ada = sign_up()
    page = ada.page
    insert_videos(instance, ada.api().user_id)
    page.reload()
    expect(ada.row("Video number 0999")).to_be_visible()
    oldest = page.locator("[data-video]").filter(has_text="Video number 0000")
    most = 0
    for _ in range(COUNT):
        most = max(most, page.evaluate(SCROLL_ON))
        page.wait_for_function(MORE_OR_END, arg="Video number 0000")
        if oldest.count():
            break
    page.evaluate("() => scrollTo(0, document.body.scrollHeight)")
    expect(oldest).to_be_in_viewport()
    assert 0 < most < MOST_ROWS
    expect(page.locator("li[aria-posinset]").last).to_have_attribute("aria-setsize", str(COUNT))

    page.evaluate("() => scrollTo(0, 0)")
    page.get_by_label("Search my videos").fill("number 0123")
    expect(page.locator("[data-video]")).to_have_count(1)
    expect(ada.row("Video number 0123")).to_be_visible()
    page.get_by_label("Search my videos").fill("nothing of the kind")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.get_by_role("button", name="Clear the search").click()
    expect(ada.row("Video number 0999")).to_be_visible()
    page.get_by_role("combobox", name="Show").select_option("Failed")
    expect(page.locator("[data-video]")).to_have_count(FAILED + 1)
    page.reload()
    expect(page.locator("[data-video]")).to_have_count(FAILED + 1)
    assert rows(page) < MOST_ROWS
