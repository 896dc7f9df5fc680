"""axe-core finds nothing grave, on any page, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.web.conftest import SignUp, Visit

pytestmark = pytest.mark.e2e

AXE = Path(__file__).parents[3] / "web" / "node_modules" / "axe-core" / "axe.min.js"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = ({"width": 1280, "height": 900}, {"width": 390, "height": 844})
GRAVE = {"serious", "critical"}
STILL = "() => document.getAnimations().length === 0"
"""What moves or changes its colour has another contrast in every picture."""


def expect_accessible(page: Page, heading: str) -> None:
    expect(page.get_by_role("heading", name=heading).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.evaluate(AXE.read_text())
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for size in SIZES:
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.wait_for_function(STILL)
            found = page.evaluate("() => axe.run({ resultTypes: ['violations'] })")
            assert found["passes"], "axe-core looked at nothing"
            grave = [
                (violation["id"], [(node["target"], node["failureSummary"]) for node in violation["nodes"]])
                for violation in found["violations"]
                if violation["impact"] in GRAVE
            ]
            assert not grave, f"{page.url}, {scheme}, {size['width']} px wide: {grave}"


def test_no_grave_fault_for_guests(visit: Visit) -> None:
    page = visit().page
    page.goto("/login")
    expect_accessible(page, "Welcome back")
    page.goto("/signup")
    expect_accessible(page, "Create your account")


def test_no_grave_fault_for_members(sign_up: SignUp, short_clip: Path, tmp_path: Path) -> None:
    assert AXE.exists(), "axe-core is missing: run 'make web/node_modules/.dev'"
    ada = sign_up()
    page = ada.page
    expect_accessible(page, "Your first video")
    api = ada.api()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"This is not a video.\n" * 100)
    failed_id, failed_job = api.upload(broken)
    video_id, job_id = api.upload(short_clip)
    chapters = [{"startSeconds": 0, "title": "Begin"}]
    changes = {"description": "Words.", "tags": ["sea"], "chapters": chapters, "visibility": "public"}
    api.call("PUT", f"/api/v1/videos/{video_id}/metadata", expect=200, json=changes)
    assert api.wait_for_job(failed_job)["state"] == "failed"
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    for path, heading in (
        ("/dashboard", "short"),
        (f"/video/{video_id}", "short"),
        (f"/video/{failed_id}", "broken"),
        (f"/jobs/{job_id}", "Processing"),
        (f"/jobs/{failed_job}", "Processing"),
        ("/settings", "Plugins"),
        (f"/watch/{video_id}", "short"),
    ):
        page.goto(path)
        expect_accessible(page, heading)
