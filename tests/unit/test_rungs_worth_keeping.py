"""Which rungs a player gains by."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_core.application.transcoding import BETTER, PORTABLE_SHORT_SIDE, Made, worth_keeping


def ladder(*rungs: tuple[int, int], codec: str = "avc1", fixed: tuple[int, ...] = ()) -> list[Made]:
    """Rungs as pairs of short side and kb/s; ``fixed`` names short sides."""
    return [
        Made(name=f"{side}p", codec=codec, short_side=side, average_bps=kbps * 1000, fixed=side in fixed)
        for side, kbps in rungs
    ]


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        (ladder((1080, 4000), (720, 2000), (480, 1000), (360, 600)), "1080p 720p 480p 360p"),
        (ladder((1080, 260), (720, 200), (480, 190), (360, 150), (240, 110)), "1080p 720p 360p 240p"),
        (ladder((1080, 300), (720, 400), fixed=(1080,)), "1080p"),  # a source that is smaller than what it is made into
        (ladder((720, 500), (480, 450), (240, 400), fixed=(240,)), "720p 240p"),
        (ladder((720, 100), (240, 400), fixed=(240,)), "720p 240p"),
        (ladder((2160, 700), (1440, 690), (1080, 680), (720, 670), fixed=(2160,)), "2160p 1080p"),
        ([], ""),
    ],
)
def test_only_what_costs_clearly_less_than_the_one_above(made: list[Made], kept: str) -> None:
    assert worth_keeping(made) == set(kept.split())


def test_each_codec_is_a_ladder_of_its_own() -> None:
    av1 = [
        Made(name=f"{one.name}-av1", codec="av01", short_side=one.short_side, average_bps=one.average_bps)
        for one in ladder((1080, 1000), (720, 500))
    ]
    h264 = ladder((1080, 1100), (720, 550))
    assert worth_keeping([*av1, *h264]) == {"1080p-av1", "720p-av1", "1080p", "720p"}


@given(
    rungs=st.lists(st.tuples(st.integers(90, 4320), st.integers(1, 20_000)), max_size=9, unique_by=lambda r: r[0]),
    watched=st.booleans(),
)
def test_what_is_kept_is_apart_portable_and_never_nothing(rungs: list[tuple[int, int]], *, watched: bool) -> None:
    rungs.sort(reverse=True)
    made = ladder(*rungs, fixed=(rungs[-1][0],) if watched and rungs else ())
    kept = [one for one in made if one.name in worth_keeping(made)]
    assert kept[:1] == made[:1]
    assert all(one in kept for one in made if one.fixed)
    assert any(one.short_side <= PORTABLE_SHORT_SIDE for one in kept) == any(
        one.short_side <= PORTABLE_SHORT_SIDE for one in made
    )
    portable = next((one for one in kept if one.short_side <= PORTABLE_SHORT_SIDE), None)
    for higher, lower in pairwise(kept):
        assert lower.fixed or lower is portable or higher.average_bps >= BETTER * lower.average_bps
