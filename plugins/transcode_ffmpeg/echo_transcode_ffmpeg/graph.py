"""The filters between decoder and encoders: one decode, each rung scaled from the one above it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from echo_core.plugin_api import Rung, VideoStream
from echo_transcode_ffmpeg.plan import exact_fps

HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
HDR_WHITE = 203
"""Of white paper, in cd/m2 (ITU-R BT.2408)."""
HDR_PEAK = 1000
"""The brightest that HDR is made for; the little that is brighter still becomes white."""
AUDIO_RATE_HZ = 48_000
WAVE_RATE_HZ = 8000
WAVE_ENVELOPE_HZ = 200
WAVE_COLOUR = "0x6ea8fe"
AAC_PRIMING_SAMPLES = 1024

Stream = Any
"""A node of ffmpeg-python, which ships no types."""


def is_hdr(video: VideoStream) -> bool:
    """Whether the picture must be tone mapped for an ordinary screen."""
    return video.transfer in HDR_TRANSFERS


def tonemap(stream: Stream, video: VideoStream) -> Stream:
    """From HDR to BT.709: what is no brighter than white paper stays as it is, what shines is compressed into the rest.

    The input is named outright: files often leave out what zscale needs to know.
    """
    stream = stream.filter("zscale", tin=video.transfer, min="2020_ncl", pin="2020", t="linear", npl=HDR_WHITE)
    stream = stream.filter("format", "gbrpf32le").filter("zscale", p="bt709")
    stream = stream.filter("tonemap", "mobius", param=0.5, peak=HDR_PEAK / HDR_WHITE, desat=0)
    return stream.filter("zscale", t="bt709", m="bt709", r="tv")


def progressive(source: Stream, video: VideoStream) -> Stream:
    """Whole frames, where a source has fields."""
    return source.filter("bwdif", mode="send_frame") if video.interlaced else source


def rung_streams(stream: Stream, video: VideoStream, rungs: Sequence[Rung], *, can_tonemap: bool) -> dict[str, Stream]:
    """The encoders' inputs by rung name, of frames at the rate of the fastest."""
    base_fps = max(rung.fps for rung in rungs)
    outputs: dict[str, Stream] = {}
    by_size = sorted(rungs, key=lambda rung: rung.width * rung.height, reverse=True)
    for number, rung in enumerate(by_size):
        stream = stream.filter("scale", rung.width, rung.height)
        if number == 0:
            if is_hdr(video) and can_tonemap:
                # After the first scaling: it costs a second of CPU per second of 1080p.
                stream = tonemap(stream, video)
            stream = stream.filter("format", "yuv420p")
        stream = stream.filter("setsar", 1)
        own = stream
        if number < len(by_size) - 1:
            split = stream.filter_multi_output("split", 2)
            own, stream = split[0], split[1]
        outputs[rung.name] = own.filter("fps", fps=str(exact_fps(rung.fps))) if rung.fps < base_fps else own
    return outputs


def waveform(source: Stream, rung: Rung, duration_s: float) -> Stream:
    """A picture of the sound, on show for its whole length."""
    frames = max(1, round(duration_s * rung.fps))
    stream = wave_picture(source, rung.width, rung.height, duration_s).filter("setpts", "0")
    stream = stream.filter("loop", loop=frames - 1, size=1).filter("setpts", f"N/{rung.fps:g}/TB")
    stream = stream.filter("fps", fps=rung.fps, eof_action="pass")
    return stream.filter("format", "yuv420p").filter("setsar", 1)


def wave_picture(source: Stream, width: int, height: int, duration_s: float) -> Stream:
    """One picture of the loudness over time. Of few samples, since showwavespic keeps all of them until the end; but
    more than there are columns, without which it shows nothing."""
    envelope_hz = min(AUDIO_RATE_HZ, max(WAVE_ENVELOPE_HZ, math.ceil(4 * width / duration_s)))
    stream = source.filter("aformat", channel_layouts="mono").filter("aresample", max(WAVE_RATE_HZ, envelope_hz))
    stream = stream.filter("aeval", "abs(val(0))", c="same").filter("aresample", envelope_hz)
    return stream.filter("showwavespic", s=f"{width}x{height}", colors=WAVE_COLOUR, scale="sqrt")


def audio_stream(source: Stream) -> Stream:
    """The sound encoder's input: silence where the source has gaps, and starting at 0.

    As many samples are cut off as the encoder puts before the first one; so the sound stays in step with the picture
    without an edit list, which players of fragments ignore.
    """
    stream = source.filter("aresample", AUDIO_RATE_HZ, **{"async": 1, "first_pts": 0})
    return stream.filter("atrim", start_sample=AAC_PRIMING_SAMPLES).filter("asetpts", "N/SR/TB")
