"""What watches over every journey notices what no journey may cause."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.web.conftest import Visit

pytestmark = pytest.mark.e2e

ELSEWHERE = "http://127.0.0.2:9"


@pytest.mark.parametrize(
    ("mischief", "told"),
    [
        ("() => console.error('out of order')", "out of order"),
        ("() => setTimeout(() => { throw new Error('uncaught of ours') })", "uncaught of ours"),
        ("() => setTimeout(() => Promise.reject(new Error('refused of ours')))", "refused of ours"),
        ("() => document.body.setAttribute('style', 'color: red')", "Content-Security-Policy: style-src-attr"),
        (f"() => {{ new Image().src = '{ELSEWHERE}/pixel' }}", "Content-Security-Policy: img-src"),
        (f"() => {{ open('{ELSEWHERE}/') }}", f"asked another host: {ELSEWHERE}/"),
    ],
    ids=["error", "exception", "rejection", "style", "picture", "window"],
)
def test_guard_notices(visit: Visit, mischief: str, told: str) -> None:
    guest = visit()
    guest.page.goto("/login")
    expect(guest.page.get_by_role("heading", name="Welcome back")).to_be_visible()
    guest.guard.check()
    guest.page.evaluate(mischief)
    for _ in range(100):
        if any(told in fault for fault in guest.guard.faults):
            break
        guest.page.wait_for_timeout(20)
    with pytest.raises(AssertionError, match=told):
        guest.guard.check()
    guest.guard.allow("")
    guest.guard.check()
