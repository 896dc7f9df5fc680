"""Captions of one's own: uploading, editing by keyboard alone, conflicts, and what the player then shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.web.browser import Person
from tests.e2e.web.conftest import SignUp
from tests.e2e.web.test_accessibility import expect_accessible

pytestmark = pytest.mark.e2e

SRT = """1
00:00:00,200 --> 00:00:01,400
Good morning everyone

2
00:00:01,600 --> 00:00:03,000
and welcome
"""
CONFLICT = r"status of 412"
REFUSED = r"status of 422"


def with_captions(person: Person, clip: Path) -> tuple[str, str]:
    """A processed video with one uploaded track; returns the ids of both."""
    api = person.api()
    video_id, job_id = api.upload(clip)
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    body = {"language": "en", "text": SRT}
    track = api.call("POST", f"/api/v1/videos/{video_id}/captions", expect=201, json=body)
    return video_id, str(track["name"])


def open_editor(person: Person, video_id: str, name: str) -> Page:
    page = person.page
    page.goto(f"/video/{video_id}/captions/{name}")
    expect(page.get_by_label("Text of cue 1", exact=True)).to_have_value("Good morning everyone")
    return page


def cues_of(person: Person, video_id: str, name: str) -> list[str]:
    track = person.api().call("GET", f"/api/v1/videos/{video_id}/captions/{name}", expect=200)
    cues = track["cues"]
    assert isinstance(cues, list)
    return [str(cue["text"]) for cue in cues]


def test_a_file_is_uploaded_and_its_faults_are_named(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    ada.guard.allow(REFUSED)
    api, page = ada.api(), ada.page
    video_id, job_id = api.upload(short_clip)
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    page.goto(f"/video/{video_id}")
    page.get_by_role("button", name="Upload captions").click()
    dialog = page.get_by_role("dialog", name="Upload captions")
    file = dialog.locator("input[type=file]")
    file.set_input_files({"name": "bad.srt", "mimeType": "text/plain", "buffer": b"no captions at all\n"})
    dialog.get_by_label("Language").fill("en")
    dialog.get_by_role("button", name="Upload", exact=True).click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    file.set_input_files({"name": "good.srt", "mimeType": "text/plain", "buffer": SRT.encode()})
    dialog.get_by_role("button", name="Upload", exact=True).click()
    track = page.get_by_role("list", name="Captions").get_by_role("listitem")
    expect(track).to_contain_text("English")
    with page.expect_download() as download:
        track.get_by_role("link", name=re.compile("as SRT")).click()
    assert "Good morning everyone" in Path(download.value.path()).read_text()


def test_captions_are_edited_by_keyboard_alone(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    video_id, name = with_captions(ada, short_clip)
    page = open_editor(ada, video_id, name)
    text = page.get_by_label("Text of cue 1", exact=True)
    text.focus()
    page.keyboard.press("Home")
    for _ in "Good morning":
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+Enter")
    expect(text).to_have_value("Good morning")
    second = page.get_by_label("Text of cue 2", exact=True)
    expect(second).to_be_focused()
    expect(second).to_have_value("everyone")
    page.keyboard.press("Alt+j")
    expect(second).to_have_value("everyone and welcome")
    page.keyboard.press("Control+z")
    expect(second).to_have_value("everyone")
    page.keyboard.press("Control+Shift+z")
    expect(second).to_have_value("everyone and welcome")
    page.keyboard.press("Alt+u")
    page.get_by_label("Milliseconds").fill("100")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Start of cue 1", exact=True)).to_have_value("0:00.300")
    second.focus()
    page.keyboard.press("Control+s")
    expect(page.get_by_text("All changes are saved")).to_be_visible()
    assert cues_of(ada, video_id, name) == ["Good morning", "everyone and welcome"]


def test_what_cannot_be_saved_is_said_beside_the_cue(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    video_id, name = with_captions(ada, short_clip)
    page = open_editor(ada, video_id, name)
    page.get_by_label("Text of cue 2", exact=True).fill("")
    expect(page.get_by_text("It has no text: write some, or delete it.")).to_be_visible()
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    page.keyboard.press("Alt+x")
    expect(page.get_by_label("Text of cue 2", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("All changes are saved")).to_be_visible()
    assert cues_of(ada, video_id, name) == ["Good morning everyone"]


@pytest.mark.parametrize("choice", ["Save mine over theirs", "Take theirs"])
def test_captions_changed_elsewhere_are_not_overwritten_unseen(sign_up: SignUp, short_clip: Path, choice: str) -> None:
    ada = sign_up()
    ada.guard.allow(CONFLICT)
    video_id, name = with_captions(ada, short_clip)
    page = open_editor(ada, video_id, name)
    text = page.get_by_label("Text of cue 1", exact=True)
    text.fill("Mine")
    theirs = {"cues": [{"startSeconds": 0.5, "endSeconds": 2.0, "text": "Theirs"}]}
    ada.api().call("PUT", f"/api/v1/videos/{video_id}/captions/{name}", expect=200, json=theirs)
    page.get_by_role("button", name="Save", exact=True).click()
    dialog = page.get_by_role("dialog", name="Changed somewhere else")
    assert cues_of(ada, video_id, name) == ["Theirs"]
    dialog.get_by_role("button", name=choice).click()
    expect(page.get_by_text("All changes are saved")).to_be_visible()
    if choice == "Take theirs":
        expect(text).to_have_value("Theirs")
        text.focus()
        page.keyboard.press("Control+z")
        expect(text).to_have_value("Mine")
    else:
        assert cues_of(ada, video_id, name)[0] == "Mine"


def test_unsaved_captions_survive_a_reload_and_are_asked_about(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    video_id, name = with_captions(ada, short_clip)
    page = open_editor(ada, video_id, name)
    text = page.get_by_label("Text of cue 1", exact=True)
    text.fill("Half a sentence")
    page.get_by_role("link", name="short", exact=True).click()
    dialog = page.get_by_role("dialog", name="Leave without saving?")
    dialog.get_by_role("button", name="Leave").click()
    page.get_by_role("link", name=re.compile("^Edit the captions")).click()
    expect(page.get_by_text("What you edited last time is back.")).to_be_visible()
    expect(text).to_have_value("Half a sentence")
    page.get_by_role("button", name="Discard it").click()
    expect(text).to_have_value("Good morning everyone")


def test_the_cue_that_is_on_is_marked_and_a_click_goes_there(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    video_id, name = with_captions(ada, short_clip)
    page = open_editor(ada, video_id, name)
    page.get_by_label("Text of cue 2", exact=True).click()
    page.wait_for_function("() => Math.abs(document.querySelector('video').currentTime - 1.6) < 0.2")
    expect(page.locator('[aria-current="true"]')).to_contain_text("2")
    page.keyboard.press("Alt+l")
    page.wait_for_function("() => !document.querySelector('video').paused")


def test_the_editor_has_no_grave_fault(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    video_id, name = with_captions(ada, short_clip)
    open_editor(ada, video_id, name)
    expect_accessible(ada.page, "Captions: English")
