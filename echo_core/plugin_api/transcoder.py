"""Transcoding: from one source file to what a browser can play.

The contract, numbered so that the conformance kit (``echo_core.testing.transcoder_kit``) can cite it:

T1.  Every path in a request is absolute and local. Inputs are never written to; outputs go below ``out_dir``, which
     exists, is empty and belongs to the call.
T2.  Input bytes are hostile. A file that is not readable media raises ``InvalidRequestError`` with a code that starts
     with ``media_`` and a sentence that says what to do; it never opens anything but the given path (no playlist,
     script or URL inside the file is followed) and never takes more than its limits.
T3.  Cancelling the awaiting task ends every process of the call (the whole process group) before the
     ``CancelledError`` leaves the method; the same holds when this process is killed.
T4.  ``on_progress`` gets the done fraction, 0.0 to 1.0, non-decreasing, at most 10 times a second.
T5.  A rendition is one fragmented MP4 (CMAF): ``init_length_bytes`` bytes of initialisation, then segments that tile
     the rest of the file without gap or overlap; each starts with a keyframe.
T6.  All video renditions of one call, and of two calls with the same ``align_to_s`` and ``segment_s``, have segment
     boundaries at the same times (within one frame), so that a player can switch between them.
T7.  Audio is a rendition of its own (``kind="audio"``), shared by all video renditions: ``audio`` for the first track
     of the media, ``audio-2`` and so on for the others. A source without sound has none. For a source without picture
     ``plan_ladder`` may offer rungs of a picture of its sound; else it has only the sound.
T8.  ``plan_ladder`` is pure. It never upscales a picture and never gives an odd size; sizes are as displayed (rotation
     and sample aspect ratio applied).
T9.  ``package`` never encodes video. If the source cannot be played by copying its bytes, it returns no renditions
     and a reason; that is not an error.
T10. Metadata of the source (GPS, device) does not reach any output.
T11. A ladder of a part of the source (``start_s``, ``end_s``) keeps the source's times, and its initialisation is, byte
     for byte, that of every other part with the same media and rungs: the segments of all parts, one after another
     behind one initialisation, are the rendition of the whole. Only of sources that it ``can_cut``. Where a later part
     turns out to hold nothing that can be decoded, it has no renditions and a warning.
T12. Each codec is a ladder of its own, in ``plan_ladder`` highest first; that of ``h264``, which every player decodes,
     comes last. ``tune_ladder`` changes nothing of a rung but its ``crf``.

Longer than a module should be: whoever writes a transcoder reads one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from echo_core.plugin_api.errors import NotSupportedError
from echo_core.plugin_api.json import JsonValue
from echo_core.plugin_api.needs import Needs

Codec = Literal["h264", "hevc", "av1"]
"""Of an encoded picture. Every player knows ``h264``."""
ProgressCallback = Callable[[float], None]


def ignore_progress(fraction: float) -> None:
    """The default progress callback."""


@dataclass(frozen=True, kw_only=True)
class VideoStream:
    """The picture of a source. ``width``/``height`` as displayed; ``rotation_deg`` is what the container asks for."""

    codec: str
    width: int
    height: int
    fps: float
    profile: str = ""
    level: int = 0
    pixel_format: str = ""
    bitrate_bps: int | None = None
    rotation_deg: int = 0
    mirrored: bool = False
    """The container asks for a mirror image, whatever the rotation."""
    sample_aspect_ratio: float = 1.0
    transfer: str = ""
    """Colour transfer as ffmpeg names it; ``smpte2084`` (PQ) and ``arib-std-b67`` (HLG) are HDR."""
    interlaced: bool = False
    variable_fps: bool = False
    start_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AudioStream:
    """One sound track of a source: the ``index``-th, from 0. ``language``: BCP 47, empty if not known; ``title``: for
    people, empty if there is nothing to say."""

    codec: str
    channels: int
    sample_rate_hz: int
    profile: str = ""
    bitrate_bps: int | None = None
    language: str = ""
    title: str = ""
    start_s: float = 0.0
    index: int = 0


@dataclass(frozen=True, kw_only=True)
class SubtitleStream:
    """One subtitle track of a source that is text: the ``index``-th of its subtitles, from 0. ``forced``: it translates
    only what is not in the language of the sound."""

    codec: str
    language: str = ""
    title: str = ""
    forced: bool = False
    index: int = 0


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What ``inspect`` found. At least one of ``video`` and ``audio`` is there. The track that players are to start
    with is the first of ``audio``."""

    container: str
    duration_s: float
    size_bytes: int
    bitrate_bps: int | None = None
    video: VideoStream | None = None
    audio: tuple[AudioStream, ...] = ()
    subtitles: tuple[SubtitleStream, ...] = ()
    cover: bool = False
    """There is a still picture that stands for the whole, as music files have."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One media segment: ``length_bytes`` at ``offset_bytes`` of its rendition's file, ``duration_s`` long."""

    duration_s: float
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, kw_only=True)
class Rendition:
    """One playable stream (T5). ``codecs`` is its RFC 6381 string; bitrates are measured over segments.

    ``name`` is unique within a video and safe in a URL: ``source``, ``1080p``, ``audio``.
    """

    name: str
    kind: Literal["video", "audio"]
    path: Path
    codecs: str
    duration_s: float
    init_length_bytes: int
    segments: tuple[Segment, ...]
    peak_bitrate_bps: int
    average_bitrate_bps: int
    width: int = 0
    height: int = 0
    fps: float = 0.0
    channels: int = 0
    language: str = ""
    title: str = ""
    """Of a sound, as its track's."""
    copied: bool = False
    """The picture (or sound) is the source's own, not encoded again."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step of the ladder to encode: a video rendition of this name, even size, bitrate ceiling and codec."""

    name: str
    width: int
    height: int
    fps: float
    max_bitrate_bps: int
    codec: Codec = "h264"
    crf: float | None = None
    """The constant rate factor, in the measure of x264, that suits what is shown; None: the transcoder's own."""


@dataclass(frozen=True, kw_only=True)
class InspectRequest:
    """Read a file's facts, within limits: seconds, pixels of a frame, streams."""

    path: Path
    max_duration_s: float = 6 * 3600
    max_pixels: int = 8192 * 4320
    max_streams: int = 32


@dataclass(frozen=True, kw_only=True)
class PackageRequest:
    """Make the source playable by copying its bytes (T9)."""

    path: Path
    media: MediaInfo
    out_dir: Path
    segment_s: float = 4.0
    on_progress: ProgressCallback = ignore_progress


@dataclass(frozen=True, kw_only=True)
class PackageResult:
    """Renditions made by copying; none and a ``reason`` where that is impossible.

    ``boundaries_s`` are the start times of the video segments: give them to ``LadderRequest.align_to_s``.
    """

    renditions: tuple[Rendition, ...] = ()
    boundaries_s: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PlanLadder:
    """Ask which rungs suit a source. ``packaged``: the source itself is already a rendition.

    ``short_sides`` are the wanted heights of landscape pictures (the short side of any), highest first.
    """

    media: MediaInfo
    packaged: bool = False
    short_sides: tuple[int, ...] = (1080, 720, 480, 360, 240)


@dataclass(frozen=True, kw_only=True)
class TuneRequest:
    """Look at what a video shows, to encode these rungs of it neither worse nor larger than need be."""

    path: Path
    media: MediaInfo
    out_dir: Path
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, kw_only=True)
class LadderRequest:
    """Encode rungs in one decode. ``with_audio``: also make the sound rendition.

    ``align_to_s``: start times of segments to keep to (T6); empty: every ``segment_s``. ``start_s`` and ``end_s``
    (None: the source's end) bound a part of the picture (T11); both are times at which a segment begins. ``urgent``:
    there is nothing to watch before this is done, so other work on the machine should give way.
    """

    path: Path
    media: MediaInfo
    out_dir: Path
    rungs: tuple[Rung, ...]
    start_s: float = 0.0
    end_s: float | None = None
    with_audio: bool = True
    segment_s: float = 4.0
    align_to_s: tuple[float, ...] = ()
    urgent: bool = False
    on_progress: ProgressCallback = ignore_progress

    @property
    def duration_s(self) -> float:
        """Of the part that is wanted."""
        return (self.media.duration_s if self.end_s is None else self.end_s) - self.start_s


@dataclass(frozen=True, kw_only=True)
class LadderResult:
    """The encoded renditions, in the order of the rungs, sound last. ``warnings``: sentences about damaged input.

    ``damaged``: some of the picture could not be decoded and was patched up. Players of a copy would stop there.
    """

    renditions: tuple[Rendition, ...]
    warnings: tuple[str, ...] = ()
    damaged: bool = False


@dataclass(frozen=True, kw_only=True)
class PosterRequest:
    """Make up to ``count`` still pictures to choose a poster from, at most ``max_width`` wide."""

    path: Path
    media: MediaInfo
    out_dir: Path
    count: int = 6
    max_width: int = 1280


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image file."""

    path: Path
    content_type: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Poster:
    """A picture that could stand for the video. ``score``: the higher, the better it does."""

    picture: Picture
    at_s: float
    score: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PreviewRequest:
    """Make a short, silent, moving picture of the video, at most ``max_width`` wide and about ``duration_s`` long."""

    path: Path
    media: MediaInfo
    out_dir: Path
    max_width: int = 320
    duration_s: float = 3.0


@dataclass(frozen=True, kw_only=True)
class StoryboardRequest:
    """Make the small pictures that a player shows over its seek bar, one every ``interval_s`` (None: chosen)."""

    path: Path
    media: MediaInfo
    out_dir: Path
    interval_s: float | None = None
    tile_width: int = 160
    columns: int = 5
    rows: int = 5
    on_progress: ProgressCallback = ignore_progress


@dataclass(frozen=True, kw_only=True)
class StoryboardTile:
    """Where the picture for ``[start_s, end_s)`` lies: sheet index and pixel box."""

    start_s: float
    end_s: float
    sheet: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Storyboard:
    """Sheets of tiles; ``tiles`` cover the duration without gap, in order."""

    sheets: tuple[Picture, ...]
    tiles: tuple[StoryboardTile, ...]


@dataclass(frozen=True, kw_only=True)
class ExtractAudioRequest:
    """Extract the sound (the first track) as 16 kHz mono, for speech recognition: WAV, or Opus in Ogg (24 kbit/s).

    Only the part from ``start_s`` up to ``end_s`` (None: the end), with times of its own. Sound that begins later than
    the video is preceded by silence.
    """

    path: Path
    media: MediaInfo
    out_dir: Path
    start_s: float = 0.0
    end_s: float | None = None
    codec: Literal["wav", "opus"] = "wav"
    on_progress: ProgressCallback = ignore_progress


@dataclass(frozen=True, kw_only=True)
class ExtractedAudio:
    """A sound file."""

    path: Path
    content_type: str
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class ExtractSubtitlesRequest:
    """Extract all subtitle tracks of ``media`` as WebVTT."""

    path: Path
    media: MediaInfo
    out_dir: Path
    on_progress: ProgressCallback = ignore_progress


@dataclass(frozen=True, kw_only=True)
class Subtitles:
    """A WebVTT file with the times of the video."""

    path: Path
    stream: SubtitleStream


@dataclass(frozen=True, kw_only=True)
class EstimateRequest:
    """Ask what a call would take: ``work`` names the method, ``rungs`` are those of ``encode_ladder``."""

    work: Literal["package", "encode_ladder", "posters", "preview", "storyboard", "extract_audio", "extract_subtitles"]
    media: MediaInfo
    rungs: tuple[Rung, ...] = ()


PICTURES_BYTES = 64 << 20
"""More than any poster or storyboard takes."""
SOUND_BPS = 512_000
SPEECH_BYTES_PER_S = 32_000


@dataclass(frozen=True, kw_only=True)
class TranscoderHealth:
    """What ``check`` found: versions and capabilities by name, for ``doctor`` and the plugin list."""

    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Transcoder(ABC):
    """Makes renditions and pictures from a source file; the rules are at the top of this module."""

    supports_package: ClassVar[bool] = False
    supports_posters: ClassVar[bool] = False
    supports_preview: ClassVar[bool] = False
    supports_storyboard: ClassVar[bool] = False
    supports_extract_audio: ClassVar[bool] = False
    supports_extract_subtitles: ClassVar[bool] = False

    @abstractmethod
    async def inspect(self, request: InspectRequest) -> MediaInfo:
        """Read the facts of a file (T2)."""

    @abstractmethod
    def plan_ladder(self, request: PlanLadder) -> tuple[Rung, ...]:
        """The rungs to encode, highest first; empty when nothing needs encoding (T8, T12)."""

    async def tune_ladder(self, request: TuneRequest) -> tuple[Rung, ...]:
        """The same rungs, with the ``crf`` that suits the video (T12). The default leaves them as they are."""
        return request.rungs

    @abstractmethod
    async def encode_ladder(self, request: LadderRequest) -> LadderResult:
        """Encode all rungs in one decode (T3 to T7)."""

    def can_cut(self, media: MediaInfo) -> bool:
        """Whether parts of this source can be encoded one by one (T11). Pure."""
        return False

    def estimate(self, request: EstimateRequest) -> Needs:
        """What a call would take at its highest, its input left out. Pure.

        The default knows what outputs can amount to at most, and nothing of memory.
        """
        duration_s = request.media.duration_s
        scratch: float = PICTURES_BYTES
        if request.work == "package":
            scratch = request.media.size_bytes
        elif request.work == "extract_audio":
            scratch = duration_s * SPEECH_BYTES_PER_S
        elif request.work == "encode_ladder":
            bitrate_bps = sum(rung.max_bitrate_bps for rung in request.rungs)
            scratch = duration_s * (bitrate_bps + (SOUND_BPS if request.media.audio else 0)) / 8
        return Needs(scratch_bytes=int(scratch))

    @abstractmethod
    async def check(self) -> TranscoderHealth:
        """Versions and capabilities; raises ``UnavailableError`` with a remedy if it cannot work."""

    async def package(self, request: PackageRequest) -> PackageResult:
        """Copy the source into playable form (T9)."""
        raise NotSupportedError("This transcoder cannot package without encoding.")

    async def posters(self, request: PosterRequest) -> tuple[Poster, ...]:
        """At least one still picture, in order of time."""
        raise NotSupportedError("This transcoder cannot make posters.")

    async def preview(self, request: PreviewRequest) -> Picture:
        """A short moving picture."""
        raise NotSupportedError("This transcoder cannot make moving pictures.")

    async def storyboard(self, request: StoryboardRequest) -> Storyboard:
        """The pictures of the seek bar."""
        raise NotSupportedError("This transcoder cannot make storyboards.")

    async def extract_audio(self, request: ExtractAudioRequest) -> ExtractedAudio:
        """The sound, for speech recognition."""
        raise NotSupportedError("This transcoder cannot extract audio.")

    async def extract_subtitles(self, request: ExtractSubtitlesRequest) -> tuple[Subtitles, ...]:
        """The subtitles that have any text, in the order of the media's tracks."""
        raise NotSupportedError("This transcoder cannot extract subtitles.")
