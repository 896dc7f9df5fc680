"""What people upload and edit: read forgivingly where players are, refused with the line where nothing can be made of
it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_core.domain.captions import (
    MAX_BYTES,
    MAX_CUES,
    Cue,
    check_cues,
    literal,
    parse_captions,
    to_srt,
    to_vtt,
    word_time,
)
from echo_core.domain.errors import InvalidInputError

T = TypeVar("T")
FEW = settings(max_examples=80, deadline=None)


def cue(start_s: float, end_s: float, text: str = "text") -> Cue:
    return Cue(start_s=start_s, end_s=end_s, text=text)


def outcome(call: Callable[[], T]) -> T | InvalidInputError:
    """What a call returns or, of all errors only this one, what it raises."""
    try:
        return call()
    except InvalidInputError as error:
        return error


VTT = """\ufeffWEBVTT - a film
Kind: captions

NOTE
a comment --> with an arrow

STYLE
::cue { color: red }

REGION
id:a

intro
00:01.000 --> 00:02.500 align:start position:10%
<v.loud Bob>Hi &amp; <i>welcome</i>,&nbsp;<00:00:01.500>all &lt;b&gt;
to this film

100:00.000 --> 100:01.000
<c.yellow>Late</c>

00:00:03.000\t-->\t00:00:04.000

1:00:03.000 --> 1:00:04.000
\u200f\u05e9\u05dc\u05d5\u05dd
"""
SRT = """1
00:00:01,000 --> 00:00:02,500
{\\an8}<font color="red">Hello</font> & <b>all</b>
2
00:00:03.000 --> 00:00:04.000 X1:10 X2:20
42

second part
3

00:00:05,5 --> 00:00:06,000

4
00:00:07,000 --> 00:00:08,000
3 < 5 and 7 > 2 --\u200b> <unknown>
"""


def test_webvtt_is_read_as_players_read_it() -> None:
    hour = VTT.replace("100:00.000 --> 100:01.000", "00:59:00.000 --> 00:59:01.000")
    for text in (hour, hour.replace("\n", "\r\n"), hour.replace("\n", "\r")):
        assert parse_captions(text) == (
            cue(1, 2.5, "Hi & welcome, all \u2039b\u203a\nto this film"),
            cue(3540, 3541, "Late"),
            cue(3603, 3604, "\u200f\u05e9\u05dc\u05d5\u05dd"),
        )


def test_minutes_end_at_sixty() -> None:
    with pytest.raises(InvalidInputError, match="Line 18 has a time that is not possible"):
        parse_captions(VTT.replace("100:0", "61:0"))


def test_subrip_is_read_as_players_read_it() -> None:
    assert parse_captions(SRT) == (
        cue(1, 2.5, "Hello & all"),
        cue(3, 4, "42\nsecond part\n3"),
        cue(7, 8, "3 < 5 and 7 > 2 --\u200b> \u2039unknown\u203a"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n\ufeff\n", "Line 2|empty"),
        ("WEBVTT\n", "no captions"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n<i></i>\n", "no captions"),
        ("hello\nworld\n", "Line 1 is not the start"),
        ("WEBVTTX\n\n00:01.000 --> 00:02.000\na\n", "Line 1 is not the start"),
        ("{}\n00:00:01,000 --> 00:00:02,000\na\n", "Line 1 is not the start"),
        ("WEBVTT\n\nlost text\n\n00:01.000 --> 00:02.000\na\n", "Line 3 is neither"),
        ("WEBVTT\n\n00:01 --> 00:02\na\n", "Line 3 has no time that can be read"),
        ("WEBVTT\n\n00:02.000 --> 00:01.000\na\n", "Line 3 ends the caption before it starts"),
        ("1\n00:00:01,000 --> 00:00:02,000\na\n\n2\n00:00:61,000 --> 00:01:02,000\nb\n", "Line 6 has a time"),
        ("1\n9999:00:01,000 --> 9999:00:02,000\na\n", "Line 2 has a time"),
        ("1\n00:00:01,000 --> \u0661\u0660:00:02,000\na\n", "Line 2 has no time"),
        ("x" * (MAX_BYTES + 1), "2 MiB"),
        ("\u00e9" * (MAX_BYTES // 2 + 1), "2 MiB"),
    ],
)
def test_bad_files_are_refused_with_the_line(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        parse_captions(text)
    assert caught.value.code == "invalid_captions"
    assert caught.value.remedy


def test_too_many_captions() -> None:
    cues = [cue(n, n + 1, "a") for n in range(MAX_CUES + 1)]
    assert len(parse_captions(to_vtt(cues[:-1]))) == MAX_CUES
    with pytest.raises(InvalidInputError, match="one caption more than the 20000"):
        parse_captions(to_vtt(cues))
    with pytest.raises(InvalidInputError, match="20001 captions"):
        check_cues(cues, None)


pieces = st.sampled_from(
    [
        "<b>",
        "-->",
        "WEBVTT",
        "NOTE",
        "&amp;",
        "&",
        "<",
        ">",
        "{\\an8}",
        "{",
        "\\",
        "1",
        "42",
        "\n",
        "\n\n",
        "\r",
        " ",
        "\x00",
        "\ud800",
        "\ufeff",
        "\u2028",
        "\u202e",
        "\u200b",
        "\U0001f600",
        "\u05e9\u05dc\u05d5\u05dd",
        "字幕",
        "a",
        "00:00:01,000 --> ",
    ]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=4)), max_size=12).map("".join)
files = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.one_of(
            pieces,
            st.sampled_from(
                ["WEBVTT\n\n", "1\n", "00:01.000 --> 00:02.000\n", "00:00:01,000 --> 00:00:02,000\n", "\n"]
            ),
        ),
        max_size=20,
    ).map("".join),
)
times = st.one_of(st.floats(0, 400), st.sampled_from([math.nan, math.inf, -1.0, 1e300, 360_000.0, 0.0004]))


@FEW
@given(files)
def test_any_file_is_read_or_refused(text: str) -> None:
    cues = outcome(lambda: parse_captions(text))
    if isinstance(cues, InvalidInputError):
        assert cues.code == "invalid_captions"
        return
    assert cues
    assert parse_captions(to_vtt(cues)) == cues
    assert parse_captions(to_srt(cues)) == cues


@FEW
@given(
    st.lists(st.builds(Cue, start_s=times, end_s=times, text=texts, word_starts_s=st.lists(times).map(tuple))),
    st.none() | st.floats(0.1, 500),
)
def test_any_cues_are_normal_or_refused(cues: list[Cue], duration_s: float | None) -> None:
    checked = outcome(lambda: check_cues(cues, duration_s))
    if isinstance(checked, InvalidInputError):
        assert checked.code == "invalid_captions"
        return
    assert_is_normal(checked, duration_s)


@FEW
@given(st.lists(texts, min_size=1, max_size=6), st.lists(st.floats(0.01, 9), min_size=6, max_size=6))
def test_cues_in_order_survive_being_written_and_read(lines: list[str], lengths_s: list[float]) -> None:
    start_s = 0.0
    cues = []
    for line, length_s in zip(lines, lengths_s, strict=False):
        cues.append(cue(start_s, start_s + length_s * 1.5, f"x{line}"))  # reaches into the next one
        start_s += length_s
    checked = check_cues(cues, None)
    assert_is_normal(checked, None)
    assert len(checked) == len(cues)
    assert check_cues(checked, None) == checked
    assert parse_captions(to_vtt(checked)) == checked
    assert parse_captions(to_srt(checked)) == checked


def assert_is_normal(cues: tuple[Cue, ...], duration_s: float | None) -> None:
    end_s = 0.0
    for one in cues:
        assert end_s <= one.start_s < one.end_s
        assert duration_s is None or one.end_s <= duration_s
        end_s = one.end_s
        assert one.text.strip()
        assert "-->" not in one.text
        assert "\n\n" not in one.text
        assert not set(one.text) & set("\0\r\u202e\u2028\ud800\ufeff")
        assert one.word_starts_s == () or len(one.word_starts_s) == len(one.text.split())
        assert all(one.start_s <= time_s <= one.end_s for time_s in one.word_starts_s)


@pytest.mark.parametrize(
    ("cues", "message"),
    [
        ([cue(0, 1), cue(1, 1)], "Caption 2 ends before it starts"),
        ([cue(1, 2), cue(0, 1)], "Caption 2 does not start after"),
        ([cue(1, 2), cue(1, 3)], "Caption 2 does not start after"),
        ([cue(10, 12)], "Caption 1 starts after the end"),
        ([cue(0, 1, " \n\u200b")], "Caption 1 is empty"),
        ([cue(0, 1, "x" * 501)], "Caption 1 is longer"),
        ([cue(math.nan, 1)], "times of caption 1"),
        ([cue(0, math.inf)], "times of caption 1"),
        ([cue(-1, 1)], "times of caption 1"),
    ],
)
def test_what_a_person_must_correct_names_the_caption(cues: list[Cue], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        check_cues(cues, 10.0)
    assert caught.value.code == "invalid_captions"
    assert caught.value.remedy


def test_what_reaches_too_far_is_cut_off() -> None:
    assert check_cues([cue(1, 5), cue(4, 20.0004)], 10.0) == (cue(1, 4), cue(4, 10))


def test_a_word_starts_where_it_is_known_to_or_in_proportion() -> None:
    known = Cue(start_s=1, end_s=4, text="one two\nthree", word_starts_s=(1.0, 2.5, 3.0))
    assert [word_time(known, index) for index in (-1, 0, 1, 2, 9)] == [1.0, 1.0, 2.5, 3.0, 3.0]
    unknown = replace(known, word_starts_s=())
    assert [word_time(unknown, index) for index in (0, 1, 2)] == pytest.approx([1, 1 + 3 * 4 / 14, 1 + 3 * 8 / 14])
    assert word_time(cue(3, 4, ""), 0) == 3


@FEW
@given(texts)
def test_literal_text_is_literal_already(text: str) -> None:
    assert literal(literal(text)) == literal(text)
