"""Small generated clips, made once for a run, and the transcoder that reads them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

from echo_core.plugin_api import InspectRequest, LadderRequest, LadderResult, MediaInfo, PackageRequest, PackageResult
from echo_core.plugin_api import PlanLadder as Plan

MakeClip = Callable[[str], Path]

PICTURE = "-f lavfi -i testsrc2=size=160x90:rate=30:duration=5"
SOUND = "-f lavfi -i sine=frequency=440:duration=5"
NOISE = "-f lavfi -i anoisesrc=d=5:r=48000:c=pink:a=0.3"
X264 = "-c:v libx264 -preset ultrafast -profile:v main -pix_fmt yuv420p -g 60 -bf 2"
CLIPS = {
    "normal.mp4": f"{PICTURE} {SOUND} {X264} -c:a aac -ac 2",
    "no_sound.mp4": f"{PICTURE} {X264}",
    "sound.mp3": f"{SOUND} -c:a libmp3lame",
    "sound.m4a": f"{SOUND} -c:a aac",
    "odd_slow.mkv": "-f lavfi -i testsrc2=size=161x91:rate=2:duration=9 -c:v libx264 -preset ultrafast"
    " -pix_fmt yuv444p",
    "surround.mkv": f"{PICTURE} -f lavfi -i anoisesrc=d=5:r=48000 -af pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0"
    f" {X264} -c:a ac3",
    "uneven.mp4": rf"{PICTURE} {SOUND} -vf select=not(mod(n\,3))+lt(n\,60) -fps_mode vfr {X264} -c:a aac",
    "upside_down.mp4": "-display_vflip -i {normal.mp4} -c copy",
    "rotated.mp4": "-display_rotation 90 -i {normal.mp4} -c copy",
    "browser.webm": f"{PICTURE} {SOUND} -c:v libvpx -deadline realtime -c:a libopus -f webm -live 1",
    "broadcast.ts": "-i {normal.mp4} -c copy",
    "late_sound.mp4": f"{PICTURE} -itsoffset 1.5 {SOUND} -map 0 -map 1 {X264} -c:a aac",
    "off_the_grid.mkv": "-i {ntsc.mp4} -c copy",  # the picture starts 21 ms late, as behind every AAC encoder
    "cut_off.mkv": "-i {ntsc.mp4} -c copy",
    "edit_list.mp4": "-ss 1.7 -i {normal.mp4} -c copy",
    "interlaced.mp4": "-f lavfi -i testsrc2=size=160x96:rate=30:duration=3 -c:v libx264 -preset ultrafast"
    " -pix_fmt yuv420p -flags +ildct+ilme -x264-params tff=1",
    "hdr.mp4": "-f lavfi -i testsrc2=size=160x90:rate=30:duration=2 -c:v libx265 -preset ultrafast -pix_fmt yuv420p10le"
    " -x265-params log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc",
    "one_frame.mp4": f"-f lavfi -i color=red:s=64x64:d=0.04:r=25 {X264}",
    "wide_pixels.mp4": f"{PICTURE} {X264} -vf setsar=4/3",
    "fast.mp4": f"-f lavfi -i testsrc2=size=160x90:rate=120:duration=2 {X264}",
    "ntsc.mp4": f"-f lavfi -i testsrc2=size=160x90:rate=30000/1001:duration=9 -f lavfi -i sine=d=9 {X264} -c:a aac",
    "few_keyframes.mp4": "-f lavfi -i testsrc2=size=64x36:rate=10:duration=20 -c:v libx264 -preset ultrafast"
    " -profile:v main -pix_fmt yuv420p -g 1000 -sc_threshold 0",
    "cover.mp3": "-i {sound.mp3} -f lavfi -i color=blue:s=300x300:d=0.1 -map 0 -map 1 -c:a copy -c:v mjpeg"
    " -frames:v 1 -disposition:v attached_pic",
    "faststart.mp4": "-i {normal.mp4} -c copy -movflags +faststart",
    "flash_beep.mp4": "-f lavfi -i color=black:s=64x36:r=30:d=4,drawbox=c=white:t=fill:enable='between(t,2,2.2)'"
    " -f lavfi -i sine=f=1000:r=48000:d=4,volume='if(between(t,2,2.2),1,0)':eval=frame:precision=float"
    f" {X264} -c:a aac -b:a 128k",
    "rare_codec.mkv": "-f lavfi -i testsrc2=size=64x36:rate=10:duration=1 -c:v huffyuv",
    "many_streams.mkv": f"{SOUND} " + "-map 0 " * 34 + "-c:a pcm_u8 -ar 8000 -t 0.2",
    "black_then_pictures.mp4": "-f lavfi -i color=black:s=160x90:r=10:d=8"
    " -f lavfi -i testsrc2=size=160x90:rate=10:duration=7,fade=in:d=2 -f lavfi -i color=gray:s=160x90:r=10:d=3"
    " -filter_complex [0][1][2]concat=n=3 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10",
    "half_blurred.mp4": "-f lavfi -i testsrc2=size=160x90:rate=10:duration=3,gblur=sigma=8"
    " -f lavfi -i testsrc2=size=160x90:rate=10:duration=3 -filter_complex [0][1]concat=n=2"
    " -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10",
    "two_languages.mkv": f"{PICTURE} {SOUND} -f lavfi -i sine=frequency=880:duration=5 -i {{captions.srt}} {X264}"
    " -map 0:v -map 1:a -map 2:a -map 3:s -map 3:s -c:a aac -c:s:0 srt -c:s:1 ass"
    " -metadata:s:a:0 language=eng -metadata:s:a:0 title=Commentary -metadata:s:a:1 language=fre"
    " -disposition:a:0 0 -disposition:a:1 default -metadata:s:s:0 language=ger"
    " -metadata:s:s:1 title=Signs -disposition:s:1 forced",
    "slide.mp4": f"-f lavfi -i color=navy:s=160x90:r=30:d=8 {X264}",
    "noise.mp4": f"-f lavfi -i nullsrc=s=160x90:r=30:d=8 -vf geq=random(1)*255:128:128 {X264}",
    "quiet.mp4": f"{PICTURE} {NOISE} -af volume=-20dB {X264} -c:a aac -ac 2",
    "loud.mp4": f"{PICTURE} {NOISE} -af volume=14dB {X264} -c:a aac -ac 2",
    "right.mp4": f"{PICTURE} {NOISE} -af volume=9.5dB {X264} -c:a aac -ac 2",
    "silent.mp4": f"{PICTURE} -f lavfi -i anullsrc=d=5 {X264} -c:a aac -ac 2",
    "drum.mp4": f"{PICTURE} -f lavfi -i aevalsrc=sin(2*PI*300*t)*if(lt(mod(t\\,1)\\,0.004)\\,0.5\\,0.01):d=5"
    f" {X264} -c:a aac",
    "two_levels.mkv": "-i {quiet.mp4} -i {loud.mp4} -map 0:v -map 0:a -map 1:a -c copy",
    "quiet_surround.mkv": f"{PICTURE} {NOISE} -af pan=5.1|c0=c0|c1=c0|c2=0.1*c0|c3=c0|c4=0.3*c0|c5=c0,volume=-20dB"
    f" {X264} -c:a ac3",
    "large.mp4": f"-f lavfi -i testsrc2=size=640x360:rate=25:duration=30 {X264}",
    "subtitles.mkv": "-i {captions.srt}",
}


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> MakeClip:
    """Make a clip by name, once, alone in its directory."""
    directory = tmp_path_factory.mktemp("clips")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    captions = directory / "captions.srt"
    captions.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")

    def make(name: str) -> Path:
        path = directory / Path(name).stem / name
        if name == captions.name:
            return captions
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            arguments = [
                str(make(part[1:-1]))
                if part.startswith("{")
                else part.replace("'", "")
                if "drawbox" not in part and "volume" not in part
                else part
                for part in CLIPS[name].split()
            ]
            subprocess.run([ffmpeg, "-v", "error", "-nostdin", "-y", *arguments, path], check=True, timeout=60)
            if name.startswith("cut_off"):
                os.truncate(path, path.stat().st_size * 5 // 9)
        return path

    return make


@pytest.fixture(scope="session")
def transcoder() -> FfmpegTranscoder:
    return FfmpegTranscoder(FfmpegConfig(preset="superfast"))


class Work:
    """The usual calls on one source, each in a directory of its own."""

    def __init__(self, transcoder: FfmpegTranscoder, directory: Path) -> None:
        self.transcoder = transcoder
        self._directory = directory
        self._calls = 0

    def out_dir(self) -> Path:
        self._calls += 1
        directory = self._directory / f"call{self._calls}"
        directory.mkdir()
        return directory

    async def inspect(self, path: Path) -> MediaInfo:
        return await self.transcoder.inspect(InspectRequest(path=path))

    async def package(self, path: Path) -> PackageResult:
        media = await self.inspect(path)
        return await self.transcoder.package(PackageRequest(path=path, media=media, out_dir=self.out_dir()))

    async def encode(
        self, path: Path, short_sides: tuple[int, ...] = (90, 48), align_to_s: tuple[float, ...] = ()
    ) -> LadderResult:
        media = await self.inspect(path)
        rungs = self.transcoder.plan_ladder(Plan(media=media, short_sides=short_sides))
        return await self.transcoder.encode_ladder(
            LadderRequest(path=path, media=media, out_dir=self.out_dir(), rungs=rungs, align_to_s=align_to_s)
        )


@pytest.fixture
def work(transcoder: FfmpegTranscoder, tmp_path: Path) -> Work:
    return Work(transcoder, tmp_path)


@pytest.fixture
def alone(tmp_path: Path) -> Callable[[Path], Path]:
    """Copy a clip to a place where it may be changed."""

    def copy(path: Path) -> Path:
        return Path(shutil.copy(path, tmp_path / path.name))

    return copy
