"""Every clip of the corpus through the whole product: what comes out is what went in, or a sentence says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.e2e.api import NO_TLS
from tests.media import validity
from tests.media.conftest import Processed
from tests.media.corpus import CLIPS, MAX_SKEW_S, Clip, Expect

pytestmark = pytest.mark.e2e

DURATION_TOLERANCE_S = 0.12


@pytest.mark.parametrize("clip", CLIPS, ids=[clip.name for clip in CLIPS])
def test_clip(clip: Clip, processed: Callable[[str], Processed], tmp_path: Path) -> None:
    expect, found = clip.expect, processed(clip.name)
    if expect.code:
        error: dict[str, str] = found.job["error"]  # type: ignore[assignment]
        assert found.job["state"] == "failed"
        assert error["code"] == expect.code, error
        assert error["message"]
        assert error["remedy"]
        assert found.details["status"] == "failed"
        return
    assert found.job["state"] == "succeeded", found.job["error"]
    assert found.details["status"] == "ready"
    presentation = validity.load(str(found.details["playbackUrl"]), tmp_path)
    validity.check(presentation, damaged=expect.damaged, max_skew_s=MAX_SKEW_S, starts_apart_s=expect.starts_apart_s)
    assert (found.step("package")["state"] == "succeeded") is expect.copied, found.step("package")
    check_picture(presentation, expect)
    check_sound(presentation, expect)
    check_tracks(presentation, expect, found, tmp_path)
    if expect.warning:
        assert any(expect.warning in warning for warning in found.warnings), found.warnings
    elif not expect.damaged:
        assert found.warnings == []


def check_picture(presentation: validity.Presentation, expect: Expect) -> None:
    assert presentation.videos, "there is something to see"
    largest = presentation.videos[-1]
    if expect.size is not None:
        assert tuple(largest.declared["resolution"]) == expect.size
    if expect.fps is not None:
        assert largest.declared["fps"] == pytest.approx(expect.fps, abs=0.01)
    if not expect.damaged:
        for stream in presentation.videos:
            assert stream.end_s - stream.first_s == pytest.approx(expect.duration_s, abs=DURATION_TOLERANCE_S)
    if expect.corners is not None:
        for stream in presentation.videos:
            for corner, wanted in zip(corners(stream), expect.corners, strict=True):
                far = max(abs(a - b) for a, b in zip(corner, wanted, strict=True))
                assert far <= expect.colour_tolerance, f"{corners(stream)} instead of {expect.corners}"


def corners(stream: validity.Stream) -> list[tuple[int, ...]]:
    """The mean colour of the middle of each quadrant, halfway through."""
    width, height, data = validity.pixels(stream, (stream.end_s - stream.first_s) / 2)
    found = []
    for y_quarter in (1, 3):
        for x_quarter in (1, 3):
            x, y = width * x_quarter // 4, height * y_quarter // 4
            near = [(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
            at = [(py * width + px) * 3 for px, py in near]
            found.append(tuple(sum(data[i + channel] for i in at) // len(at) for channel in range(3)))
    return found


def check_tracks(presentation: validity.Presentation, expect: Expect, found: Processed, directory: Path) -> None:
    """Languages, captions and the poster."""
    if expect.languages:
        assert [sound.declared["language"] for sound in presentation.audios] == list(expect.languages)
        assert [sound.declared["default"] for sound in presentation.audios] == ["YES"] + ["NO"] * (
            len(expect.languages) - 1
        )
    assert [caption.language for caption in presentation.captions] == list(expect.captions)
    for caption in presentation.captions:
        assert "00:00.500 --> 00:01.500" in caption.text.replace("00:00:0", "00:0").replace(".521", ".500")
        assert {"en": "hello", "de": "hallo"}[caption.language] in caption.text
    if expect.default_hz is not None:
        assert validity.pitch_hz(presentation.audios[0]) == pytest.approx(expect.default_hz, rel=0.05)
    poster = directory / "poster.jpg"
    poster.write_bytes(fetch(str(found.details["posterUrl"])))
    width, height, data = validity.picture(poster)
    middle = (height // 2 * width + width // 2) * 3
    if expect.poster is not None:
        assert tuple(data[middle : middle + 3]) == pytest.approx(expect.poster, abs=40)
    assert max(data) > 40, "the poster is not black"


def fetch(url: str) -> bytes:
    answer = httpx2.get(url, follow_redirects=True, verify=NO_TLS)
    assert answer.status_code == 200
    return answer.content


def check_sound(presentation: validity.Presentation, expect: Expect) -> None:
    if expect.channels is None:
        if not expect.damaged:
            assert not presentation.audios
        return
    assert presentation.audios
    for sound in presentation.audios:
        if not expect.damaged:
            assert sound.end_s - sound.first_s == pytest.approx(expect.duration_s, abs=DURATION_TOLERANCE_S)
        assert validity.loudness_db(sound) > -40, "it can be heard"
    if expect.loudness_db is not None:
        assert validity.loudness_db(presentation.audios[0]) == pytest.approx(expect.loudness_db, abs=4)
