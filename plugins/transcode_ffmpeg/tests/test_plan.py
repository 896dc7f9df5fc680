"""Which rungs a source gets (T8)."""

import pytest
from echo_transcode_ffmpeg.plan import exact_fps, plan_ladder, target_fps
from hypothesis import given
from hypothesis import strategies as st

from echo_core.plugin_api import MediaInfo, PlanLadder, VideoStream

SIDES = st.integers(1, 8192)
RATES = st.floats(0.1, 480, allow_nan=False)


def source(width: int, height: int, fps: float = 30.0, *, variable: bool = False) -> MediaInfo:
    video = VideoStream(codec="h264", width=width, height=height, fps=fps, variable_fps=variable)
    return MediaInfo(container="mp4", duration_s=60, size_bytes=1, video=video)


def names(width: int, height: int, *, packaged: bool = False) -> list[str]:
    return [rung.name for rung in plan_ladder(PlanLadder(media=source(width, height), packaged=packaged))]


@given(SIDES, SIDES, RATES, st.booleans(), st.booleans(), st.sets(st.integers(2, 4320), max_size=6))
def test_rungs_are_even_distinct_descending_and_never_larger_than_the_source(
    width: int, height: int, fps: float, variable: bool, packaged: bool, sides: set[int]
) -> None:
    media = source(width, height, fps, variable=variable)
    rungs = plan_ladder(PlanLadder(media=media, packaged=packaged, short_sides=tuple(sides)))
    areas = [rung.width * rung.height for rung in rungs]
    assert areas == sorted(areas, reverse=True)
    assert len({(rung.width, rung.height) for rung in rungs}) == len({rung.name for rung in rungs}) == len(rungs)
    assert len({rung.fps for rung in rungs}) <= 1
    for rung in rungs:
        assert rung.width % 2 == rung.height % 2 == 0
        assert 2 <= rung.width <= max(2, width)
        assert 2 <= rung.height <= max(2, height)
        assert 0 < rung.fps <= 60.5
        assert rung.max_bitrate_bps > 0


@given(SIDES, SIDES)
def test_any_picture_gets_a_rung_unless_it_is_packaged(width: int, height: int) -> None:
    assert names(width, height)


@given(st.integers(64, 4096), st.integers(64, 4096))
def test_rungs_keep_the_shape_of_the_picture(width: int, height: int) -> None:
    for rung in plan_ladder(PlanLadder(media=source(width, height))):
        assert abs(rung.width - rung.height * width / height) <= 2 + 2 * width / height
        assert (rung.width > rung.height) == (width > height) or abs(width - height) <= 2 or rung.width == rung.height


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), ["1080p", "720p", "480p", "360p", "240p"]),
        ((1080, 1920), ["1080p", "720p", "480p", "360p", "240p"]),
        ((3840, 2160), ["1080p", "720p", "480p", "360p", "240p"]),
        ((1600, 900), ["900p", "720p", "480p", "360p", "240p"]),
        ((1280, 700), ["720p", "480p", "360p", "240p"]),
        ((200, 100), ["100p"]),
    ],
)
def test_rungs_by_the_short_side(size: tuple[int, int], expected: list[str]) -> None:
    assert names(*size) == expected


def test_a_packaged_source_gets_only_rungs_well_below_it() -> None:
    assert names(1920, 1080, packaged=True) == ["720p", "480p", "360p", "240p"]
    assert names(854, 480, packaged=True) == ["360p", "240p"]
    assert names(320, 180, packaged=True) == []


def test_sound_alone_gets_one_rung_of_a_picture_of_it() -> None:
    (rung,) = plan_ladder(PlanLadder(media=MediaInfo(container="mp3", duration_s=9, size_bytes=1)))
    assert (rung.name, rung.width, rung.height) == ("720p", 1280, 720)


def test_fast_pictures_may_use_more_bits() -> None:
    slow, fast = (plan_ladder(PlanLadder(media=source(1920, 1080, fps)))[0] for fps in (30, 60))
    assert fast.max_bitrate_bps == 1.5 * slow.max_bitrate_bps


@pytest.mark.parametrize(
    ("fps", "variable", "expected"),
    [
        (30, False, 30),
        (120, False, 60),
        (144, False, 36),
        (18.7, True, 24),
        (29.9, True, 30),
        (71, True, 50),
        (1, False, 1),
    ],
)
def test_rates(fps: float, variable: bool, expected: float) -> None:
    assert target_fps(VideoStream(codec="h264", width=9, height=9, fps=fps, variable_fps=variable)) == expected


@pytest.mark.parametrize(
    ("fps", "expected"), [(29.97, "30000/1001"), (30000 / 1001, "30000/1001"), (23.976, "24000/1001"), (12.5, "25/2")]
)
def test_decimal_rates_are_made_exact(fps: float, expected: str) -> None:
    assert str(exact_fps(fps)) == expected
