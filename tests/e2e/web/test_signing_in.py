"""Signing in leads to where somebody wanted to go, on this site, and out again when the session is no more."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.e2e.web.browser import PASSWORD
from tests.e2e.web.conftest import SignUp, Visit

pytestmark = pytest.mark.e2e

ELSEWHERE = ["https://evil.example/", "//evil.example/", "/%09/evil.example", "/\\\\evil.example"]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_nobody_is_sent_to_another_site(sign_up: SignUp, visit: Visit, address: str) -> None:
    ada = sign_up()
    ada.page.goto(f"/login?redirect={address}")
    ada.expect_dashboard()
    guest = visit()
    guest.page.goto(f"/login?redirect={address}")
    guest.page.get_by_label("E-mail address").fill(ada.email)
    guest.page.get_by_label("Password", exact=True).fill(PASSWORD)
    guest.page.get_by_role("button", name="Sign in").click()
    guest.expect_dashboard()
    assert guest.page.url.startswith(guest.instance.url)


def test_signing_in_leads_to_the_page_that_was_asked_for(sign_up: SignUp, visit: Visit) -> None:
    ada = sign_up()
    guest = visit()
    guest.page.goto("/dashboard?q=holiday&status=ready")
    guest.page.get_by_label("E-mail address").fill(ada.email)
    guest.page.get_by_label("Password", exact=True).fill("not her password")
    guest.guard.allow(r"status of 400")
    guest.page.get_by_role("button", name="Sign in").click()
    expect(guest.page.get_by_role("alert")).to_contain_text("The e-mail address or the password is not right.")
    guest.page.get_by_label("Password", exact=True).fill(PASSWORD)
    guest.page.get_by_role("button", name="Sign in").click()
    expect(guest.page.get_by_label("Search my videos")).to_have_value("holiday")
    expect(guest.page.get_by_role("combobox", name="Show")).to_have_value("ready")


def test_a_session_that_echo_does_not_know_ends_in_signing_in(sign_up: SignUp) -> None:
    ada = sign_up()
    ada.guard.allow(r"status of 40[013]")
    ada.guard.allow(r"WebSocket")
    session = ada.session()
    unknown = {**session, "access_token": session["access_token"][:-8] + "AAAAAAAA", "refresh_token": "unknown"}
    ada.page.evaluate(
        """(text) => {
          const key = Object.keys(localStorage).find((key) => /^sb-.*-auth-token$/.test(key));
          localStorage.setItem(key, text);
        }""",
        json.dumps(unknown),
    )
    ada.page.reload()
    expect(ada.page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    ada.sign_in(ada.email)
