"""Where a long video is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_core.application.pieces import MAX_PIECES, MIN_PIECE_S, piece_starts

MAX_MEDIA_S = 12 * 3600.0


@pytest.mark.parametrize(
    ("duration_s", "slots", "count"),
    [
        (179.0, 8, 0),
        (180.0, 8, 3),
        (200.0, 2, 2),
        (250.0, 2, 4),
        (600.0, 2, 4),
        (1799.0, 1, 0),
        (7200.0, 1, 12),
        (7200.0, 4, 12),
        (7200.0, 16, 32),
    ],
)
def test_longer_videos_and_more_slots_make_more_pieces(duration_s: float, slots: int, count: int) -> None:
    assert len(piece_starts(duration_s, slots=slots, segment_s=4.0)) == count


@given(
    duration_s=st.floats(1.0, MAX_MEDIA_S),
    slots=st.integers(0, 64),
    segment_s=st.floats(1.0, 10.0),
    boundaries=st.none() | st.lists(st.floats(0.5, 30.0), max_size=200),
)
def test_pieces_begin_at_boundaries_and_are_neither_many_nor_scraps(
    duration_s: float, slots: int, segment_s: float, boundaries: list[float] | None
) -> None:
    places = [0.0]
    for gap in boundaries or ():
        if places[-1] + gap < duration_s:
            places.append(places[-1] + gap)
    given_places = () if boundaries is None else tuple(places)
    starts = piece_starts(duration_s, slots=slots, segment_s=segment_s, boundaries_s=given_places)
    assert len(starts) <= MAX_PIECES + 1
    assert len(starts) != 1
    if not starts:
        return
    assert starts[0] == 0.0
    lengths = [after - before for before, after in pairwise((*starts, duration_s))]
    assert min(lengths) >= MIN_PIECE_S / 2
    for at in starts:
        assert at in given_places if boundaries is not None else abs(at / segment_s - round(at / segment_s)) < 1e-6
