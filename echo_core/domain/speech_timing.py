"""When each part of a segment's text was said: by its words where a provider knows them, else in proportion."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from echo_core.domain.caption_layout import MAX_COLUMNS, Atom, pieces
from echo_core.domain.captions import is_visible
from echo_core.plugin_api.ai import TranscriptSegment, TranscriptWord

LOOKAHEAD = 40
"""Characters of the text that may stand between two words without being one: punctuation, mostly."""
_WORD = re.compile(r"\S+")


def spoken_atoms(segment: TranscriptSegment) -> list[Atom]:
    """The text of a grounded segment in parts that no line divides, each with its times. Linear in its length."""
    times = _Times(segment)
    atoms: list[Atom] = []
    for matched in _WORD.finditer(segment.text):
        at = matched.start()
        if matched[0].isascii() and matched.end() - at <= MAX_COLUMNS:  # nearly every word of most languages
            start_ms = times.start_ms(at, matched.end())
            end_ms = max(start_ms, times.end_ms(at, matched.end()))
            atoms.append(Atom(text=matched[0], start_ms=start_ms, end_ms=end_ms))
            continue
        spaced = True
        for piece in pieces(matched[0], times.boundaries(at, matched.end())):
            end = at + len(piece)
            if is_visible(piece):
                start_ms = times.start_ms(at, end)
                atoms.append(
                    Atom(text=piece, start_ms=start_ms, end_ms=max(start_ms, times.end_ms(at, end)), spaced=spaced)
                )
                spaced = False
            at = end
    return atoms


def are_of_text(words: Sequence[TranscriptWord], text: str) -> bool:
    """Whether at least half of the words stand in the text, in their order."""
    return _enough(_found(words, text), words)


def _enough(found: Sequence[tuple[int, int, float, float]], words: Sequence[TranscriptWord]) -> bool:
    return 2 * len(found) >= len(words)


def _found(words: Sequence[TranscriptWord], text: str) -> list[tuple[int, int, float, float]]:
    """First index, index behind the last one, start and end of each word that stands in the text after the former."""
    found: list[tuple[int, int, float, float]] = []
    cursor = 0
    for word in words:
        at = text.find(word.text, cursor, cursor + len(word.text) + LOOKAHEAD)
        if at >= 0:
            cursor = at + len(word.text)
            found.append((at, cursor, word.start_s, word.end_s))
    return found


class _Times:
    """Times by index into the text of a segment. ``_at`` and ``_times_s`` are known points in order, first and last
    those of the segment; between two of them time passes evenly."""

    def __init__(self, segment: TranscriptSegment) -> None:
        found = _found(segment.words, segment.text)
        if not _enough(found, segment.words):
            found = []
        self._firsts = [first for first, _, _, _ in found]
        self._lasts = [last for _, last, _, _ in found]
        self._starts_s = [start_s for _, _, start_s, _ in found]
        self._ends_s = [end_s for _, _, _, end_s in found]
        self._at = [0]
        self._times_s = [segment.start_s]
        for first, last, start_s, end_s in found:
            for at, time_s in ((first, start_s), (last, end_s)):
                self._at.append(at)
                self._times_s.append(max(time_s, self._times_s[-1]))
        self._at.append(len(segment.text))
        self._times_s.append(max(segment.end_s, self._times_s[-1]))

    def boundaries(self, start: int, end: int) -> tuple[int, ...]:
        """Where words begin inside of a part of the text, counted from its start."""
        inside = self._firsts[bisect_right(self._firsts, start) : bisect_left(self._firsts, end)]
        return tuple(first - start for first in inside)

    def start_ms(self, start: int, end: int) -> int:
        """When a part of the text begins: with the first word that begins in it, if no other word reaches into it."""
        index = bisect_left(self._firsts, start)
        if index < len(self._firsts) and self._firsts[index] < end and (index == 0 or self._lasts[index - 1] <= start):
            return round(self._starts_s[index] * 1000)
        at = bisect_right(self._at, start) - 1
        return self._between(min(at, len(self._at) - 2), start)

    def end_ms(self, start: int, end: int) -> int:
        """When a part of the text ends: with the last word that ends in it, if no other word reaches out of it."""
        index = bisect_right(self._lasts, end) - 1
        ends_here = index >= 0 and self._lasts[index] > start
        if ends_here and (index + 1 == len(self._firsts) or self._firsts[index + 1] >= end):
            return round(self._ends_s[index] * 1000)
        at = bisect_left(self._at, end)
        return self._between(max(at - 1, 0), end)

    def _between(self, index: int, at: int) -> int:
        (first, last), (from_s, to_s) = self._at[index : index + 2], self._times_s[index : index + 2]
        share = (at - first) / (last - first) if last > first else 0.0
        return round((from_s + (to_s - from_s) * share) * 1000)
