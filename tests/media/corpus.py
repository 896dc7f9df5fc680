"""Clips that people really have, and some that nobody should: made with ffmpeg, small and short.

    python -m tests.media.corpus DIRECTORY [NAME...]

Most pictures are four quadrants (red, green; blue, yellow), so that a decoded frame tells whether it was turned or
mirrored, whether its colours are right, and whether its shape is. Long, because it is a table.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 0)
UPRIGHT = (RED, GREEN, BLUE, YELLOW)
"""Top left, top right, bottom left, bottom right."""
MAX_SKEW_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Expect:
    """What must become of a clip. ``code``: it is refused with it; everything else is then without meaning."""

    code: str = ""
    duration_s: float = 2.0
    size: tuple[int, int] | None = None
    """Of the largest rendition, as displayed."""
    corners: Sequence[tuple[int, int, int]] | None = UPRIGHT
    colour_tolerance: int = 45
    fps: float | None = None
    channels: int | None = 2
    """Of the sound; None: there is none."""
    copied: bool = False
    """Whether the source itself becomes a rendition."""
    warning: str = ""
    """Part of a warning that must be there."""
    starts_apart_s: float = 0.005
    """How far sound and picture may begin apart: those of a copy where the source's do."""
    damaged: bool = False
    """Durations and skew are not looked at."""
    languages: tuple[str, ...] = ()
    """Of the sounds, the one to start with first."""
    captions: tuple[str, ...] = ()
    """Their languages."""
    default_hz: int | None = None
    """The tone of the sound to start with."""
    poster: tuple[int, int, int] | None = None
    """The colour in its middle."""
    loudness_db: float | None = None
    """The mean volume, within 4 dB."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One file and what must become of it."""

    name: str
    make: Callable[[Path], None]
    expect: Expect
    filename: str = ""
    """What it is called when it is uploaded; its own name if empty."""


# --- how clips are made ---------------------------------------------------------------------------------------------


def quadrants(size: str = "320x180", seconds: float = 2.0, fps: str = "25") -> str:
    """A lavfi source; even the smallest picture has all four."""
    boxes = ",".join(
        f"drawbox=x={x}:y={y}:w=iw/2+1:h=ih/2+1:c={colour}:t=fill"
        for x, y, colour in (("iw/2", "0", "green"), ("0", "ih/2", "blue"), ("iw/2", "ih/2", "yellow"))
    )
    return f"color=red:s={size}:r={fps}:d={seconds},format=gbrp,{boxes}"


TONE = "sine=frequency=440:sample_rate=48000:duration={seconds}"
X264 = "-c:v libx264 -preset ultrafast -profile:v high -pix_fmt yuv420p -g 25 -bf 2"
AAC = "-c:a aac -b:a 96k -ac 2"


def ffmpeg(path: Path, *arguments: str | Path) -> None:
    program = shutil.which("ffmpeg")
    assert program is not None, "ffmpeg is not installed"
    command = [program, "-nostdin", "-v", "error", "-y", *arguments, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{path.name}: {done.stderr}")


def encoded(
    video: str = X264,
    audio: str | None = AAC,
    *,
    size: str = "320x180",
    seconds: float = 2.0,
    fps: str = "25",
    extra: str = "",
    source: str = "",
    tone: str = TONE,
    filters: str = "",
) -> Callable[[Path], None]:
    """Four quadrants and a tone, encoded so."""

    def make(path: Path) -> None:
        picture = source or quadrants(size, seconds, fps)
        inputs = ["-f", "lavfi", "-i", picture + (f",{filters}" if filters else "")]
        if audio is not None:
            inputs += ["-f", "lavfi", "-i", tone.format(seconds=seconds)]
        ffmpeg(path, *inputs, *video.split(), *(audio or "").split(), *extra.split())

    return make


def sound_only(options: str) -> Callable[[Path], None]:
    """A tone without any picture."""

    def make(path: Path) -> None:
        ffmpeg(path, "-f", "lavfi", "-i", TONE.format(seconds=2), *options.split())

    return make


def turned(matrix: tuple[int, int, int, int]) -> Callable[[Path], None]:
    """A plain clip whose track header asks for this display matrix (a, b, c, d), as phones write it."""

    def make(path: Path) -> None:
        encoded()(path)
        data = bytearray(path.read_bytes())
        at = data.index(b"tkhd") + 4
        assert data[at] == 0, "version 0 of the box"
        a, b, c, d = (value << 16 for value in matrix)
        width, height = 320, 180
        # Moved back into the picture, or players show nothing: x where a or c is negative, y where b or d is.
        x = (width if matrix[0] < 0 else 0) + (height if matrix[2] < 0 else 0)
        y = (width if matrix[1] < 0 else 0) + (height if matrix[3] < 0 else 0)
        struct.pack_into(">9i", data, at + 40, a, b, 0, c, d, 0, x << 16, y << 16, 1 << 30)
        path.write_bytes(data)

    return make


def written(content: bytes) -> Callable[[Path], None]:
    """These bytes."""

    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def changed(make_first: Callable[[Path], None], change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A clip whose bytes are then changed."""

    def make(path: Path) -> None:
        make_first(path)
        path.write_bytes(change(path.read_bytes()))

    return make


def rotten(data: bytes) -> bytes:
    """Bytes of the media changed here and there."""
    damaged = bytearray(data)
    begin, end = data.index(b"mdat") + 4000, len(data) * 3 // 4
    for at in range(begin, end, 997):
        damaged[at] ^= 0x55
    return bytes(damaged)


def hdr(transfer: str) -> Callable[[Path], None]:
    """Ten bits, BT.2020, with white at 203 cd/m2 (ITU-R BT.2408)."""
    to_light = "zscale=tin=iec61966-2-1:pin=709:rin=full:min=gbr:p=709:m=gbr:t=linear:npl=203,format=gbrpf32le"
    to_signal = f"zscale=pin=709:tin=linear:min=gbr:p=2020:t={transfer}:m=2020_ncl:r=limited:npl=203,format=yuv420p10le"
    params = f"log-level=none:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    return encoded(
        f"-c:v libx265 -preset ultrafast -x265-params {params}", filters=f"format=gbrp,{to_light},{to_signal}"
    )


def rewrapped(arguments: str, make_first: Callable[[Path], None], suffix: str = ".mp4") -> Callable[[Path], None]:
    """A clip through ffmpeg once more; ``{}`` stands for the first."""

    def make(path: Path) -> None:
        first = path.with_name(f"{path.stem}-first{suffix}")
        make_first(first)
        ffmpeg(path, *(str(first) if word == "{}" else word for word in arguments.split()))
        first.unlink()

    return make


# --- the table ------------------------------------------------------------------------------------------------------

SHAPES = [
    Clip(name="plain.mp4", make=encoded(), expect=Expect(size=(320, 180), copied=True, fps=25)),
    Clip(name="moov_at_end.mov", make=encoded(extra="-f mov"), expect=Expect(size=(320, 180), copied=True)),
    Clip(name="faststart.mp4", make=encoded(extra="-movflags +faststart"), expect=Expect(copied=True)),
    Clip(name="portrait.mp4", make=encoded(size="180x320"), expect=Expect(size=(180, 320), copied=True)),
    Clip(name="square.mp4", make=encoded(size="200x200"), expect=Expect(size=(200, 200), copied=True)),
    Clip(name="ultra_wide.mp4", make=encoded(size="640x144"), expect=Expect(size=(640, 144), copied=True)),
    Clip(name="smallest.mp4", make=encoded(size="16x16"), expect=Expect(size=(16, 16), copied=True)),
    Clip(
        name="too_large.mkv",
        make=encoded("-c:v mjpeg -q:v 20 -pix_fmt yuvj420p", None, size="9216x5184", seconds=0.2, fps="5"),
        expect=Expect(code="media_too_large"),
    ),
    Clip(
        name="odd_size.mkv",
        make=encoded("-c:v libx264 -preset ultrafast -pix_fmt yuv444p", size="321x181"),
        expect=Expect(size=(256, 144)),
    ),
    Clip(
        name="eight_k.mp4",
        make=encoded("-c:v libx264 -preset ultrafast -qp 40 -pix_fmt yuv420p", size="7680x4320", seconds=0.4, fps="5"),
        expect=Expect(duration_s=0.4),
    ),
    Clip(
        name="anamorphic.mp4",
        make=encoded(size="240x180", filters="setsar=4/3"),
        expect=Expect(size=(256, 144)),
    ),
]
"""Ladders of the corpus have the short sides 144 and 72."""

TURNED = [
    Clip(
        name="turned_90.mp4",
        make=turned((0, 1, -1, 0)),
        expect=Expect(size=(144, 256), corners=(BLUE, RED, YELLOW, GREEN)),
    ),
    Clip(
        name="turned_180.mp4",
        make=turned((-1, 0, 0, -1)),
        expect=Expect(size=(256, 144), corners=(YELLOW, BLUE, GREEN, RED)),
    ),
    Clip(
        name="turned_270.mp4",
        make=turned((0, -1, 1, 0)),
        expect=Expect(size=(144, 256), corners=(GREEN, YELLOW, RED, BLUE)),
    ),
    Clip(
        name="mirrored.mp4",
        make=turned((-1, 0, 0, 1)),
        expect=Expect(size=(256, 144), corners=(GREEN, RED, YELLOW, BLUE)),
    ),
    Clip(
        name="upside_down.mp4",
        make=turned((1, 0, 0, -1)),
        expect=Expect(size=(256, 144), corners=(BLUE, YELLOW, RED, GREEN)),
    ),
    Clip(
        name="mirrored_and_turned.mp4",
        make=turned((0, 1, 1, 0)),
        expect=Expect(size=(144, 256), corners=(RED, BLUE, GREEN, YELLOW)),
    ),
]

RATES = [
    Clip(name="film.mp4", make=encoded(fps="24000/1001"), expect=Expect(fps=23.976, copied=True)),
    Clip(name="ntsc.mp4", make=encoded(fps="30000/1001"), expect=Expect(fps=29.97, copied=True)),
    Clip(name="fifty.mp4", make=encoded(fps="50"), expect=Expect(fps=50, copied=True)),
    Clip(name="sixty.mkv", make=encoded("-c:v mpeg4 -q:v 3", fps="60000/1001"), expect=Expect(fps=59.94)),
    Clip(name="fast.mp4", make=encoded(fps="120"), expect=Expect(fps=60)),
    Clip(name="slow.mkv", make=encoded("-c:v mpeg4 -q:v 3", fps="2", seconds=6), expect=Expect(duration_s=6, fps=2)),
    Clip(
        name="interlaced_tff.ts",
        make=encoded("-vf tinterlace=4 -c:v mpeg2video -q:v 4 -flags +ilme+ildct -top 1", fps="50", audio="-c:a mp2"),
        expect=Expect(),
    ),
    Clip(
        name="interlaced_bff.avi",
        make=encoded("-vf tinterlace=5 -c:v mpeg4 -q:v 3 -flags +ilme+ildct -top 0", fps="50", audio="-c:a mp2"),
        expect=Expect(),
    ),
    Clip(
        name="variable.mkv",
        make=encoded(r"-vf select=not(mod(n\,3))+lt(n\,30) -fps_mode vfr " + X264, fps="30", seconds=3),
        expect=Expect(duration_s=3, copied=True, starts_apart_s=0.022),
    ),
    Clip(name="one_tenth.mp4", make=encoded(seconds=0.1), expect=Expect(duration_s=0.1, copied=True)),
    Clip(
        name="few_keyframes.mp4",
        make=encoded("-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 9999 -sc_threshold 0", seconds=14, fps="5"),
        expect=Expect(duration_s=14),
    ),
]

COLOURS = [
    Clip(
        name="ten_bit.mkv",
        make=encoded("-c:v libx264 -preset ultrafast -profile:v high10 -pix_fmt yuv420p10le"),
        expect=Expect(),
    ),
    Clip(
        name="four_two_two.mov",
        make=encoded("-c:v prores_ks -profile:v 2 -pix_fmt yuv422p10le", "-c:a pcm_s16le"),
        expect=Expect(),
    ),
    Clip(
        name="four_four_four.mkv",
        make=encoded("-c:v libx264 -preset ultrafast -pix_fmt yuv444p", "-c:a libopus"),
        expect=Expect(),
    ),
    Clip(name="hdr10.mp4", make=hdr("smpte2084"), expect=Expect()),
    Clip(name="hlg.mov", make=hdr("arib-std-b67"), expect=Expect()),
    Clip(name="hevc.mp4", make=encoded("-c:v libx265 -preset ultrafast -x265-params log-level=none"), expect=Expect()),
    Clip(
        name="vp9.webm", make=encoded("-c:v libvpx-vp9 -deadline realtime -cpu-used 8", "-c:a libopus"), expect=Expect()
    ),
    Clip(name="windows_media.asf", make=encoded("-c:v wmv2 -b:v 1M", "-c:a wmav2"), expect=Expect()),
]

CONTAINERS = [
    Clip(name="matroska.mkv", make=encoded(), expect=Expect(copied=True, starts_apart_s=0.022)),
    Clip(name="broadcast.ts", make=encoded(), expect=Expect(copied=True, starts_apart_s=0.022)),
    Clip(name="flash.flv", make=encoded(), expect=Expect(copied=True, starts_apart_s=0.022)),
    Clip(
        name="fragmented.mp4",
        make=encoded(extra="-movflags +frag_keyframe+empty_moov+default_base_moof"),
        expect=Expect(copied=True, starts_apart_s=0.081),
    ),
    Clip(
        name="old_phone.3gp",
        make=encoded("-c:v h263 -b:v 300k", "-c:a aac -ar 16000 -ac 1", size="176x144"),
        expect=Expect(channels=1),
    ),
    Clip(name="xvid.avi", make=encoded("-c:v mpeg4 -vtag xvid -q:v 3", "-c:a libmp3lame"), expect=Expect()),
    Clip(name="dvd.mpg", make=encoded("-c:v mpeg2video -q:v 4", "-c:a ac3"), expect=Expect()),
    Clip(
        name="animated.gif",
        make=encoded("-c:v gif", None, fps="10"),
        expect=Expect(channels=None),
    ),
    Clip(
        name="recorded_by_a_browser.webm",
        make=encoded("-c:v libvpx -deadline realtime -cpu-used 8", "-c:a libopus -f webm -live 1"),
        expect=Expect(),
    ),
]

SOUNDS = [
    Clip(
        name="song.mp3",
        make=sound_only("-c:a libmp3lame -ac 2"),
        expect=Expect(size=(256, 144), corners=None, fps=5, copied=True),
    ),
    Clip(
        name="recording.wav",
        make=sound_only("-c:a pcm_s16le -ac 1"),
        expect=Expect(size=(256, 144), corners=None, channels=1, copied=True),
    ),
    Clip(
        name="with_cover.m4a",
        make=lambda path: _with_cover(path),
        expect=Expect(size=(256, 144), corners=None, copied=True, poster=BLUE),
    ),
    Clip(
        name="two_languages.mkv",
        make=lambda path: _two_languages(path),
        expect=Expect(copied=True, starts_apart_s=0.022, languages=("en", "de"), captions=("en", "de"), default_hz=440),
    ),
    Clip(
        name="dialogue_in_the_centre.mkv",
        make=encoded(
            audio="-filter_complex [1]pan=5.1|FC=c0[a] -map 0:v -map [a] -c:a ac3 -b:a 384k",
        ),
        expect=Expect(copied=True, loudness_db=-27),
    ),
    Clip(name="silent.mp4", make=encoded(audio=None), expect=Expect(channels=None, copied=True)),
    Clip(name="mono.mp4", make=encoded(audio="-c:a aac -ac 1"), expect=Expect(channels=1, copied=True)),
    Clip(
        name="slow_samples.mp4", make=encoded(audio="-c:a aac -ar 8000 -ac 1"), expect=Expect(channels=1, copied=True)
    ),
    Clip(name="fast_samples.mkv", make=encoded(audio="-c:a flac -ar 96000 -ac 2"), expect=Expect(copied=True)),
    Clip(
        name="late_sound.mp4",
        make=rewrapped("-i {} -itsoffset 0.7 -i {} -map 0:v -map 1:a -c copy -t 2", encoded()),
        expect=Expect(copied=True),
    ),
    Clip(
        name="edit_list.mp4", make=rewrapped("-ss 1.3 -i {} -c copy", encoded(seconds=4)), expect=Expect(duration_s=2.7)
    ),
]

DAMAGED = [
    Clip(
        name="cut_off.mp4",
        make=changed(encoded(seconds=6, extra="-movflags +faststart"), lambda data: data[: len(data) // 2]),
        expect=Expect(damaged=True, warning="of 0:06 could be read"),
    ),
    Clip(
        name="bit_rot.mp4",
        make=changed(encoded(seconds=6, source="testsrc2=s=320x180:r=25:d=6"), lambda data: rotten(data)),
        expect=Expect(damaged=True, corners=None, warning="damaged", size=(256, 144)),
    ),
    Clip(
        name="cut_off.mkv",
        make=changed(encoded(seconds=6), lambda data: data[: len(data) // 2]),
        expect=Expect(damaged=True),
    ),
    Clip(
        name="without_index.mp4",
        make=changed(encoded(), lambda data: data[: data.index(b"moov") - 4]),
        expect=Expect(code="media_truncated"),
    ),
]

HOSTILE = [
    Clip(name="noise.mp4", make=written(bytes(range(256)) * 40), expect=Expect(code="media_unreadable")),
    Clip(
        name="page.mp4", make=written(b"<html><body>not a film</body></html>"), expect=Expect(code="media_unreadable")
    ),
    Clip(
        name="playlist.mp4",
        make=written(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"),
        expect=Expect(code="media_unreadable"),
    ),
    Clip(
        name="script.mp4",
        make=written(b"ffconcat version 1.0\nfile '/etc/passwd'\n"),
        expect=Expect(code="media_unreadable"),
    ),
    Clip(
        name="drawing.mp4",
        make=written(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        expect=Expect(code="media_unreadable"),
    ),
    Clip(
        name="rare_codec.mkv",
        make=encoded("-c:v huffyuv -pix_fmt yuv422p", None, seconds=0.2),
        expect=Expect(code="media_codec_unsupported"),
    ),
    Clip(
        name="only_subtitles.mkv",
        make=lambda path: _subtitles(path),
        expect=Expect(code="media_no_streams"),
    ),
    Clip(
        name="named_by_an_attacker.mp4",
        filename='-i;$(touch x) %d #?".mp4',
        make=encoded(),
        expect=Expect(copied=True),
    ),
]


def _with_cover(path: Path) -> None:
    song = path.with_suffix(".aac.m4a")
    sound_only("-c:a aac -ac 2")(song)
    cover = ["-f", "lavfi", "-i", "color=blue:s=300x300:d=0.1"]
    options = "-map 0 -map 1 -c:a copy -c:v mjpeg -frames:v 1 -disposition:v attached_pic"
    ffmpeg(path, "-i", song, *cover, *options.split())
    song.unlink()


def _two_languages(path: Path) -> None:
    texts = []
    for language, words in (("en", "hello"), ("de", "hallo")):
        texts.append(path.with_name(f"{language}.srt"))
        texts[-1].write_text(f"1\n00:00:00,500 --> 00:00:01,500\n{words}\n")
    inputs = ["-f", "lavfi", "-i", quadrants()]
    for hertz in (440, 880):
        inputs += ["-f", "lavfi", "-i", f"sine=frequency={hertz}:sample_rate=48000:duration=2"]
    options = f"-map 0 -map 1 -map 2 -map 3 -map 4 {X264} {AAC} -c:s srt"
    for kind in "as":
        options += f" -metadata:s:{kind}:0 language=eng -metadata:s:{kind}:1 language=ger"
    ffmpeg(path, *inputs, "-i", texts[0], "-i", texts[1], *options.split())
    for text in texts:
        text.unlink()


def _subtitles(path: Path) -> None:
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    ffmpeg(path, "-i", text)
    text.unlink()


CLIPS: tuple[Clip, ...] = (*SHAPES, *TURNED, *RATES, *COLOURS, *CONTAINERS, *SOUNDS, *DAMAGED, *HOSTILE)


def make_all(directory: Path, clips: Sequence[Clip] = CLIPS) -> dict[str, Path]:
    """Make those that are not there; paths by name."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {}
    for clip in clips:
        path = paths[clip.name] = directory / clip.name
        if not path.exists():
            clip.make(path)
    return paths


if __name__ == "__main__":
    wanted = [clip for clip in CLIPS if clip.name in sys.argv[2:] or not sys.argv[2:]]
    for name, made in make_all(Path(sys.argv[1]), wanted).items():
        sys.stdout.write(f"{made.stat().st_size:10} {name}\n")
