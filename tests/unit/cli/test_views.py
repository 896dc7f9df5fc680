"""What is shown meanwhile, on a terminal and without one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from echo_core.entrypoints.cli.contract import Job, Problem, Step
from echo_core.entrypoints.cli.output import plain
from echo_core.entrypoints.cli.views import TerminalView, duration_text, open_view, size_text

ERROR = Problem(code="x", message="It broke.", remedy="Mend it.")


def job(state: str, *steps: Step, queue_position: int | None = None) -> Job:
    return Job(job_id="j", video_id="v", state=state, steps=steps, queue_position=queue_position)


def shown(*jobs: Job, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    with open_view(console) as view:
        assert isinstance(view, TerminalView) is terminal
        view.begin(Path("a\x1b[2J.mp4"), 1000)
        for offset in (100, 500, 1000):
            view.sent(offset)
        for one in jobs:
            view.job(one, live=True)
        view.end()
    return out.getvalue()


def test_without_a_terminal_each_change_is_one_line() -> None:
    running = Step(name="ladder", state="running", percent=10)
    text = shown(
        job("queued", Step(name="ladder", state="queued"), queue_position=3),
        job("running", running),
        job("running", Step(name="ladder", state="running", percent=20)),
        job("failed", Step(name="ladder", state="failed", attempt=2, error=ERROR)),
    )
    assert [line.partition(": ")[2] for line in text.splitlines()] == [
        "uploading 1.0 kB",
        "uploaded 50 %",
        "uploaded 100 %",
        "waiting, 3 before it",
        "job queued",
        "ladder running",
        "job running",
        "ladder failed (attempt 2): It broke. Mend it.",
        "job failed",
    ]
    assert "\x1b" not in text


def test_terminal_keeps_the_last_picture() -> None:
    text = shown(job("succeeded", Step(name="ladder", state="succeeded", percent=100)), terminal=True)
    assert "ladder" in text
    assert "succeeded" in text
    assert "\x1b[2J" not in text


def test_error_of_a_step_that_is_tried_again_says_so() -> None:
    assert "It broke.; will be tried again" in shown(job("running", Step(name="s", state="running", error=ERROR)))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(1, "1 bytes"), (29144, "29.1 kB"), (1_572_864_000, "1.6 GB"), (2e15, "2000.0 TB")]
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text


@given(st.text())
def test_plain_text_has_no_control_characters(text: str) -> None:
    assert all(c.isprintable() or not c.isascii() for c in plain(text))
    assert len(plain(text)) == len(text)
