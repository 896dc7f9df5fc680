"""Searching what is written and said, and watching from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.web.browser import Person
from tests.e2e.web.conftest import SignUp
from tests.e2e.web.test_accessibility import expect_accessible

pytestmark = pytest.mark.e2e

SAID = "WEBVTT\n\n00:00.200 --> 00:01.000\nGood morning\n\n00:02.000 --> 00:03.500\nMarmalade for breakfast\n"


def with_speech(person: Person, clip: Path) -> str:
    api = person.api()
    video_id, job_id = api.upload(clip)
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    api.call("POST", f"/api/v1/videos/{video_id}/captions", expect=201, json={"language": "en", "text": SAID})
    return video_id


def test_a_hit_starts_the_player_where_it_is_said(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    video_id, page = with_speech(ada, short_clip), ada.page
    page.goto("/dashboard")
    expect(page.get_by_role("heading", name="My videos", level=1)).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("textbox", name="Search in all videos")).to_be_focused()
    page.keyboard.type("marmalade")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=marmalade")
    hit = page.get_by_role("list", name="Where it is said").get_by_role("link")
    expect(hit).to_contain_text("0:02")
    expect(hit.locator("mark")).to_have_text("Marmalade")
    hit.click()
    page.wait_for_url(f"**/video/{video_id}?t=2")
    page.wait_for_function("() => document.querySelector('video')?.currentTime >= 1.9")


def test_results_follow_the_typing_and_say_when_there_are_none(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    with_speech(ada, short_clip)
    page = ada.page
    page.goto("/search")
    field = page.get_by_role("textbox", name="Search in all videos")
    expect(page.get_by_role("heading", name="Search in all your videos")).to_be_visible()
    field.fill("breakfast")
    expect(page.get_by_role("list", name="Results").get_by_role("article")).to_have_count(1)
    field.fill("zeppelin")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    expect(page).to_have_url(f"{ada.instance.url}/search?q=zeppelin")


def test_a_search_that_fails_can_be_tried_again(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    ada.guard.allow(r"status of 400")
    with_speech(ada, short_clip)
    page = ada.page
    problem = '{"code": "broken", "title": "Broken", "status": 400, "detail": "The search is broken."}'
    page.route("**/api/v1/search?*", lambda route: route.fulfill(status=400, body=problem))
    page.goto("/search?q=marmalade")
    expect(page.get_by_role("alert")).to_contain_text("The search is broken.")
    page.unroute("**/api/v1/search?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("article")).to_have_count(1)


def test_the_watch_page_starts_at_its_time(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    video_id = with_speech(ada, short_clip)
    changes = {"visibility": "unlisted"}
    ada.api().call("PUT", f"/api/v1/videos/{video_id}/metadata", expect=200, json=changes)
    ada.page.goto(f"/watch/{video_id}?t=2")
    ada.page.wait_for_function("() => document.querySelector('video')?.currentTime >= 1.9")


def test_the_search_has_no_grave_fault(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    with_speech(ada, short_clip)
    ada.page.goto("/search?q=marmalade")
    expect(ada.page.get_by_role("article")).to_have_count(1)
    expect_accessible(ada.page, "Search")
