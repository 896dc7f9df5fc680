"""What ffmpeg takes of memory, measured and rounded up; the disk is the contract's own arithmetic.

Memory is pictures. x264 holds about forty of each rung, its lookahead, and eight more for each of its threads; a
decoder two or three for each of its threads, and the reference pictures. Measured with ffmpeg 5.1 on ladders of 720p to
2160p with 1 to 16 threads (largest resident size): 0.75 to 0.95 of what this says.

A film that lasts adds tables: the MP4 demuxer keeps where each sample is (10 MiB an hour at 30 fps with sound), and the
HLS muxer each segment of each of its outputs until the end (7 to 12 MiB an hour).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from echo_core.plugin_api import EstimateRequest, VideoStream
from echo_transcode_ffmpeg import graph
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import encoder_threads
from echo_transcode_ffmpeg.encoders import ENCODERS
from echo_transcode_ffmpeg.pictures import PREVIEW_MOMENTS

MIB = 1 << 20
PROGRAM_BYTES = 80 * MIB
BYTES_PER_PIXEL = 1.5
TONEMAP_BYTES_PER_PIXEL = 12
TONEMAP_PICTURES = 8
ENCODER_PICTURES = 40
PICTURES_PER_ENCODER_THREAD = 8
LOOKAHEAD: Mapping[str, int] = {"ultrafast": 0, "superfast": 0, "veryfast": 10, "faster": 20, "fast": 30, "medium": 40}
SLOW_LOOKAHEAD = 50
DECODER_PICTURES = 6
PICTURES_PER_DECODER_THREAD = 2.5
MAX_DECODER_THREADS = 16
TABLE_BYTES_PER_S = 3.5 * (1 << 10)
"""Of the input, and of each output."""


def memory_bytes(config: FfmpegConfig, request: EstimateRequest) -> int:
    """Resident memory of one call at its highest; at most what a program may have."""
    video = request.media.video
    needed = PROGRAM_BYTES + TABLE_BYTES_PER_S * request.media.duration_s * (1 + max(1, len(request.rungs)))
    if video is not None and request.work in {"encode_ladder", "posters", "preview", "storyboard"}:
        needed += _decoder(video)
        if request.work == "encode_ladder":
            needed += _encoders(config, request, video)
        elif request.work == "preview":
            needed += (PREVIEW_MOMENTS - 1) * _decoder(video)
    return min(int(needed), config.memory_limit_bytes)


def _picture(video: VideoStream) -> float:
    deep = "10" in video.pixel_format or "12" in video.pixel_format
    full = 2 if "444" in video.pixel_format or "rgb" in video.pixel_format else 1
    return video.width * video.height * BYTES_PER_PIXEL * (2 if deep else 1) * full


def _decoder(video: VideoStream) -> float:
    threads = min(MAX_DECODER_THREADS, (os.cpu_count() or 1) + 1)
    return (DECODER_PICTURES + PICTURES_PER_DECODER_THREAD * threads) * _picture(video)


def _encoders(config: FfmpegConfig, request: EstimateRequest, video: VideoStream) -> float:
    pixels = sum(rung.width * rung.height * ENCODERS[rung.codec].pictures for rung in request.rungs)
    pictures = (
        ENCODER_PICTURES
        + LOOKAHEAD.get(config.preset, SLOW_LOOKAHEAD)
        + PICTURES_PER_ENCODER_THREAD * encoder_threads(config)
    )
    needed = pixels * BYTES_PER_PIXEL * pictures
    if graph.is_hdr(video):
        largest = max((rung.width * rung.height for rung in request.rungs), default=0)
        needed += largest * TONEMAP_BYTES_PER_PIXEL * TONEMAP_PICTURES
    return needed
