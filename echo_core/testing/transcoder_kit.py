"""The conformance kit for transcoders: inherit ``TranscoderTests`` and give it a ``transcoder``.

```python
class TestMine(TranscoderTests):
    @pytest.fixture
    def transcoder(self) -> Transcoder:
        return MyTranscoder()
```

The tests are about behaviour and cite the rules T1 to T12 of ``echo_core.plugin_api.transcoder``. What a test needs
beyond the two abstract methods is skipped, with the reason, where a capability flag says no. Needs pytest-asyncio in
mode ``auto``. The clips in ``clips/`` are generated test pictures and tones, in the public domain (CC0-1.0). Long,
because a plugin inherits one class.
"""

# ruff: noqa: D102 - the names of the tests are their documentation

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from echo_core.plugin_api import (
    ExtractAudioRequest,
    ExtractSubtitlesRequest,
    InspectRequest,
    InvalidRequestError,
    LadderRequest,
    LadderResult,
    MediaInfo,
    NotSupportedError,
    PackageRequest,
    PackageResult,
    Picture,
    PlanLadder,
    PosterRequest,
    PreviewRequest,
    Rendition,
    StoryboardRequest,
    Transcoder,
    TuneRequest,
    VideoStream,
)

CLIPS = Path(__file__).with_name("clips")
SHORT_SIDES = (72, 48, 36)
SEGMENT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class TranscoderClips:
    """Sources of the kit, each a file in a directory of its own, at least two segments (4 s) long.

    ``playable`` has picture and sound that any browser plays; ``unplayable`` has a picture that must be encoded;
    ``silent`` has no sound and ``sound_only`` no picture. The first two hold ``secrets`` in their metadata. The
    pictures have a short side of at least 72 and keyframes at least every 2 seconds.
    """

    playable: Path
    unplayable: Path
    silent: Path
    sound_only: Path
    secrets: tuple[bytes, ...]


def children() -> frozenset[int]:
    """Process ids of this process's children that have not ended; empty where /proc does not exist."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(stat.parent.name))
    return frozenset(found)


def files_below(directory: Path) -> set[Path]:
    """All regular files in a tree."""
    return {path for path in directory.rglob("*") if path.is_file()}


def boxes(data: bytes) -> Iterator[str]:
    """Names of the top-level boxes that tile ``data``; fails if they do not."""
    at = 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at, "T5: the boxes do not tile the bytes"
        yield name.decode("latin-1")
        at += size


def starts(rendition: Rendition) -> list[float]:
    """Start times of the segments, from their durations."""
    times = [0.0]
    for segment in rendition.segments[:-1]:
        times.append(times[-1] + segment.duration_s)
    return times


def picture(width: int, height: int) -> MediaInfo:
    """A source of this displayed size, for planning."""
    video = VideoStream(codec="h264", width=width, height=height, fps=30.0)
    return MediaInfo(container="mp4", duration_s=60.0, size_bytes=1, video=video)


def assert_is_picture(picture: Picture, out_dir: Path, *, max_width: int) -> None:
    """A file that is there, of the size that was allowed."""
    assert out_dir in picture.path.parents
    assert picture.path.stat().st_size > 0
    assert picture.content_type.startswith("image/")
    assert 0 < picture.width <= max_width
    assert picture.height > 0


def assert_is_rendition(rendition: Rendition, out_dir: Path) -> None:
    """T1 and T5 for one rendition."""
    assert out_dir in rendition.path.parents, "T1: outputs go below out_dir"
    data = rendition.path.read_bytes()
    init = list(boxes(data[: rendition.init_length_bytes]))
    assert init[0] == "ftyp"
    assert "moov" in init
    end = rendition.init_length_bytes
    for segment in rendition.segments:
        assert segment.offset_bytes == end, "T5: no gap, no overlap"
        end += segment.length_bytes
        names = list(boxes(data[segment.offset_bytes : end]))
        assert {"moof", "mdat"} <= set(names)
        assert segment.duration_s > 0
    assert end == len(data), "T5: segments tile the rest of the file"
    assert sum(segment.duration_s for segment in rendition.segments) == pytest.approx(rendition.duration_s, abs=0.01)
    assert 0 < rendition.average_bitrate_bps <= rendition.peak_bitrate_bps


class TranscoderTests:
    """What every transcoder promises."""

    @pytest.fixture
    def transcoder(self) -> Transcoder:
        """The transcoder under test: override this."""
        raise NotImplementedError("override the fixture 'transcoder'")

    @pytest.fixture
    def clips(self, tmp_path: Path) -> TranscoderClips:
        """The bundled clips, copied. Override for a transcoder that reads other formats."""
        paths = {}
        for source in sorted(CLIPS.iterdir()):
            directory = tmp_path / "clips" / source.stem
            directory.mkdir(parents=True)
            paths[source.stem] = Path(shutil.copy(source, directory))
        return TranscoderClips(**paths, secrets=(b"SECRET", b"+48.8577"))

    @pytest.fixture
    def out_dir(self, tmp_path: Path) -> Path:
        """An empty directory for one call; its name holds what careless quoting trips over."""
        directory = tmp_path / "out 100%d ' dir"
        directory.mkdir()
        return directory

    async def inspected(self, transcoder: Transcoder, path: Path) -> MediaInfo:
        """The facts of a clip."""
        return await transcoder.inspect(InspectRequest(path=path))

    async def encoded(
        self, transcoder: Transcoder, path: Path, out_dir: Path, *, align_to_s: tuple[float, ...] = ()
    ) -> LadderResult:
        """The ladder of a clip, two rungs or more."""
        media = await self.inspected(transcoder, path)
        rungs = transcoder.plan_ladder(PlanLadder(media=media, short_sides=SHORT_SIDES))
        request = LadderRequest(
            path=path, media=media, out_dir=out_dir, rungs=rungs, segment_s=SEGMENT_S, align_to_s=align_to_s
        )
        return await transcoder.encode_ladder(request)

    async def packaged(self, transcoder: Transcoder, path: Path, out_dir: Path) -> PackageResult:
        """A clip made playable by copying; skips where the transcoder cannot."""
        if not transcoder.supports_package:
            pytest.skip("this transcoder does not package")
        media = await self.inspected(transcoder, path)
        request = PackageRequest(path=path, media=media, out_dir=out_dir, segment_s=SEGMENT_S)
        return await transcoder.package(request)

    async def test_check_tells_facts(self, transcoder: Transcoder) -> None:
        assert (await transcoder.check()).facts

    async def test_inspect_reads_picture_and_sound(self, transcoder: Transcoder, clips: TranscoderClips) -> None:
        media = await self.inspected(transcoder, clips.playable)
        assert media.video is not None
        assert media.audio
        assert media.duration_s >= 2 * SEGMENT_S
        assert media.size_bytes == clips.playable.stat().st_size
        assert (await self.inspected(transcoder, clips.silent)).audio == ()
        assert (await self.inspected(transcoder, clips.sound_only)).video is None

    @pytest.mark.parametrize("content", [b"", b"this is a text\n" * 40, bytes(range(256)) * 16])
    async def test_t2_inspect_refuses_what_is_not_media(
        self, transcoder: Transcoder, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "film.mp4"
        path.write_bytes(content)
        with pytest.raises(InvalidRequestError) as caught:
            await self.inspected(transcoder, path)
        assert caught.value.code.startswith("media_")
        assert caught.value.message
        assert caught.value.remedy

    @pytest.mark.parametrize(
        "script",
        [
            "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n",
            "ffconcat version 1.0\nfile {name}\n",
        ],
        ids=["hls", "ffconcat"],
    )
    async def test_t2_inspect_follows_no_playlist(
        self, transcoder: Transcoder, clips: TranscoderClips, script: str
    ) -> None:
        path = clips.playable.with_name("evil.mp4")
        path.write_text(script.format(name=clips.playable.name))
        with pytest.raises(InvalidRequestError, match=r".+") as caught:
            await self.inspected(transcoder, path)
        assert caught.value.code.startswith("media_")

    @pytest.mark.parametrize("limit", [{"max_duration_s": 1.0}, {"max_pixels": 100}, {"max_streams": 1}])
    async def test_t2_inspect_keeps_to_the_limits(
        self, transcoder: Transcoder, clips: TranscoderClips, limit: dict[str, float]
    ) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            await transcoder.inspect(InspectRequest(path=clips.playable, **limit))  # type: ignore[arg-type]
        assert caught.value.code.startswith("media_")

    async def test_t1_inputs_are_left_alone(
        self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path
    ) -> None:
        before = hashlib.sha256(clips.playable.read_bytes()).digest()
        await self.encoded(transcoder, clips.playable, out_dir)
        assert hashlib.sha256(clips.playable.read_bytes()).digest() == before
        assert list(clips.playable.parent.iterdir()) == [clips.playable]

    async def test_t3_cancelling_leaves_no_process(
        self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path
    ) -> None:
        before = children()
        task = asyncio.create_task(self.encoded(transcoder, clips.unplayable, out_dir))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() <= before

    async def test_t4_progress_rises_to_one(
        self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path
    ) -> None:
        fractions: list[float] = []
        media = await self.inspected(transcoder, clips.playable)
        rungs = transcoder.plan_ladder(PlanLadder(media=media, short_sides=SHORT_SIDES))
        await transcoder.encode_ladder(
            LadderRequest(path=clips.playable, media=media, out_dir=out_dir, rungs=rungs, on_progress=fractions.append)
        )
        assert fractions == sorted(fractions)
        assert all(0 <= fraction <= 1 for fraction in fractions)
        assert fractions[-1] == 1.0

    async def test_t5_t6_t7_ladder(self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path) -> None:
        result = await self.encoded(transcoder, clips.unplayable, out_dir)
        pictures = [one for one in result.renditions if one.kind == "video"]
        sounds = [one for one in result.renditions if one.kind == "audio"]
        assert len(pictures) >= 2
        assert len(sounds) == 1, "T7: the sound is one rendition of its own"
        assert result.renditions[-1] is sounds[0]
        assert len({one.name for one in result.renditions}) == len(result.renditions)
        for one in result.renditions:
            assert_is_rendition(one, out_dir)
        for other in pictures[1:]:
            assert starts(other) == pytest.approx(starts(pictures[0]), abs=1 / other.fps + 0.001)
        assert all(one.width % 2 == 0 and one.height % 2 == 0 for one in pictures)

    async def test_t6_rungs_keep_to_the_packaged_source(
        self, transcoder: Transcoder, clips: TranscoderClips, tmp_path: Path, out_dir: Path
    ) -> None:
        packaged = await self.packaged(transcoder, clips.playable, out_dir)
        assert packaged.renditions, packaged.reason
        other_dir = tmp_path / "ladder"
        other_dir.mkdir()
        result = await self.encoded(transcoder, clips.playable, other_dir, align_to_s=packaged.boundaries_s)
        for one in result.renditions:
            if one.kind == "video":
                assert starts(one) == pytest.approx(list(packaged.boundaries_s), abs=1 / one.fps + 0.001)

    async def test_t7_silent_sources_have_no_sound(
        self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path
    ) -> None:
        result = await self.encoded(transcoder, clips.silent, out_dir)
        assert {one.kind for one in result.renditions} == {"video"}

    async def test_t7_sound_alone_is_one_rendition_beside_pictures_of_it(
        self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path
    ) -> None:
        media = await self.inspected(transcoder, clips.sound_only)
        rungs = transcoder.plan_ladder(PlanLadder(media=media, short_sides=SHORT_SIDES))
        result = await self.encoded(transcoder, clips.sound_only, out_dir)
        assert [one.kind for one in result.renditions] == ["video"] * len(rungs) + ["audio"]
        for one in result.renditions:
            assert_is_rendition(one, out_dir)

    @pytest.mark.parametrize("packaged", [False, True])
    @pytest.mark.parametrize(
        "size", [(1920, 1080), (1080, 1920), (854, 480), (641, 359), (17, 3001), (64, 64), (7680, 4320), (3, 3)]
    )
    def test_t8_plans_even_sizes_and_never_upscales(
        self, transcoder: Transcoder, size: tuple[int, int], packaged: bool
    ) -> None:
        request = PlanLadder(media=picture(*size), packaged=packaged)
        rungs = transcoder.plan_ladder(request)
        assert rungs == transcoder.plan_ladder(request), "T8: pure"
        assert packaged or rungs
        for rung in rungs:
            assert rung.width % 2 == rung.height % 2 == 0
            assert 0 < rung.width <= size[0]
            assert 0 < rung.height <= size[1]
        for codec in {rung.codec for rung in rungs}:
            areas = [rung.width * rung.height for rung in rungs if rung.codec == codec]
            assert areas == sorted(areas, reverse=True)
        assert len({rung.name for rung in rungs}) == len(rungs)
        assert not rungs or rungs[-1].codec == "h264", "T12"

    async def test_t12_tuning_changes_nothing_but_the_rate_factor(
        self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path
    ) -> None:
        media = await self.inspected(transcoder, clips.playable)
        rungs = transcoder.plan_ladder(PlanLadder(media=media, short_sides=SHORT_SIDES))
        request = TuneRequest(path=clips.playable, media=media, out_dir=out_dir, rungs=rungs)
        tuned = await transcoder.tune_ladder(request)
        assert tuple(replace(rung, crf=None) for rung in tuned) == rungs

    async def test_t9_package_copies_what_plays(
        self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path
    ) -> None:
        result = await self.packaged(transcoder, clips.playable, out_dir)
        assert [one.kind for one in result.renditions] == ["video", "audio"]
        assert result.renditions[0].copied
        assert len(result.boundaries_s) == len(result.renditions[0].segments)
        for one in result.renditions:
            assert_is_rendition(one, out_dir)

    async def test_t9_package_gives_a_reason_where_it_cannot(
        self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path
    ) -> None:
        result = await self.packaged(transcoder, clips.unplayable, out_dir)
        assert result.renditions == ()
        assert result.reason

    async def test_t10_no_metadata_comes_through(
        self, transcoder: Transcoder, clips: TranscoderClips, tmp_path: Path, out_dir: Path
    ) -> None:
        await self.encoded(transcoder, clips.unplayable, out_dir)
        if transcoder.supports_package:
            directory = tmp_path / "packaged"
            directory.mkdir()
            await self.packaged(transcoder, clips.playable, directory)
        written = files_below(tmp_path) - files_below(tmp_path / "clips")
        assert written
        for path in written:
            content = path.read_bytes()
            assert not any(secret in content for secret in clips.secrets), f"T10: metadata in {path.name}"

    async def test_t11_pieces_joined_are_the_rendition(
        self, transcoder: Transcoder, clips: TranscoderClips, tmp_path: Path, out_dir: Path
    ) -> None:
        media = await self.inspected(transcoder, clips.unplayable)
        if not transcoder.can_cut(media):
            pytest.skip("this transcoder does not cut such a source")
        whole = await self.encoded(transcoder, clips.unplayable, out_dir)
        rungs = transcoder.plan_ladder(PlanLadder(media=media, short_sides=SHORT_SIDES))
        pieces = []
        for number, (start_s, end_s) in enumerate([(0.0, SEGMENT_S), (SEGMENT_S, None)]):
            directory = tmp_path / f"piece{number}"
            directory.mkdir()
            request = LadderRequest(
                path=clips.unplayable,
                media=media,
                out_dir=directory,
                rungs=rungs,
                start_s=start_s,
                end_s=end_s,
                with_audio=False,
                segment_s=SEGMENT_S,
            )
            result = await transcoder.encode_ladder(request)
            assert [one.name for one in result.renditions] == [rung.name for rung in rungs]
            for one in result.renditions:
                assert_is_rendition(one, directory)
            pieces.append(result.renditions)
        for one, first, second in zip(whole.renditions, *pieces, strict=False):
            inits = {part.path.read_bytes()[: part.init_length_bytes] for part in (first, second)}
            assert len(inits) == 1, "T11: one initialisation for all parts"
            joined = [segment.duration_s for part in (first, second) for segment in part.segments]
            assert joined == pytest.approx([segment.duration_s for segment in one.segments], abs=1 / one.fps + 0.001)

    async def test_posters(self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path) -> None:
        media = await self.inspected(transcoder, clips.playable)
        request = PosterRequest(path=clips.playable, media=media, out_dir=out_dir, max_width=64)
        if not transcoder.supports_posters:
            with pytest.raises(NotSupportedError):
                await transcoder.posters(request)
            return
        posters = await transcoder.posters(request)
        assert 1 <= len(posters) <= request.count
        times_s = [poster.at_s for poster in posters]
        assert times_s == sorted(times_s)
        assert all(0 <= at_s <= media.duration_s for at_s in times_s)
        assert len({poster.picture.path for poster in posters}) == len(posters)
        for poster in posters:
            assert_is_picture(poster.picture, out_dir, max_width=64)

    async def test_preview(self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path) -> None:
        media = await self.inspected(transcoder, clips.playable)
        request = PreviewRequest(path=clips.playable, media=media, out_dir=out_dir, max_width=64)
        if not transcoder.supports_preview:
            with pytest.raises(NotSupportedError):
                await transcoder.preview(request)
            return
        assert_is_picture(await transcoder.preview(request), out_dir, max_width=64)

    async def test_subtitles(self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path) -> None:
        media = await self.inspected(transcoder, clips.playable)
        request = ExtractSubtitlesRequest(path=clips.playable, media=media, out_dir=out_dir)
        if not transcoder.supports_extract_subtitles:
            with pytest.raises(NotSupportedError):
                await transcoder.extract_subtitles(request)
            return
        for subtitles in await transcoder.extract_subtitles(request):
            assert subtitles.stream in media.subtitles
            assert subtitles.path.read_text().startswith("WEBVTT")

    async def test_storyboard_covers_the_duration(
        self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path
    ) -> None:
        media = await self.inspected(transcoder, clips.playable)
        request = StoryboardRequest(
            path=clips.playable, media=media, out_dir=out_dir, interval_s=1.0, tile_width=32, columns=2, rows=2
        )
        if not transcoder.supports_storyboard:
            with pytest.raises(NotSupportedError):
                await transcoder.storyboard(request)
            return
        board = await transcoder.storyboard(request)
        assert all(sheet.path.stat().st_size > 0 for sheet in board.sheets)
        assert board.tiles[0].start_s == 0
        assert board.tiles[-1].end_s == pytest.approx(media.duration_s, abs=0.01)
        for tile, following in pairwise(board.tiles):
            assert tile.end_s == pytest.approx(following.start_s)
        for tile in board.tiles:
            sheet = board.sheets[tile.sheet]
            assert tile.x + tile.width <= sheet.width
            assert tile.y + tile.height <= sheet.height

    async def test_extract_audio(self, transcoder: Transcoder, clips: TranscoderClips, out_dir: Path) -> None:
        media = await self.inspected(transcoder, clips.sound_only)
        request = ExtractAudioRequest(path=clips.sound_only, media=media, out_dir=out_dir)
        if not transcoder.supports_extract_audio:
            with pytest.raises(NotSupportedError):
                await transcoder.extract_audio(request)
            return
        sound = await transcoder.extract_audio(request)
        assert sound.duration_s == pytest.approx(media.duration_s, abs=0.2)
        assert sound.path.stat().st_size > 0
        half_s = media.duration_s / 2
        part = await transcoder.extract_audio(replace(request, start_s=half_s / 2, end_s=half_s))
        assert part.duration_s == pytest.approx(half_s / 2, abs=0.02)
        assert part.path != sound.path, "a second cut does not replace the first"
        assert sound.path.stat().st_size > part.path.stat().st_size > 0
