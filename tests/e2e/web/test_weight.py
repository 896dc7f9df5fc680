"""What the first look at the list costs."""

from __future__ import annotations

import pytest
from playwright.sync_api import Response, expect

from tests.e2e.web.conftest import SignUp, Visit

pytestmark = pytest.mark.e2e

MOST_SCRIPT_BYTES = 250_000


def test_first_load_transfers_little_script(sign_up: SignUp, visit: Visit) -> None:
    ada = sign_up()
    again = visit(storage_state=ada.context.storage_state())  # signed in, nothing in the cache
    scripts: list[Response] = []
    again.page.on(
        "response", lambda answer: scripts.append(answer) if answer.request.resource_type == "script" else None
    )
    again.page.goto("/dashboard")
    expect(again.page.get_by_role("heading", name="Your first video")).to_be_visible()
    expect(again.page.locator("[data-link]")).to_have_attribute("data-link", "live")
    again.page.wait_for_load_state("networkidle")
    sizes = {}
    for answer in scripts:
        size_bytes = int(answer.headers["content-length"])
        assert size_bytes < 1024 or answer.headers.get("content-encoding") in {"br", "gzip"}, answer.url
        sizes[answer.url.rpartition("/")[2]] = size_bytes
    assert any(name.startswith("index-") for name in sizes), sizes
    assert sum(sizes.values()) <= MOST_SCRIPT_BYTES, sizes
