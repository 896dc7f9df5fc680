"""The filters between decoder and encoders: one decode, each rung scaled from the one above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from echo_core.plugin_api import Rung, VideoStream
from echo_transcode_ffmpeg.plan import exact_fps

HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
AUDIO_RATE_HZ = 48_000
AAC_PRIMING_SAMPLES = 1024

Stream = Any
"""A node of ffmpeg-python, which ships no types."""


def is_hdr(video: VideoStream) -> bool:
    """Whether the picture must be tone mapped for an ordinary screen."""
    return video.transfer in HDR_TRANSFERS


def tonemap(stream: Stream, video: VideoStream) -> Stream:
    """From HDR to BT.709. The input is named outright: files often leave out what zscale needs to know."""
    stream = stream.filter("zscale", tin=video.transfer, min="2020_ncl", pin="2020", t="linear", npl=100).filter(
        "format", "gbrpf32le"
    )
    stream = stream.filter("zscale", p="bt709").filter("tonemap", "hable", desat=0)
    return stream.filter("zscale", t="bt709", m="bt709", r="tv")


def rung_streams(
    source: Stream, video: VideoStream, rungs: Sequence[Rung], *, can_tonemap: bool, frames: Mapping[str, int]
) -> dict[str, Stream]:
    """The encoders' inputs by rung name. ``frames``: which frames of the steady rate (options of ``trim``; empty: all).

    ``start_time=0`` repeats the first frame where the picture starts late, so that every rendition starts at 0.
    """
    if video.interlaced:
        source = source.filter("bwdif", mode="send_frame")
    base_fps = max(rung.fps for rung in rungs)
    stream = source.filter("fps", fps=str(exact_fps(base_fps)), start_time=0)
    if frames:
        stream = stream.filter("trim", **frames).filter("setpts", "PTS-STARTPTS")
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


def audio_stream(source: Stream) -> Stream:
    """The sound encoder's input: silence where the source has gaps, and starting at 0.

    As many samples are cut off as the encoder puts before the first one; so the sound stays in step with the picture
    without an edit list, which players of fragments ignore.
    """
    stream = source.filter("aresample", AUDIO_RATE_HZ, **{"async": 1, "first_pts": 0})
    return stream.filter("atrim", start_sample=AAC_PRIMING_SAMPLES).filter("asetpts", "N/SR/TB")
