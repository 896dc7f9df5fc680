"""Captions as text with times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """A caption shown from ``start_s`` up to ``end_s``; ``text`` may have several lines. ``word_starts_s``: the start
    of each of its words, or empty."""

    start_s: float
    end_s: float
    text: str
    word_starts_s: tuple[float, ...] = ()
