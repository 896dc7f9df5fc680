"""Somebody speaks, with no account anywhere: captions in the player, a title, and search that leads to the second."""

from __future__ import annotations

import re
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jiwer
import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Instance, start_instance, stop_instance
from tests.e2e.web.conftest import SignUp
from tests.fakes.speech import RATE, clips, joined, samples

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not clips(), reason="needs pocketsphinx-testdata: make system-packages"),
]

PAUSE_S = 1.0
WORD = "respectable"
LISTENED_MS = 180_000
"""Longest wait until the captions are there; the machine may be busy with other tests."""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An Echo as it comes, with its own speech recognition."""
    running = start_instance(
        tmp_path_factory.mktemp("echo-ai"), ECHO_AI__TRANSCRIBE='["local"]', ECHO_AI__DESCRIBE='["local"]'
    )
    yield running
    stop_instance(running)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips one after the other, with a picture."""
    folder = tmp_path_factory.mktemp("talk")
    with wave.open(str(folder / "talk.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(joined(clips(), PAUSE_S))
    subprocess.run(
        [
            "ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(folder / "talk.wav"),
            "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-shortest", "-map", "1:v", "-map", "0:a",
            "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "50",
            "-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart", str(folder / "talk.mp4"),
        ],
        check=True,
    )  # fmt: skip
    return folder / "talk.mp4"


def said_between(word: str) -> tuple[float, float]:
    """From when to when the clip lasts in which a word is said, by the lengths of the recordings alone."""
    at_s = 0.0
    for clip in clips():
        length_s = len(samples(clip.path)) / 2 / RATE
        if word in clip.text:
            return at_s, at_s + length_s
        at_s += length_s + PAUSE_S
    raise AssertionError(f"nobody says {word}")


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]+", " ", text.lower().replace("mr.", "mister")).split())


def test_what_is_said_is_shown_suggested_and_found(
    sign_up: SignUp, talk: Path, record_property: Any
) -> None:
    ada = sign_up()
    page, api = ada.page, ada.api()
    video_id, job_id = api.upload(talk)
    job = api.wait_for_job(job_id)
    steps = {step["name"]: step for step in job["steps"]}
    assert (job["state"], steps["transcribe"]["state"], steps["describe"]["state"]) == ("succeeded",) * 3, steps

    # The captions are what was said.
    cues = api.call("GET", f"/api/v1/videos/{video_id}/captions/auto-en", expect=200)["cues"]
    reference = plain(" ".join(clip.text for clip in clips()))
    rate = jiwer.wer(reference, plain(" ".join(cue["text"] for cue in cues)))
    record_property("word_error_rate", rate)
    assert rate <= 0.05, cues

    # They are in the player.
    page.goto(f"/video/{video_id}")
    page.get_by_role("button", name="Play", exact=True).first.click()
    page.keyboard.press("c")
    page.wait_for_function(
        "() => document.querySelector('[data-testid=captions]')?.innerText.replace(/\\s+/g, ' ').includes('leisure to')", timeout=LISTENED_MS
    )

    # What was suggested was taken over, since nobody had written anything.
    details = api.call("GET", f"/api/v1/videos/{video_id}/details", expect=200)
    taken = {s["field"] for s in details["suggestions"] if s["state"] == "accepted" and s["auto"]}
    assert {"title", "description", "tags", "language"} <= taken
    assert (details["language"], details["editedFields"]) == ("en", [])
    expect(page.get_by_label("Title", exact=True)).to_have_value(details["title"])

    # A word that was said leads to where it is said.
    begins_s, ends_s = said_between(WORD)
    page.goto(f"/search?q={WORD}")
    hit = page.get_by_role("list", name="Where it is said").get_by_role("link").first
    expect(hit.locator("mark")).to_have_text(WORD)
    hit.click()
    page.wait_for_url(f"**/video/{video_id}?t=*")
    page.wait_for_function("() => document.querySelector('video')?.currentTime > 1")
    found_s = page.evaluate("() => document.querySelector('video').currentTime")
    asked_s = float(page.url.rpartition("t=")[2])
    # "… he might have been made still more respectable than he was": in the second half of its clip.
    assert begins_s + (ends_s - begins_s) / 2 <= asked_s <= ends_s
    assert abs(asked_s - heard_at()) <= 1.0
    assert asked_s - 1.0 <= found_s <= asked_s + 3.0  # it plays on while it is asked


def heard_at() -> float:
    """When the word is said, without any recognition: the clip's time shared by the letters of its text, which is near
    enough for one word in a sentence that is read evenly."""
    begins_s, ends_s = said_between(WORD)
    text = next(clip.text for clip in clips() if WORD in clip.text)
    return begins_s + (ends_s - begins_s) * text.index(WORD) / len(text)
