"""Timed text laid out as captions that can be read: where a cue ends, where a line does, how long it stays.

The figures are those that broadcasters agree on within a little (the timed text guides of the BBC and of Netflix).
All work is linear in the length of the text. Times are whole milliseconds in here, so that rounding cannot disorder
them at the end.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from echo_core.domain.captions import MAX_CUES, Cue, is_visible, unmarked

MAX_LINES = 2
MAX_COLUMNS = 42
"""Of a line; a wide character (Chinese, Japanese, Korean) takes two."""
MAX_WIDE = 20
"""Wide characters of a line."""
MIN_SHOWN_MS = 700
MAX_SHOWN_MS = 7000
MS_PER_CHARACTER = 50
"""20 characters a second."""
PAUSE_MS = 700
"""A silence between two words that ends a cue."""
MIN_STEP_MS = 100
"""Between the starts of two cues, whatever a provider says."""
MAX_DELAY_MS = 300
"""By how much a cue may come late so that the one before it can be read."""

_SENTENCE_END = frozenset(".!?\u2026\u3002\uff01\uff1f\uff61\u061f\u06d4\u0964\u0965")
"""Among them those of Chinese and Japanese, Arabic, Urdu and Hindi."""
_CLAUSE_END = frozenset(",;:\u060c\u061b\u3001\uff0c\uff1b\uff1a\u2013\u2014") | _SENTENCE_END
_CLOSING = "\"')]}\u00bb\u201d\u2019\u203a\u300d\u300f\uff09\u3011\u300b\u3009"
_ABBREVIATIONS = frozenset({"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "vs.", "e.g.", "i.e.", "z.b.", "bzw.", "ca."})
_HANGUL = ((0x1100, 0x11FF), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0x3130, 0x318F))


@dataclass(frozen=True, kw_only=True, slots=True)
class Atom:
    """Text that no cue and no line may divide. ``spaced``: a space stands before it. ``apart``: what comes before it
    must not be shown with it (another speaker)."""

    text: str
    start_ms: int
    end_ms: int
    spaced: bool = True
    apart: bool = False


def is_wide(character: str) -> bool:
    """Whether a character takes two columns."""
    return unicodedata.east_asian_width(character) in "WF"


def columns(text: str) -> tuple[int, int]:
    """Columns of a text, and how many of its characters are wide."""
    if text.isascii():
        return len(text), 0
    wide = sum(1 for character in text if is_wide(character))
    return len(text) + wide, wide


def fits_line(text: str) -> bool:
    """Whether a text is short enough for one line."""
    width, wide = columns(text)
    return width <= MAX_COLUMNS and wide <= MAX_WIDE


def ends_sentence(text: str) -> bool:
    """Whether a sentence ends with this text; the full stop of a usual abbreviation ends none."""
    bare = text.rstrip(_CLOSING)
    if not bare or bare[-1] not in _SENTENCE_END:
        return False
    last = bare.rsplit(maxsplit=1)[-1].lower()
    initial = len(last) == 2 and last[0].isalpha() and last[1] == "."
    return last not in _ABBREVIATIONS and not initial


def ends_clause(text: str) -> bool:
    """Whether a reader would pause after this text."""
    bare = text.rstrip(_CLOSING)
    return bool(bare) and bare[-1] in _CLAUSE_END


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script that puts no spaces between words."""
    return (
        not character.isascii()
        and is_wide(character)
        and unicodedata.category(character) in {"Lo", "Lm"}
        and not any(first <= ord(character) <= last for first, last in _HANGUL)
    )


def joined(words: Sequence[str]) -> str:
    """Words, none empty, as one text: without spaces where the script puts none."""
    parts: list[str] = []
    for word in words:
        if parts and not (is_unspaced(parts[-1][-1]) and is_unspaced(word[0])):
            parts.append(" ")
        parts.append(word)
    return "".join(parts)


def pieces(word: str, boundaries: Sequence[int] = ()) -> list[str]:
    """Cut what stands between two spaces into parts that no line may divide; one for nearly all words.

    Chinese and Japanese is cut at ``boundaries`` (indexes at which the provider heard a word begin) or, without any,
    between characters where typesetters allow it. What is too long for a line is cut to fit, never before a mark that
    combines with the letter before it.
    """
    if word.isascii() and len(word) <= MAX_COLUMNS:
        return [word]
    unspaced = any(is_unspaced(character) for character in word)
    if not unspaced and fits_line(word):
        return [word]
    starts = [0]
    for index in boundaries or (range(1, len(word)) if unspaced else ()):
        if starts[-1] < index < len(word) and _may_divide(word[index - 1], word[index], given=bool(boundaries)):
            starts.append(index)
    parts = [word[start:end] for start, end in zip(starts, [*starts[1:], len(word)], strict=True)]
    return [chunk for part in parts for chunk in _chunks(part)]


def wrap(atoms: Sequence[Atom]) -> list[list[Atom]] | None:
    """Lines of a cue: one if it fits, else two of much the same length, divided after a clause where that is near;
    None if two are not enough."""
    text = _line(atoms)
    if fits_line(text):
        return [list(atoms)]
    best: tuple[float, int] | None = None
    whole, _ = columns(text)
    end = 0
    for index in range(1, len(atoms)):
        end += len(atoms[index - 1].text) + (1 if index > 1 and atoms[index - 1].spaced else 0)
        first, second = text[:end], text[end + (1 if atoms[index].spaced else 0) :]
        if not fits_line(first):
            break
        if fits_line(second):
            uneven = abs(2 * columns(first)[0] - whole) - (12 if ends_clause(first) else 0)
            if best is None or uneven < best[0]:
                best = (uneven, index)
    return None if best is None else [list(atoms[: best[1]]), list(atoms[best[1] :])]


def rewrap(text: str, max_lines: int) -> str | None:
    """The text of a cue in new lines, as few as it takes; None if it takes more than ``max_lines``."""
    atoms = atoms_of(text)
    if (lines := wrap(atoms)) is not None:
        return "\n".join(_line(line) for line in lines)
    filled: list[str] = []
    for atom in atoms:
        longer = f"{filled[-1]} {atom.text}" if filled and atom.spaced else (filled[-1] if filled else "") + atom.text
        if filled and fits_line(longer):
            filled[-1] = longer
        else:
            filled.append(atom.text)
            if len(filled) > max_lines:
                return None
    return "\n".join(filled)


def atoms_of(text: str) -> list[Atom]:
    """The atoms of a text that has no times."""
    return [
        Atom(text=piece, start_ms=0, end_ms=0, spaced=number == 0)
        for word in text.split()
        for number, piece in enumerate(piece for piece in pieces(word) if is_visible(piece))
    ]


def lay_out(atoms: Sequence[Atom], duration_ms: int) -> tuple[Cue, ...]:
    """Cues of spoken text whose atoms are in order, inside the video. Where a provider has put more text into a time
    than can be told apart (over ten cues a second), or more than a file of
    captions may hold, the rest of it is left out."""
    groups = [group for unit in _units(atoms) for group in _divided(unit)]
    groups = groups[: min(duration_ms // MIN_STEP_MS or int(duration_ms > 0), MAX_CUES)]
    starts: list[int] = []
    for group in groups:
        start = max(group[0].start_ms, 0)
        if starts:
            readable = min(starts[-1] + MIN_SHOWN_MS, start + MAX_DELAY_MS)
            start = max(start, readable, starts[-1] + MIN_STEP_MS)
        starts.append(start)
    latest = duration_ms
    for index in range(len(starts) - 1, -1, -1):
        latest = starts[index] = max(min(starts[index], latest - MIN_STEP_MS), 0)
    ends = [*starts[1:], duration_ms]
    return tuple(_cue(group, start, limit) for group, start, limit in zip(groups, starts, ends, strict=False))


def _cue(group: Sequence[Atom], start_ms: int, limit_ms: int) -> Cue:
    """One cue, shown long enough to be read if ``limit_ms`` (the next one, or the end) allows that."""
    lines = wrap(group) or [list(group)]
    text = unmarked("\n".join(_line(line) for line in lines))
    readable_ms = start_ms + max(MIN_SHOWN_MS, len(text) * MS_PER_CHARACTER)
    end_ms = min(max(group[-1].end_ms, readable_ms), start_ms + MAX_SHOWN_MS, limit_ms)
    words_ms: list[int] = []
    for line in lines:
        for number, atom in enumerate(line):
            if number == 0 or atom.spaced:
                words_ms.append(max(min(max(atom.start_ms, start_ms), end_ms - 1), words_ms[-1] if words_ms else 0))
    return Cue(
        start_s=start_ms / 1000,
        end_s=end_ms / 1000,
        text=text,
        word_starts_s=tuple(word_ms / 1000 for word_ms in words_ms),
    )


def _units(atoms: Sequence[Atom]) -> Iterator[list[Atom]]:
    """Runs of atoms that may be shown together: up to the end of a sentence, a pause, or another speaker."""
    unit: list[Atom] = []
    for atom in atoms:
        if unit:
            paused = atom.start_ms - unit[-1].end_ms > PAUSE_MS
            ended = ends_sentence(unit[-1].text) and atom.start_ms - unit[0].start_ms >= MIN_SHOWN_MS
            if atom.apart or paused or ended:
                yield unit
                unit = []
        unit.append(atom)
    if unit:
        yield unit


def _divided(unit: Sequence[Atom]) -> Iterator[Sequence[Atom]]:
    """Cues of a unit: of much the same size, ended at a clause where one is near."""
    ends: list[int] = []  # columns up to the end of each atom
    total = 0
    for atom in unit:
        total += columns(atom.text)[0] + (1 if atom.spaced else 0)
        ends.append(total)
    at = 0
    while at < len(unit):
        done = ends[at - 1] if at else 0
        rest = total - done
        fitting = _fitting(unit, at)
        if at + fitting == len(unit):
            yield unit[at:]
            return
        parts = max(-(-rest // (MAX_LINES * MAX_COLUMNS - 8)), 2)
        target = min(rest / parts, ends[at + fitting - 1] - done)
        count = min(
            range(1, fitting + 1),
            key=lambda size: (
                abs(ends[at + size - 1] - done - target) - (20 if ends_clause(unit[at + size - 1].text) else 0)
            ),
        )
        yield unit[at : at + count]
        at += count


def _fitting(unit: Sequence[Atom], at: int) -> int:
    """How many atoms from ``at`` on fit into one cue: its lines, and the time that it may stay. At least one."""
    lines, width, wide = 1, 0, 0
    for index in range(at, len(unit)):
        atom = unit[index]
        atom_width, atom_wide = columns(atom.text)
        space = 1 if atom.spaced and width else 0
        if width + space + atom_width > MAX_COLUMNS or wide + atom_wide > MAX_WIDE:
            lines, width, wide, space = lines + 1, 0, 0, 0
        width += space + atom_width
        wide += atom_wide
        if index > at and (lines > MAX_LINES or atom.end_ms - unit[at].start_ms > MAX_SHOWN_MS):
            return index - at
    return len(unit) - at


def _line(atoms: Sequence[Atom]) -> str:
    return "".join(f" {atom.text}" if number and atom.spaced else atom.text for number, atom in enumerate(atoms))


def _may_divide(before: str, after: str, *, given: bool) -> bool:
    if unicodedata.category(after) in {"Mn", "Mc", "Me", "Pe", "Pf", "Po", "Lm", "Cf"} or after in _CLOSING:
        return False
    if unicodedata.category(before) in {"Ps", "Pi", "Cf"}:
        return False
    return given or is_unspaced(before) or is_unspaced(after) or (is_wide(before) and before in _CLAUSE_END)


def _chunks(part: str) -> Iterator[str]:
    """``part`` itself, or as much of it at a time as fits a line."""
    while not fits_line(part):
        end = min(len(part), MAX_COLUMNS)
        while not fits_line(part[:end]):
            end -= 1
        hard = end
        while end > hard // 2 and unicodedata.category(part[end])[0] == "M":
            end -= 1
        yield part[:end]
        part = part[end:]
    yield part
