"""The encoders of pictures: what each needs to be told, and what it costs in bits and memory beside x264."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from echo_core.plugin_api import Codec, Rung
from echo_transcode_ffmpeg.config import FfmpegConfig

HALVING_STEPS = 6.0
"""Steps of the rate factor of x264 that halve the bits."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder of ffmpeg.

    ``crf`` looks like 23 of x264, and ``crf_step`` of its steps change the bits as much as one of x264's;
    ``ceiling`` is the part of x264's bitrate that suffices. ``pictures`` is what it holds in memory beside x264.
    """

    name: str
    crf: float
    crf_step: float
    ceiling: float
    pictures: float


ENCODERS: Mapping[Codec, Encoder] = {
    "h264": Encoder(name="libx264", crf=23.0, crf_step=1.0, ceiling=1.0, pictures=1.0),
    "hevc": Encoder(name="libx265", crf=25.0, crf_step=1.0, ceiling=0.7, pictures=1.5),
    "av1": Encoder(name="libsvtav1", crf=35.0, crf_step=2.0, ceiling=0.6, pictures=3.0),
}
SAME_COST = {"faster": "superfast", "fast": "veryfast", "medium": "faster", "slow": "fast"}
"""Presets of x265 that take about as long as these of x264; quicker ones take its quickest."""
SVT_PRESETS = {"ultrafast": 12, "superfast": 11, "veryfast": 10, "faster": 9, "fast": 8, "medium": 7, "slow": 6}


def rate_factor(config: FfmpegConfig, rung: Rung) -> float:
    """The rate factor of a rung in its encoder's own measure: what it was tuned to, or what is configured."""
    encoder = ENCODERS[rung.codec]
    shift = (config.crf if rung.crf is None else rung.crf) - ENCODERS["h264"].crf
    return encoder.crf + shift * encoder.crf_step


def encoder_options(config: FfmpegConfig, rung: Rung, threads: int) -> dict[str, Any]:
    """Codec, speed and quality."""
    options: dict[str, Any] = {
        "c:v": ENCODERS[rung.codec].name,
        "crf": f"{rate_factor(config, rung):g}",
        "maxrate": rung.max_bitrate_bps,
        "bufsize": 2 * rung.max_bitrate_bps,
    }
    match rung.codec:
        case "h264":
            options |= {"preset": config.preset, "threads": threads, "profile:v": "high"}
            options |= {"sc_threshold": 0, "flags": "+cgop"}
        case "hevc":
            # Its note about itself names the processor: pieces made on two machines would begin differently. Its thread
            # pools want to know about NUMA, which the sandbox refuses.
            own = f"log-level=error:info=0:open-gop=0:scenecut=0:pools=none:frame-threads={threads}"
            options |= {"preset": SAME_COST.get(config.preset, "ultrafast"), "x265-params": own}
            options |= {"forced-idr": 1, "tag:v": "hvc1"}
        case "av1":
            options |= {"preset": SVT_PRESETS[config.preset], "svtav1-params": f"lp={threads}"}
    return options
