"""What people write is cleaned of what acts, and of nothing else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_core.domain.texts import lines, one_line

WORDS = [
    "Ünïcödé 100 %",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",  # Hebrew
    "\u200f\u05e9\u05dc\u05d5\u05dd\u200e (2026)",
    "\u0627\u0644\u0633\u0644\u0627\u0645 \u0639\u0644\u064a\u0643\u0645",  # Arabic
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",  # a family, joined
    "日本語\u3000タイトル",
    "non\u00a0breaking",
    "e\u0301",
]


@pytest.mark.parametrize("text", WORDS)
def test_text_in_any_script_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text
    assert lines(text) == text


@pytest.mark.parametrize(
    ("text", "title", "description"),
    [
        ("a\nb", "a b", "a\nb"),
        ("a\r\nb\rc", "a b c", "a\nb\nc"),
        ("a\u2028b\u2029c\x85d\ve\ff", "a b c d e f", "a\nb\nc\nd\ne\nf"),
        ("a\tb", "a b", "a\tb"),
        ("\x1b[31mred\x1b]0;title\x07", "[31mred]0;title", "[31mred]0;title"),
        ("a\0b\x7fc\x9bd", "abcd", "abcd"),
        ("evil\u202egpj.exe", "evilgpj.exe", "evilgpj.exe"),
        ("\u2066a\u2069\u202ab\u202c\ufeff", "ab", "ab"),
    ],
)
def test_what_acts_is_dropped(text: str, title: str, description: str) -> None:
    assert one_line(text) == title
    assert lines(text) == description


@given(st.text())
def test_nothing_is_left_that_acts_and_cleaning_again_changes_nothing(text: str) -> None:
    title, description = one_line(text), lines(text)
    assert not any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in title)
    assert not any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} and c not in "\n\t" for c in description)
    acting = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not any(unicodedata.bidirectional(c) in acting for c in title + description)
    assert one_line(title) == title
    assert lines(description) == description
