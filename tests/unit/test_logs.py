"""What must not get into the log."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from echo_core.adapters.logs import NO_HANDSHAKE, configure_logging
from echo_core.adapters.settings import LogSettings


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is logged at level debug."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root, server = logging.getLogger(), logging.getLogger("uvicorn.error")
    before = (root.handlers[:], root.level, server.level, server.filters[:])
    configure_logging(LogSettings(level="debug", format="json"), process="api")
    try:
        yield stream
    finally:
        root.handlers[:], root.level, server.level, server.filters[:] = before
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def test_tickets_and_tokens_of_websockets_are_not_logged(lines: io.StringIO) -> None:
    server = logging.getLogger("uvicorn.error")
    server.info('%s - "WebSocket %s" [accepted]', "127.0.0.1", "/ws/jobs/status/1?ticket=secret")
    server.debug("< TEXT '%s'", '{"type":"auth","token":"secret"}')
    assert lines.getvalue() == ""


def test_refused_websocket_is_no_error(lines: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").error(NO_HANDSHAKE)
    assert lines.getvalue() == ""


def test_errors_of_the_server_are_logged(lines: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").error("Exception in ASGI application")
    assert "Exception in ASGI application" in lines.getvalue()


def test_secrets_that_others_write_are_not_logged(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", lines)
    configure_logging(LogSettings(format="json"), process="api", secrets=["open-sesame-123"])
    logging.getLogger("a.library").warning("cannot reach https://x.test/?token=abcdef&a=1 with open-sesame-123")
    try:
        raise ValueError("Authorization: Bearer abc.def.ghi at postgresql://echo:hunter2@db/echo")
    except ValueError:
        structlog.get_logger("test").exception("request.failed")
    structlog.get_logger("test").info("request.completed", path="/api/v1/videos/eyJhbGciOi.eyJzdWIi.c2ln/details")
    written = lines.getvalue()
    assert "[secret]" in written
    for secret in ("abcdef", "sesame", "abc.def", "hunter2", "c2ln"):
        assert secret not in written, written


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_local_variables_of_a_traceback_are_not_logged(
    lines: io.StringIO, log_format: Literal["json", "console"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", lines)
    configure_logging(LogSettings(format=log_format), process="api")

    def refuse(password: str) -> None:
        raise ZeroDivisionError

    try:
        refuse("sword" + "fish")
    except ZeroDivisionError:
        structlog.get_logger("test").exception("login.failed")
        logging.getLogger("test").exception("login failed")
    assert lines.getvalue().count("ZeroDivisionError") >= 2
    assert "swordfish" not in lines.getvalue()
