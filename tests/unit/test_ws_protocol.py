"""Frames of the status WebSocket beside those of the websockets library."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from echo_core.entrypoints.http.ws_protocol import text_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
@pytest.mark.parametrize("letter", ["x", "ü", "\U0001f3ac"])
def test_a_text_becomes_the_frame_that_the_library_makes(size: int, letter: str) -> None:
    text = letter * size
    assert text_frame(text) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False, extensions=[])
