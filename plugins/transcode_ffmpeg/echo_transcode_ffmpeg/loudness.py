"""How loud the sounds of a source are (EBU R 128), and the gain that brings them to where they are wanted.

One gain for the whole of a sound: its dynamics stay what they were. Where peaks stand in the way it is smaller, since
the only other way would be to compress.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import ffmpeg

from echo_core.plugin_api import AudioStream, InvalidRequestError
from echo_transcode_ffmpeg import arguments, graph
from echo_transcode_ffmpeg.binaries import Tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.process import Outcome
from echo_transcode_ffmpeg.running import Runner

MAX_TRUE_PEAK_DBFS = -1.0
"""What lossy encoders add to peaks fits in between (EBU R 128 s2)."""
SILENCE_LUFS = -70.0
"""The gate below which nothing is measured (ITU-R BS.1770)."""
UNNOTICED_DB = 0.5
"""Nobody hears a smaller difference: the sound is copied, or encoded as it is."""
TIMEOUT_S, TIMEOUT_FACTOR = 60.0, 0.5
_LOUDNESS = re.compile(r"^\s*I:\s+(-?[\d.]+|-inf|nan) LUFS")
_PEAK = re.compile(r"^\s*Peak:\s+(-?[\d.]+|-inf|nan) dBFS")

Gains = Mapping[int, float]
"""In dB, by the index of the sound; none for those that stay as they are."""


async def gains(
    tools: Tools, config: FfmpegConfig, runner: Runner, sounds: Sequence[AudioStream], out_dir: Path
) -> Gains:
    """Measure each of these sounds; nothing is written. Where nothing is to be done, nothing is measured."""
    if config.loudness_lufs is None:
        return {}
    found = {}
    for sound in sounds:
        try:
            outcome = await runner.run(
                measure_argv(tools, runner, sound),
                out_dir=out_dir,
                timeout_s=TIMEOUT_S + TIMEOUT_FACTOR * runner.media.duration_s,
                doing="measuring the loudness",
            )
        except InvalidRequestError:  # whoever wants to encode it will tell what is wrong with it
            continue
        gain_db = gain(config.loudness_lufs, *_told(outcome))
        if abs(gain_db) >= UNNOTICED_DB:
            found[sound.index] = gain_db
    return found


def gain(wanted_lufs: float, loudness_lufs: float, true_peak_dbfs: float) -> float:
    """In dB, for a sound that is so loud and has such peaks."""
    if loudness_lufs <= SILENCE_LUFS:
        return 0.0
    return round(min(wanted_lufs - loudness_lufs, MAX_TRUE_PEAK_DBFS - true_peak_dbfs), 1)


def measure_argv(tools: Tools, runner: Runner, sound: AudioStream) -> list[str]:
    """The whole command. What is measured is what would be encoded, mixed down alike."""
    source = ffmpeg.input(arguments.file_url(runner.path), vn=None, sn=None, dn=None, **arguments.INPUT)
    stream = graph.audio_stream(source[f"a:{sound.index}"])
    if sound.channels > 1:
        stream = stream.filter("aformat", channel_layouts="stereo")
    stream = stream.filter("ebur128", peak="true", framelog="verbose")
    # It tells what it has found only to those who want to know more than errors.
    command = ["info" if word == "error" else word for word in arguments.command(tools.ffmpeg)]
    output = ffmpeg.output(stream, "-", f="null")
    return [str(word) for word in ffmpeg.compile(output, cmd=[*command, *arguments.PROGRESS])]


def _told(outcome: Outcome) -> tuple[float, float]:
    """Integrated loudness and true peak, from the summary at the end; of nothing at all: silence."""
    loudness = [float(found[1]) for line in outcome.errors if (found := _LOUDNESS.match(line))]
    peaks = [float(found[1]) for line in outcome.errors if (found := _PEAK.match(line))]
    if not loudness or not peaks or math.isnan(loudness[-1]):
        return SILENCE_LUFS, SILENCE_LUFS
    return loudness[-1], peaks[-1]


def louder(stream: graph.Stream, gains: Gains, sound: AudioStream) -> graph.Stream:
    """The sound with its gain."""
    gain_db = gains.get(sound.index, 0.0)
    return stream.filter("volume", f"{gain_db}dB") if gain_db else stream
