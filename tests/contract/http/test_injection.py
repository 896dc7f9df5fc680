"""Hostile bytes in headers, paths and texts end up in no header, no log line and no page as anything but text."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from echo_storage_local.read_routes import content_disposition
from hypothesis import given
from hypothesis import strategies as st

from echo_core.adapters.logs import MAX_FIELD_CHARS, configure_logging
from echo_core.adapters.settings import LogSettings
from tests.fakes.api import FakeApi, begin

HOSTILE = [
    "a\r\nSet-Cookie: x=1",
    'x","level":"error","event":"forged',
    '\n{"event":"forged"}',
    "\x1b[2J\x1b]0;owned\x07",
    "a\0b",
    "\u2028forged\u2029",
    "\u202egnorw",
    "%s %n {0} ${jndi:ldap://x}",
    "x" * 20_000,
]


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the process writes to its log."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root, server = logging.getLogger(), logging.getLogger("uvicorn.error")
    before = (root.handlers[:], root.level, server.level, server.filters[:])
    structlog.reset_defaults()
    configure_logging(LogSettings(level="debug", format=request.param), process="api")
    try:
        yield stream
    finally:
        root.handlers[:], root.level, server.level, server.filters[:] = before
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def assert_no_line_is_forged(written: str, count: int) -> None:
    assert written.isascii() or written.replace("\n", "").isprintable()
    assert not set(written) & set(map(chr, [*range(10), *range(11, 32), 127]))
    entries = written.splitlines()
    assert len(entries) == count, written
    assert all(len(entry) < 2 * MAX_FIELD_CHARS + 2000 for entry in entries)
    for entry in entries:
        if entry.startswith("{"):
            assert json.loads(entry)["event"] == "request.completed"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_path_forges_no_log_line(text: str, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", lines)  # pytest puts its own there after the fixtures
    log = structlog.get_logger("echo.http")
    monkeypatch.setattr("echo_core.entrypoints.http.middleware.log", log)
    async with FakeApi().client() as client:
        response = await client.get(f"/api/v1/{quote(text, safe='')}")
    assert response.status_code == 404
    assert_no_line_is_forged(lines.getvalue(), 1)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_text_from_outside_forges_no_log_line(text: str, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", lines)
    structlog.get_logger("echo.test").info("request.completed", filename=text)
    logging.getLogger("some.library").warning("request.completed", extra={"filename2": text})
    assert_no_line_is_forged(lines.getvalue(), 2)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_an_exceptions_text_moves_no_cursor(text: str, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", lines)
    try:
        raise ValueError(text)
    except ValueError:
        structlog.get_logger("echo.test").exception("request.completed")
    assert not set(lines.getvalue()) & set(map(chr, [*range(10), *range(11, 32), 127]))
    assert "\u202e" not in lines.getvalue()


@pytest.mark.parametrize("value", [b"a\x1b[31m", b"\xff\xfe", b'"><script>', b"x" * 5000, b"a b", b"\x85"])
async def test_a_hostile_request_id_is_neither_logged_nor_answered(value: bytes) -> None:
    async with FakeApi().client() as client:
        response = await client.get("/api/v1/nothing", headers={"X-Request-Id": value})
    assert response.headers["x-request-id"].encode() != value
    assert response.json()["requestId"] == response.headers["x-request-id"]


@pytest.mark.parametrize("name", ["a\r\nb.mp4", "\u202egpj.mp4", 'a"; filename="b.exe', "\x1b[31m.mp4", "日本.mp4"])
async def test_a_file_name_is_shown_without_what_acts(name: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client, filename=name)
        details = (await client.get(f"/api/v1/videos/{begun['videoId']}/details")).json()
    for shown in (details["filename"], details["title"]):
        assert shown.isprintable(), shown
        assert "\u202e" not in shown
    assert begun["storagePath"].isascii()


TEXTS = st.text() | st.sampled_from(HOSTILE)


@given(TEXTS)
def test_content_disposition_is_one_header_with_one_name(name: str) -> None:
    """RFC 6266: a quoted string that ends where it should, and RFC 8187's form in ASCII."""
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    plain, _, extended = header.removeprefix('attachment; filename="').partition('"; filename*=')
    assert '"' not in plain
    assert "\\" not in plain
    assert extended.startswith("UTF-8''")
    assert not set(extended[7:]) & set(" \"';,\\()<>@/[]?={}")


async def test_titles_and_descriptions_are_cleaned_before_they_are_measured() -> None:
    api = FakeApi()
    async with api.client() as client:
        url = f"/api/v1/videos/{(await begin(client))['videoId']}/metadata"
        put: dict[str, Any] = (
            await client.put(
                url,
                json={
                    "title": "  Sea\r\n\u202eday\x1b[1m\0 ",
                    "description": "one\r\ntwo\x07\u2028three\tfour",
                    "tags": ["a\nb", "A b"],
                    "chapters": [{"startSeconds": 0, "title": "One\u2069\n"}],
                },
            )
        ).json()
        empty = await client.put(url, json={"title": "\u202e\x07\n"})
    assert put["title"] == "Sea day[1m"
    assert put["description"] == "one\ntwo\nthree\tfour"
    assert put["tags"] == ["a b"]
    assert [chapter["title"] for chapter in put["chapters"]] == ["One"]
    assert (empty.status_code, empty.json()["code"]) == (422, "validation_failed")
