"""Editing what a video says about itself, while others do the same."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.web.browser import Person
from tests.e2e.web.conftest import SignUp

pytestmark = pytest.mark.e2e

CONFLICT = r"status of 412"


def begun_video(person: Person) -> str:
    """A video that waits for its bytes: it can be edited, and nothing has to be processed for it."""
    body = {"filename": "film.mp4", "contentType": "video/mp4", "sizeBytes": 1000}
    return str(person.api().call("POST", "/api/v1/videos/signed-upload-url", expect=201, json=body)["videoId"])


@pytest.mark.parametrize("choice", ["Keep mine", "Take theirs"])
def test_a_change_from_elsewhere_is_not_overwritten_unseen(sign_up: SignUp, choice: str) -> None:
    ada = sign_up()
    ada.guard.allow(CONFLICT)
    video_id, page = begun_video(ada), ada.page
    page.goto(f"/video/{video_id}")
    page.get_by_label("Title", exact=True).fill("Mine")
    api = ada.api()
    theirs = {"title": "Theirs", "description": "Theirs too"}
    api.call("PUT", f"/api/v1/videos/{video_id}/metadata", expect=200, json=theirs)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("changed somewhere else while you were editing")
    assert api.details(video_id)["title"] == "Theirs"
    page.get_by_role("button", name=choice).click()
    title = "Mine" if choice == "Keep mine" else "Theirs"
    expect(page.get_by_text("All changes are saved.")).to_be_visible()
    expect(page.get_by_label("Title", exact=True)).to_have_value(title)
    expect(page.get_by_label("Description")).to_have_value("Theirs too")
    details = api.details(video_id)
    assert (details["title"], details["description"]) == (title, "Theirs too")


def test_leaving_with_unsaved_changes_asks_first_and_loses_nothing(sign_up: SignUp) -> None:
    ada = sign_up()
    video_id, page = begun_video(ada), ada.page
    page.goto(f"/video/{video_id}")
    page.get_by_label("Title", exact=True).fill("Half a title")
    page.get_by_role("link", name="My videos", exact=True).click()
    dialog = page.get_by_role("dialog", name="Leave without saving?")
    dialog.get_by_role("button", name="Stay").click()
    expect(page.get_by_label("Title", exact=True)).to_have_value("Half a title")
    page.get_by_role("link", name="My videos", exact=True).click()
    dialog.get_by_role("button", name="Leave").click()
    ada.open_video("film")
    expect(page.get_by_text("What you typed last time is back.")).to_be_visible()
    expect(page.get_by_label("Title", exact=True)).to_have_value("Half a title")
    page.get_by_role("button", name="Discard it").click()
    expect(page.get_by_label("Title", exact=True)).to_have_value("film")
    page.reload()
    expect(page.get_by_label("Title", exact=True)).to_have_value("film")


def test_what_another_tab_saves_shows_up_by_itself(sign_up: SignUp) -> None:
    ada = sign_up()
    video_id, page = begun_video(ada), ada.page
    page.goto(f"/video/{video_id}")
    expect(page.locator("[data-link]")).to_have_attribute("data-link", "live")
    ada.api().call("PUT", f"/api/v1/videos/{video_id}/metadata", expect=200, json={"title": "From elsewhere"})
    expect(page.get_by_role("heading", name="From elsewhere", level=1)).to_be_visible()
    expect(page.get_by_label("Title", exact=True)).to_have_value("From elsewhere")
    expect(page).to_have_title(re.compile("From elsewhere"))


def test_a_chapter_that_cannot_be_is_said_beside_it(sign_up: SignUp) -> None:
    ada = sign_up()
    video_id, page = begun_video(ada), ada.page
    page.goto(f"/video/{video_id}")
    page.get_by_role("button", name="Add a chapter").click()
    page.get_by_label("Title of chapter 1").fill("Opening")
    page.get_by_label("Start of chapter 1").fill("soon")
    expect(page.get_by_text("Write the time as 1:15 or 1:01:15.")).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    page.get_by_label("Start of chapter 1").fill("0:00")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("All changes are saved.")).to_be_visible()
    assert ada.api().details(video_id)["chapters"] == [{"startSeconds": 0, "title": "Opening"}]


def test_what_is_typed_while_it_is_saved_stays(sign_up: SignUp) -> None:
    ada = sign_up()
    video_id, page = begun_video(ada), ada.page
    page.goto(f"/video/{video_id}")
    held: list[Route] = []
    page.route("**/metadata", lambda route: held.append(route))
    page.get_by_label("Title", exact=True).fill("First")
    with page.expect_request("**/metadata"):
        page.get_by_role("button", name="Save").click()
    page.get_by_label("Description").fill("Typed meanwhile")
    held[0].continue_()
    page.unroute("**/metadata")
    expect(page.get_by_role("heading", name="First", level=1)).to_be_visible()
    expect(page.get_by_label("Description")).to_have_value("Typed meanwhile")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("All changes are saved.")).to_be_visible()
    assert ada.api().details(video_id)["description"] == "Typed meanwhile"
