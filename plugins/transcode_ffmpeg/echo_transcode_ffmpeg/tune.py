"""Choose the rate factor by what a video shows: a quick trial of a few moments tells how many bits it takes.

What takes few at the usual rate factor (slides, drawings, talking heads) gets a better one, since it costs next to
nothing and flat areas show every flaw. What takes more than its ceiling allows (crowds, water, noise) would be starved
wherever it is hardest; with a coarser one it is even, and its ceiling is for the exceptions again.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import ffmpeg

from echo_core.plugin_api import Rung, TuneRequest
from echo_transcode_ffmpeg import arguments, graph
from echo_transcode_ffmpeg.binaries import ENCODES, Tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import STARTUP_TIMEOUT_S, compile_argv, encoder_threads
from echo_transcode_ffmpeg.encoders import HALVING_STEPS
from echo_transcode_ffmpeg.plan import ceiling_bps, target_fps
from echo_transcode_ffmpeg.running import Runner

MOMENTS = 3
MOMENT_S = 2.0
TRIAL_SHORT_SIDE = 720
TRIAL_PRESET = "superfast"
TRIAL_EXCESS = 1.4
"""How much more bits the trial's preset takes than the usual one, at the same rate factor."""
EASY, HARD = 0.25, 0.8
"""Parts of the ceiling between which nothing is changed."""
FINER, COARSER = -3.0, 4.0


async def tune_ladder(tools: Tools, config: FfmpegConfig, request: TuneRequest) -> tuple[Rung, ...]:
    """The rungs with their rate factor; as they are where a trial would take too large a part of the whole work."""
    media = request.media
    if media.video is None or not request.rungs or media.duration_s < max(config.per_title_from_s, MOMENTS * MOMENT_S):
        return request.rungs
    largest = max(request.rungs, key=lambda rung: rung.width * rung.height)
    scale = min(1.0, TRIAL_SHORT_SIDE / min(largest.width, largest.height))
    fps = target_fps(media.video)
    trial = replace(largest, width=_even(largest.width * scale), height=_even(largest.height * scale), fps=fps)
    streams: list[graph.Stream] = []
    for number in range(MOMENTS):
        at_s = media.duration_s * (number + 0.5) / MOMENTS - MOMENT_S / 2
        where = {"ss": f"{at_s:.3f}", "t": f"{MOMENT_S:.3f}", "threads": 1}
        source = ffmpeg.input(arguments.file_url(request.path), **where, **arguments.INPUT)
        steady = graph.progressive(source["V:0"], media.video).filter("fps", fps=fps, start_time=0)
        streams.append(graph.rung_streams(steady, media.video, [trial], can_tonemap=tools.can_tonemap)[trial.name])
    path = request.out_dir / "trial.h264"
    options: dict[str, Any] = {"f": "h264", "c:v": "libx264", "preset": TRIAL_PRESET, "crf": config.crf}
    options |= {"threads": encoder_threads(config), "an": None, **arguments.NO_METADATA}
    runner = Runner(tools=tools, config=config, path=request.path, media=media)
    await runner.run(
        compile_argv(tools, [ffmpeg.output(ffmpeg.concat(*streams), path.name, **options)]),
        out_dir=request.out_dir,
        timeout_s=STARTUP_TIMEOUT_S + config.encode_timeout_factor * MOMENTS * MOMENT_S,
        doing="trying the encoder",
        patience=ENCODES,
    )
    size_bytes = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    if not size_bytes:  # nothing could be decoded there: the ladder will tell
        return request.rungs
    bps = size_bytes * 8 / (MOMENTS * MOMENT_S) / TRIAL_EXCESS
    crf = config.crf + shift(bps / ceiling_bps(min(trial.width, trial.height), fps))
    return tuple(replace(rung, crf=crf) for rung in request.rungs)


def shift(load: float) -> float:
    """How much coarser (finer, below 0) than usual, in halves of a step, for what takes this part of its ceiling."""
    wanted = min(max(load, EASY), HARD)
    steps = HALVING_STEPS * math.log2(max(load, 1e-6) / wanted)
    return round(2 * min(max(steps, FINER), COARSER)) / 2


def _even(length: float) -> int:
    return max(2, round(length / 2) * 2)
