"""What people see of the children's logs."""

from __future__ import annotations

import json

from echo_core.adapters.console import condensed


def entry(**fields: object) -> str:
    return f"worker  | {json.dumps({'level': 'info', 'logger': 'echo.engine', **fields})}"


def test_event_is_shown_with_its_fields() -> None:
    line = condensed(entry(event="step.ended", step="ladder", outcome="succeeded", code=None, timestamp="2026"))
    assert line == "worker  | step.ended step=ladder outcome=succeeded"


def test_routine_is_left_out_but_not_its_warnings() -> None:
    assert condensed(entry(event="request.completed")) is None
    assert condensed(entry(event="Shutting down", logger="uvicorn.error")) is None
    assert condensed(entry(event="request.completed", level="warning")) == "worker  | warning: request.completed"


def test_traceback_is_shown() -> None:
    line = condensed(entry(event="step.crashed", level="error", exception="Traceback: boom"))
    assert line is not None
    assert line.endswith("\nTraceback: boom")


def test_what_is_no_entry_is_shown_as_it_is() -> None:
    for line in ("echo    | Echo runs at http://127.0.0.1:8000", "worker  | {broken", "worker  | {}", "no bar"):
        assert condensed(line) == line
