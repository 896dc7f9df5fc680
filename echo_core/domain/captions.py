"""Captions: cues, and the two formats in which people keep them.

A cue's ``text`` is literally what a player shows: words separated by single spaces, ``\\n`` between lines, nothing that
any player takes for markup. Whatever builds a ``Cue`` from outside (``parse_captions``, ``check_cues``,
``grounding.cues_of``) sees to that, and puts times on whole milliseconds, so that ``parse_captions`` gives back what
``to_vtt`` and ``to_srt`` have written. Sources: WebVTT (W3C), sections 4 to 6; SubRip as written by its many tools.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from echo_core.domain import texts
from echo_core.domain.errors import InvalidInputError

MAX_CUES = 20_000
"""More than a day of talk."""
MAX_BYTES = 2 * 1024 * 1024
"""Of a file of captions, in UTF-8."""
MAX_CUE_CHARACTERS = 500
"""Of what a person writes; nobody can read more at once."""
MAX_TIME_S = 360_000.0
"""100 hours: what two digits of SubRip hold."""

_INVALID = "invalid_captions"
_TIME = r"(?:([0-9]{1,4}):)?([0-9]{1,2}):([0-9]{1,2})[.,]([0-9]{1,3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_NUMBER = re.compile(r"[0-9]{1,9}")
_TAG = re.compile(r"<(?=[A-Za-z0-9/.!?:|])([^<>]*)>")
"""What one player or another takes for markup. A ``<`` between spaces is none."""
_FORMATTING = re.compile(
    r"</?(?:i|b|u|s|c|v|em|strong|font|span|lang|ruby|rt|br|p)(?:[\s.][^<>]*)?/?>"
    r"|<[0-9:.]{5,15}>"  # the time of a word
    r"|<\|[^<>|]*\|>",  # what speech models use among themselves
    re.IGNORECASE,
)
_OVERRIDE = re.compile(r"\{\\[^{}]*\}")
_OVERRIDE_START = re.compile(r"\{\\+")
_ARROW = re.compile("-{2,}>")
_SUSPECT = re.compile(r"[<{]|->")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """A text that is shown from ``start_s`` up to ``end_s``.

    ``text`` may hold ``\\n`` between its lines. ``word_starts_s``: the start of each word, between whitespace, or empty
    (unknown).
    """

    start_s: float
    end_s: float
    text: str
    word_starts_s: tuple[float, ...] = ()


def is_visible(text: str) -> bool:
    """Whether a reader would see anything."""
    if text.isprintable():
        return bool(text) and not text.isspace()
    return any(unicodedata.category(character)[0] not in "ZC" for character in text)


def encodable(text: str) -> str:
    """The text with pairs of surrogates joined and lone ones dropped: those can neither be stored nor sent."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def literal(text: str) -> str:
    """The text without anything that acts (controls, bidirectional overrides) or that a player takes for markup.

    ``<b>`` gets single quotation marks (U+2039, U+203A) for its brackets, and ``-->`` becomes an arrow: SubRip has no
    escapes, and not all players know those of WebVTT. Lines keep their breaks; empty ones go, since both formats end a
    cue there. Doing it twice changes nothing.
    """
    if text.isprintable() and not _SUSPECT.search(text):
        return " ".join(text.split())  # nearly every word
    cleaned = (" ".join(line.split()) for line in texts.lines(encodable(text)).split("\n"))
    joined = "\n".join(line for line in cleaned if is_visible(line))
    return unmarked(joined)


def unmarked(text: str) -> str:
    """The text with other signs for those that would be markup; as long as before but for arrows. Needed again where
    two texts are joined: one may open what the other closes."""
    return _OVERRIDE_START.sub("{", _TAG.sub("\u2039\\1\u203a", _ARROW.sub("→", text)))


def unformatted(text: str) -> str:
    """The text without the tags by which captions and speech models format it; other ``<...>`` are kept."""
    if "<" not in text and "{" not in text:
        return text
    return _OVERRIDE.sub("", _FORMATTING.sub("", text))


def word_time(cue: Cue, word_index: int) -> float:
    """Seconds at which the word of this index (0: the first) starts: known, or in proportion to the characters before
    it. Indexes beyond the words count as the last one."""
    words = cue.text.split()
    if not words:
        return cue.start_s
    index = min(max(word_index, 0), len(words) - 1)
    if len(cue.word_starts_s) == len(words):
        return cue.word_starts_s[index]
    before = sum(len(word) + 1 for word in words[:index])
    return cue.start_s + (cue.end_s - cue.start_s) * before / sum(len(word) + 1 for word in words)


def to_vtt(cues: Sequence[Cue]) -> str:
    """The captions as a WebVTT file."""
    blocks = ["WEBVTT\n"]
    for cue in cues:
        text = cue.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{text}\n")
    return "\n".join(blocks)


def to_srt(cues: Sequence[Cue]) -> str:
    """The captions as a SubRip file."""
    return "\n".join(
        f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues, 1)
    )


def parse_captions(text: str) -> tuple[Cue, ...]:
    """The cues of a WebVTT or SubRip file, told apart by content, in the file's order; those without text are left out.

    Formatting, positions, comments, styles and the names of speakers are dropped. Raises ``InvalidInputError``
    (``invalid_captions``) with the line number. Whether the cues fit the video and each other: ``check_cues``.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _invalid(f"The file of captions is larger than {MAX_BYTES // (1024 * 1024)} MiB.", "Split it.")
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise _invalid("The file of captions is empty.", "Choose a WebVTT or SRT file with captions in it.")
    if re.match(r"WEBVTT(?:\s|$)", lines[first]):
        cues = tuple(_vtt_cues(lines, first + 1))
    else:
        cues = tuple(_srt_cues(lines, first))
    if not cues:
        raise _invalid("There are no captions in the file.", "Choose a WebVTT or SRT file with captions in it.")
    return cues


def check_cues(cues: Sequence[Cue], duration_s: float | None) -> tuple[Cue, ...]:
    """Normalise what a person wrote: text that is literally text, times on milliseconds, an end that would reach into
    the next cue or beyond the video cut off.

    Raises ``InvalidInputError`` (``invalid_captions``) that names the first cue, counted from 1, that is empty, too
    long, not in order, or outside of the video. ``duration_s`` None: not known yet.
    """
    if len(cues) > MAX_CUES:
        raise _invalid(f"There are {len(cues)} captions; at most {MAX_CUES} are possible.", "Join or remove some.")
    limit_s = MAX_TIME_S if duration_s is None else min(duration_s, MAX_TIME_S)
    checked = [_checked(number, cue, limit_s) for number, cue in enumerate(cues, 1)]
    for number, (cue, following) in enumerate(pairwise(checked), 2):
        if following.start_s <= cue.start_s:
            raise _invalid(
                f"Caption {number} does not start after the one before it.",
                "Put the captions in the order of their times, and join those that start together.",
            )
    ends_s = [*(following.start_s for following in checked[1:]), limit_s]
    return tuple(
        cue if cue.end_s <= end_s else _with_words(replace(cue, end_s=floor_ms(end_s) / 1000))
        for cue, end_s in zip(checked, ends_s, strict=False)
    )


def floor_ms(time_s: float) -> int:
    """Whole milliseconds that are not later than a time of at most some years."""
    milliseconds = math.floor(time_s * 1000) + 1
    while milliseconds / 1000 > time_s:
        milliseconds -= 1
    return milliseconds


def _checked(number: int, cue: Cue, limit_s: float) -> Cue:
    if not (math.isfinite(cue.start_s) and math.isfinite(cue.end_s) and 0 <= cue.start_s <= MAX_TIME_S):
        raise _invalid(f"The times of caption {number} are not possible.", "Use seconds from the start of the video.")
    start_ms, end_ms = round(cue.start_s * 1000), round(min(cue.end_s, MAX_TIME_S) * 1000)
    if end_ms <= start_ms:
        raise _invalid(f"Caption {number} ends before it starts.", "Correct its times.")
    if start_ms >= floor_ms(limit_s):
        raise _invalid(f"Caption {number} starts after the end of the video.", "Correct its time, or remove it.")
    if len(cue.text) > MAX_CUE_CHARACTERS:
        raise _invalid(f"Caption {number} is longer than {MAX_CUE_CHARACTERS} characters.", "Split it.")
    text = literal(cue.text)
    if not text:
        raise _invalid(f"Caption {number} is empty.", "Write its text, or remove it.")
    return _with_words(replace(cue, start_s=start_ms / 1000, end_s=end_ms / 1000, text=text))


def _with_words(cue: Cue) -> Cue:
    """The cue with the times of its words within it; without them where they cannot be those of its text."""
    times_s = cue.word_starts_s
    if (
        len(times_s) != len(cue.text.split())
        or not all(math.isfinite(time_s) for time_s in times_s)
        or any(later < earlier for earlier, later in pairwise(times_s))
    ):
        return replace(cue, word_starts_s=())
    return replace(cue, word_starts_s=tuple(min(max(time_s, cue.start_s), cue.end_s) for time_s in times_s))


def _vtt_cues(lines: Sequence[str], at: int) -> Iterator[Cue]:
    """``at``: the line after the one that says WEBVTT."""
    while at < len(lines) and lines[at].strip() and "-->" not in lines[at]:
        at += 1  # the rest of the header
    count = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        end = at
        while end < len(lines) and lines[end].strip() and (end <= at + 1 or "-->" not in lines[end]):
            end += 1
        kind = lines[at].split(maxsplit=1)[0]
        if "-->" not in lines[at] and kind in {"NOTE", "STYLE", "REGION"}:
            while end < len(lines) and lines[end].strip():
                end += 1  # a comment may hold anything
            at = end
            continue
        timing = at if "-->" in lines[at] else at + 1  # an id may stand before it
        if timing >= end or "-->" not in lines[timing]:
            raise _bad_line(
                at, "is neither the time of a caption nor a comment", "Leave no empty line inside a caption"
            )
        text = html.unescape(_TAG.sub("", "\n".join(lines[timing + 1 : end])))
        count = yield from _cue(lines, timing, text, count)
        at = end


def _srt_cues(lines: Sequence[str], first: int) -> Iterator[Cue]:
    """Forgiving, as players are: what stands between two times is the text of the former, an empty line or none before
    the number of the latter."""
    timings = [number for number, line in enumerate(lines) if "-->" in line]
    if not timings or first < timings[0] - 1 or (first < timings[0] and not _is_number(lines[first])):
        raise _bad_line(
            first, "is not the start of a WebVTT or SRT file", "Start with the line WEBVTT, or with a caption's number"
        )
    count = 0
    for timing, following in zip(timings, [*timings[1:], len(lines)], strict=True):
        end = following
        if following < len(lines) and end - 1 > timing and _is_number(lines[end - 1]):
            end -= 1
        text = unformatted("\n".join(lines[timing + 1 : end]))
        count = yield from _cue(lines, timing, text, count)


def _cue(lines: Sequence[str], timing: int, text: str, count: int) -> Generator[Cue, None, int]:
    """Yield the cue if there is anything to show; return how many there are now."""
    matched = _TIMING.fullmatch(lines[timing])
    if matched is None:
        raise _bad_line(timing, "has no time that can be read", "Write it like 00:01:02.500 --> 00:01:05.000")
    start_s, end_s = _seconds(matched.groups()[:4]), _seconds(matched.groups()[4:])
    if start_s is None or end_s is None:
        raise _bad_line(timing, "has a time that is not possible", "Write it like 00:01:02.500 --> 00:01:05.000")
    if end_s <= start_s:
        raise _bad_line(timing, "ends the caption before it starts", "Correct its times")
    shown = literal(text)
    if not shown:
        return count
    if count == MAX_CUES:
        raise _bad_line(timing, f"begins one caption more than the {MAX_CUES} that are possible", "Split the file")
    yield Cue(start_s=start_s, end_s=end_s, text=shown)
    return count + 1


def _is_number(line: str) -> bool:
    return _NUMBER.fullmatch(line.strip()) is not None


def _seconds(parts: Sequence[str | None]) -> float | None:
    hours, minutes, seconds = (int(part or "0") for part in parts[:3])
    time_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + int((parts[3] or "").ljust(3, "0"))
    if minutes >= 60 or seconds >= 60 or time_ms > MAX_TIME_S * 1000:
        return None
    return time_ms / 1000


def _clock(time_s: float, point: str) -> str:
    seconds, milliseconds = divmod(round(time_s * 1000), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{milliseconds:03}"


def _bad_line(index: int, what: str, remedy: str) -> InvalidInputError:
    return _invalid(f"Line {index + 1} {what}.", f"{remedy}.")


def _invalid(message: str, remedy: str) -> InvalidInputError:
    return InvalidInputError(message, code=_INVALID, remedy=remedy)
