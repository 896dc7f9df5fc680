"""Suggestions beside the fields. They are laid over the server's answers: no provider is asked."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, Route, expect

from tests.e2e.web.browser import Person
from tests.e2e.web.conftest import SignUp
from tests.e2e.web.test_accessibility import expect_accessible
from tests.e2e.web.test_editor import begun_video

pytestmark = pytest.mark.e2e


def suggestion(number: int, field: str, value: object, current: object, **rest: object) -> dict[str, Any]:
    return {
        "id": f"01990000-0000-7000-8000-{number:012d}",
        "field": field,
        "value": value,
        "current": current,
        "state": "pending",
        "provider": "local",
        "model": "base.en",
        "promptVersion": "1",
        "evidence": [{"startSeconds": 1.0, "endSeconds": 2.0}],
        "costUsd": 0.0,
        "locked": False,
        "auto": False,
        "createdAt": "2026-01-01T00:00:00Z",
        "decidedAt": None,
        **rest,
    }


class Suggested:
    """Answers with these suggestions, and does what is decided about them."""

    def __init__(self, person: Person, video_id: str, *suggestions: dict[str, Any]) -> None:
        self.person, self.video_id = person, video_id
        self.suggestions = list(suggestions)
        self.accepted: list[object] = []
        person.page.route(f"**/api/v1/videos/{video_id}/details", self._details)
        person.page.route(f"**/api/v1/videos/{video_id}/suggestions/**", self._decide)

    def _details(self, route: Route) -> None:
        with contextlib.suppress(PlaywrightError):  # the page may be gone by the time that the server has answered
            answer = route.fetch()
            route.fulfill(response=answer, json={**answer.json(), "suggestions": self.suggestions})

    def _decide(self, route: Route) -> None:
        suggestion_id, verb = route.request.url.rsplit("/", 2)[1:]
        one = next(one for one in self.suggestions if one["id"] == suggestion_id)
        body = json.loads(route.request.post_data or "{}")
        one["state"] = "rejected" if verb == "reject" else "edited" if "value" in body else "accepted"
        if verb == "accept":
            self.accepted.append(body)
            changes = {one["field"]: body.get("value", one["value"])}
            path = f"/api/v1/videos/{self.video_id}/metadata"
            self.person.api().call("PUT", path, expect=200, json=changes)
        route.fulfill(json=one)


def open_video(person: Person, video_id: str) -> Page:
    person.page.goto(f"/video/{video_id}")
    expect(person.page.get_by_role("heading", name="Suggested title")).to_be_visible()
    return person.page


def test_accepting_one_field_keeps_what_is_typed_in_another(sign_up: SignUp) -> None:
    ada = sign_up()
    video_id = begun_video(ada)
    Suggested(ada, video_id, suggestion(1, "title", "A week by the sea", "film"))
    page = open_video(ada, video_id)
    page.get_by_label("Description", exact=True).fill("Typed by hand")
    page.get_by_role("button", name="Accept the suggested title").click()
    expect(page.get_by_label("Title", exact=True)).to_have_value("A week by the sea")
    expect(page.get_by_label("Description", exact=True)).to_have_value("Typed by hand")
    expect(page.get_by_text("Suggested by local (base.en)")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("All changes are saved.")).to_be_visible()
    details = ada.api().details(video_id)
    assert (details["title"], details["description"]) == ("A week by the sea", "Typed by hand")


def test_an_edited_suggestion_is_saved_as_edited(sign_up: SignUp) -> None:
    ada = sign_up()
    video_id = begun_video(ada)
    suggested = Suggested(ada, video_id, suggestion(1, "title", "A week by the sea", "film"))
    page = open_video(ada, video_id)
    page.get_by_role("button", name="Edit the suggested title").click()
    expect(page.get_by_label("Title", exact=True)).to_be_focused()
    page.get_by_label("Title", exact=True).fill("Two weeks by the sea")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("All changes are saved.")).to_be_visible()
    expect(page.get_by_text("Edited from a suggestion of local (base.en)")).to_be_visible()
    assert suggested.accepted == [{"value": "Two weeks by the sea"}]
    assert ada.api().details(video_id)["title"] == "Two weeks by the sea"


def test_a_rejected_suggestion_goes_and_changes_nothing(sign_up: SignUp) -> None:
    ada = sign_up()
    video_id = begun_video(ada)
    Suggested(ada, video_id, suggestion(1, "title", "A week by the sea", "film", locked=True))
    page = open_video(ada, video_id)
    expect(page.get_by_text("You have written the title yourself")).to_be_visible()
    page.get_by_role("button", name="Reject the suggested title").click()
    expect(page.get_by_role("heading", name="Suggested title")).to_have_count(0)
    assert ada.api().details(video_id)["title"] == "film"


def test_suggestions_have_no_grave_fault(sign_up: SignUp) -> None:
    ada = sign_up()
    video_id = begun_video(ada)
    chapters = [{"startSeconds": 0, "title": "Arrival"}, {"startSeconds": 10, "title": "Storm"}]
    Suggested(
        ada,
        video_id,
        suggestion(1, "title", "A week by the sea", "film"),
        suggestion(2, "tags", ["sea", "sand"], ["sea", "sun"]),
        suggestion(3, "chapters", chapters, chapters[:1]),
        suggestion(4, "language", "de", "en"),
    )
    open_video(ada, video_id)
    expect_accessible(ada.page, "Suggested chapters")
