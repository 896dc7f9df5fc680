"""What others may see of a person, and what the browser keeps of a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.web.browser import NOT_FOUND, expect_nothing_here
from tests.e2e.web.conftest import SignUp, Visit

pytestmark = pytest.mark.e2e

CLOSED_FORBIDDEN = 4403
KNOCK = """([userId, token]) => new Promise((resolve) => {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws/jobs/status/${userId}`);
  const told = [];
  socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token }));
  socket.onmessage = (event) => told.push(JSON.parse(event.data).type);
  socket.onclose = (event) => resolve({ code: event.code, told });
})"""


def test_nobody_sees_what_belongs_to_another(sign_up: SignUp, short_clip: Path) -> None:
    ada, bob = sign_up("ada"), sign_up("bob")
    bob.guard.allow(NOT_FOUND)
    api = ada.api()
    video_id, job_id = api.upload(short_clip)
    expect(ada.row("short")).to_be_visible()

    expect(bob.page.get_by_role("heading", name="Your first video")).to_be_visible()
    bob.page.reload()
    expect(bob.page.get_by_role("heading", name="Your first video")).to_be_visible()
    for path in (f"/video/{video_id}", f"/jobs/{job_id}", f"/watch/{video_id}"):
        bob.page.goto(path)
        expect_nothing_here(bob.page)
    refused = bob.page.evaluate(KNOCK, [api.user_id, bob.session()["access_token"]])
    assert refused["code"] == CLOSED_FORBIDDEN
    assert not {"ready", "snapshot"} & set(refused["told"])
    assert api.wait_for_job(job_id)["state"] == "succeeded"


def test_signing_out_everywhere_ends_every_session(sign_up: SignUp, visit: Visit) -> None:
    ada = sign_up()
    elsewhere = visit()
    elsewhere.guard.allow(r"status of 40[013]")
    elsewhere.sign_in(ada.email)
    tab = ada.page
    page = ada.new_page("/settings")
    page.get_by_role("button", name="Sign out everywhere").click()
    page.get_by_role("dialog").get_by_role("button", name="Sign out everywhere").click()
    expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()
    expect(tab.get_by_role("heading", name="Welcome back")).to_be_visible()
    assert "auth-token" not in str(tab.evaluate("() => Object.keys(localStorage)"))

    # Its access token has run out: the next use must renew it.
    elsewhere.page.evaluate(
        """() => {
          const key = Object.keys(localStorage).find((key) => key.endsWith("-auth-token"));
          const session = JSON.parse(localStorage.getItem(key));
          localStorage.setItem(key, JSON.stringify({ ...session, expires_at: Math.floor(Date.now() / 1000) - 10 }));
        }"""
    )
    elsewhere.page.reload()
    expect(elsewhere.page.get_by_role("heading", name="Welcome back")).to_be_visible()


def test_tokens_are_in_no_address_no_log_and_one_place(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    ada.choose(short_clip)
    expect(ada.upload_line(short_clip.name)).to_contain_text("Uploaded")
    ada.open_video("short")
    ada.page.goto("/settings")
    expect(ada.page.locator("[data-link]")).to_have_attribute("data-link", "live")
    session = ada.session()
    secrets = [session["access_token"], session["access_token"].split(".")[2], session["refresh_token"]]
    kept = ada.page.evaluate("() => ({ local: { ...localStorage }, session: { ...sessionStorage } })")
    assert any("/ws/jobs/status/" in url for url in ada.guard.urls)
    for secret in secrets:
        assert not [url for url in ada.guard.urls if secret in url]
        assert not [line for line in ada.guard.lines if secret in line]
        assert secret not in str(kept["session"])
        keys = [key for key, text in kept["local"].items() if secret in text]
        assert len(keys) == 1, keys
        assert keys[0].startswith("sb-")
        assert keys[0].endswith("-auth-token")
    assert not ada.context.cookies()
