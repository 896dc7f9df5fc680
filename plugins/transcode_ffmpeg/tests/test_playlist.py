"""From playlist and file to a rendition (T5)."""

import shutil
from pathlib import Path

import pytest
from echo_transcode_ffmpeg.playlist import BrokenOutputError, bitrates, measure, parse
from hypothesis import given
from hypothesis import strategies as st

from echo_core.plugin_api import InsufficientStorageError, Segment

LENGTHS = st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**8)), min_size=1, max_size=50)


@given(st.integers(1, 10_000), LENGTHS)
def test_reads_back_what_a_playlist_says(init: int, lengths: list[tuple[int, int]]) -> None:
    lines, offset = ["#EXTM3U", f'#EXT-X-MAP:URI="a.mp4",BYTERANGE="{init}@0"'], init
    expected = []
    for length, duration_us in lengths:
        lines += [f"#EXTINF:{duration_us / 1e6:.6f},", f"#EXT-X-BYTERANGE:{length}@{offset}", "a.mp4"]
        expected.append(Segment(duration_s=duration_us / 1e6, offset_bytes=offset, length_bytes=length))
        offset += length
    assert parse("\n".join([*lines, "#EXT-X-ENDLIST"])) == (init, tuple(expected))


@given(LENGTHS)
def test_the_peak_is_never_below_the_average(lengths: list[tuple[int, int]]) -> None:
    segments = tuple(
        Segment(duration_s=duration_us / 1e6, offset_bytes=0, length_bytes=length) for length, duration_us in lengths
    )
    peak, average = bitrates(segments)
    assert peak >= average >= 0


def test_a_last_scrap_does_not_make_the_peak() -> None:
    segments = (
        Segment(duration_s=4, offset_bytes=0, length_bytes=4000),
        Segment(duration_s=0.04, offset_bytes=4000, length_bytes=4000),
    )
    assert bitrates(segments)[0] < 20_000


@pytest.mark.parametrize("damage", ["missing", "shortened", "lengthened", "not_mp4"])
def test_output_that_is_not_whole_is_refused(tmp_path: Path, damage: str) -> None:
    clip = Path(__file__).parent / "data" / "one_segment"
    for suffix in (".mp4", ".m3u8"):
        shutil.copy(clip.with_suffix(suffix), tmp_path / f"v{suffix}")
    assert measure(tmp_path, "v", "video").rendition.codecs.startswith("avc1.")
    shutil.copy(clip.with_suffix(".m3u8"), tmp_path / "v.m3u8")
    path = tmp_path / "v.mp4"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"shortened": content[:-1], "lengthened": content + b"x", "not_mp4": bytes(len(content))}[damage]
        )
    with pytest.raises(BrokenOutputError):
        measure(tmp_path, "v", "video")


def test_empty_playlist_means_that_the_disk_was_full(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "data" / "one_segment.mp4", tmp_path / "v.mp4")
    (tmp_path / "v.m3u8").touch()
    with pytest.raises(InsufficientStorageError):
        measure(tmp_path, "v", "audio")
