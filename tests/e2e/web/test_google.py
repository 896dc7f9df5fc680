"""Signing in with Google, as a person does it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.e2e.web.browser import Person
from tests.e2e.web.conftest import Visit
from tests.fakes.openid_provider import OpenIdProvider

pytestmark = pytest.mark.e2e


@pytest.fixture
def guest(visit: Visit, google: OpenIdProvider) -> Iterator[Person]:
    person = visit()
    person.guard.origins.add(google.issuer)
    yield person
    google.refuses = ""


def test_google_leads_to_the_page_that_was_asked_for(guest: Person, google: OpenIdProvider) -> None:
    google.consents("2001", "grace@example.org")
    page = guest.page
    page.goto("/settings")
    page.get_by_role("button", name="Continue with Google").click()
    expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()
    expect(page.get_by_text("grace@example.org")).to_be_visible()
    assert page.url == f"{guest.instance.url}/settings"
    expect(page.get_by_label("New password")).to_have_count(0)  # she has none
    page.reload()
    expect(page.get_by_text("grace@example.org")).to_be_visible()


def test_refusing_at_google_is_told_and_can_be_done_again(guest: Person, google: OpenIdProvider) -> None:
    google.consents("2002", "alan@example.org")
    google.refuses = "access_denied"
    page = guest.page
    page.goto("/login")
    page.get_by_role("button", name="Continue with Google").click()
    expect(page.get_by_role("heading", name="Signing in did not succeed")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("Signing in was cancelled.")
    google.refuses = ""
    page.get_by_role("link", name="Back to signing in").click()
    page.get_by_role("button", name="Continue with Google").click()
    guest.expect_dashboard()


def test_a_callback_that_was_begun_elsewhere_signs_nobody_in(guest: Person) -> None:
    guest.page.goto("/auth/v1/callback?state=somebody-elses&code=somebody-elses")
    expect(guest.page.get_by_role("alert")).to_contain_text("begun in another browser")
    guest.page.goto("/dashboard")
    expect(guest.page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
