"""The names under which uploads are stored."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_core.domain.uploads import MAX_SAFE_NAME_LENGTH, safe_name


@pytest.mark.parametrize(
    ("filename", "stored"),
    [
        ("My Film.MP4", "my-film.mp4"),
        ("\N{CLAPPER BOARD}\N{MOVIE CAMERA}.mp4", "video.mp4"),
        (".mp4", "video.mp4"),
        ("..mp4", "video.mp4"),
        ("../../etc/passwd", "passwd"),
        ("a..\\..\\b.mov", "b.mov"),
        ("clip.", "clip"),
        ("...", "video"),
        ("", "video"),
    ],
)
def test_stored_name_keeps_what_is_safe_and_the_extension(filename: str, stored: str) -> None:
    assert safe_name(filename) == stored


@given(st.text(max_size=400))
def test_stored_name_is_always_safe(filename: str) -> None:
    name = safe_name(filename)
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name)
    assert ".." not in name
    assert len(name) <= MAX_SAFE_NAME_LENGTH
