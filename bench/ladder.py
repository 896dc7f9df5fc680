"""Cost of the ladder: the plugin, the same ffmpeg command run bare, and one ffmpeg per rung, in the same run.

    python bench/ladder.py --seconds 8 --height 720 --rounds 3

Ratios are what to compare between machines: wall time moves with the neighbours, CPU seconds hardly. Rounds are
interleaved and medians shown. The clip is generated: a moving test card with noise, which is harder than most films.
"""

import argparse
import asyncio
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from echo_transcode_ffmpeg.binaries import Tools, find_tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import ladder_argv
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder
from harness import Row, write_result

from echo_core.plugin_api import InspectRequest, LadderRequest, PackageRequest, PlanLadder


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float
    bytes_written: int


def make_clip(ffmpeg: Path, path: Path, seconds: int, height: int) -> None:
    size = f"{height * 16 // 9 // 2 * 2}x{height}"
    picture = f"testsrc2=size={size}:rate=30:duration={seconds},noise=alls=12:allf=t"
    command = [ffmpeg, "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", picture]
    command += ["-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-g", "60", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run([*map(str, command), str(path)], check=True)


def written(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.mp4"))


async def measured(directory: Path, work: Callable[[Path], Awaitable[None]]) -> Cost:
    with tempfile.TemporaryDirectory(dir=directory) as out:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        own = time.process_time()
        await work(Path(out))
        wall_s = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + time.process_time() - own
        return Cost(wall_s=wall_s, cpu_s=cpu_s, bytes_written=written(Path(out)))


async def bare(argv: list[str], out_dir: Path) -> None:
    process = await asyncio.create_subprocess_exec(*argv, cwd=out_dir, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait() != 0:
        raise RuntimeError(f"ffmpeg failed: {argv}")


def variants(
    tools: Tools, config: FfmpegConfig, transcoder: FfmpegTranscoder, request: LadderRequest, packaged: LadderRequest
) -> dict[str, Callable[[Path], Awaitable[None]]]:
    async def per_rung(out_dir: Path) -> None:
        for number, rung in enumerate(request.rungs):
            one = replace(request, rungs=(rung,), with_audio=number == 0, out_dir=out_dir)
            await bare(ladder_argv(tools, config, one), out_dir)

    async def plugin(out_dir: Path) -> None:
        await transcoder.encode_ladder(replace(request, out_dir=out_dir))

    async def command(out_dir: Path) -> None:
        await bare(ladder_argv(tools, config, replace(request, out_dir=out_dir)), out_dir)

    async def source_first(out_dir: Path) -> None:
        package = PackageRequest(path=request.path, media=request.media, out_dir=out_dir)
        result = await transcoder.package(package)
        below = replace(packaged, out_dir=out_dir, with_audio=False, align_to_s=result.boundaries_s)
        await transcoder.encode_ladder(below)

    return {
        "one ffmpeg per rung": per_rung,
        "one ffmpeg, bare": command,
        "plugin": plugin,
        "plugin, source copied": source_first,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a shorter clip, fewer rounds")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 4, 2
    # As nice as the bare command, and as patient: neighbours shall slow both alike, and end neither.
    config = FfmpegConfig(
        package_max_bitrate_bps=1_000_000_000, nice=0, encode_timeout_factor=1000.0, stall_timeout_s=600.0
    )
    tools, transcoder = await find_tools(config), FfmpegTranscoder(config)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "source").mkdir()
        clip = directory / "source" / "clip.mp4"
        make_clip(tools.ffmpeg, clip, options.seconds, options.height)
        media = await transcoder.inspect(InspectRequest(path=clip))
        full, below = (transcoder.plan_ladder(PlanLadder(media=media, packaged=packaged)) for packaged in (False, True))
        request = LadderRequest(path=clip, media=media, out_dir=directory, rungs=full)
        runs = variants(tools, config, transcoder, request, replace(request, rungs=below))
        costs: dict[str, list[Cost]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, work in runs.items():
                costs[name].append(await measured(directory, work))
    report(options, tools, [rung.name for rung in full], costs)


def report(options: argparse.Namespace, tools: Tools, rungs: list[str], costs: dict[str, list[Cost]]) -> None:
    base = next(iter(costs.values()))
    rows: dict[str, dict[str, Any]] = {}
    print(
        f"{options.seconds} s at {options.height}p, rungs {' '.join(rungs)}, ffmpeg {tools.ffmpeg_version}, "
        f"median of {options.rounds}"
    )
    print(f"{'':24}{'wall s':>8}{'ratio':>7}{'CPU s':>8}{'ratio':>7}{'kB':>9}")
    for name, measurements in costs.items():
        wall_s = statistics.median(cost.wall_s for cost in measurements)
        cpu_s = statistics.median(cost.cpu_s for cost in measurements)
        # Each round against its own baseline: neighbours slow both alike.
        wall_ratio = statistics.median(c.wall_s / b.wall_s for c, b in zip(measurements, base, strict=True))
        cpu_ratio = statistics.median(c.cpu_s / b.cpu_s for c, b in zip(measurements, base, strict=True))
        size = measurements[0].bytes_written
        print(f"{name:24}{wall_s:8.2f}{wall_ratio:7.2f}{cpu_s:8.2f}{cpu_ratio:7.2f}{size / 1000:9.0f}")
        rows[name] = {
            "wall_s": round(wall_s, 3),
            "wall_ratio": round(wall_ratio, 3),
            "cpu_s": round(cpu_s, 3),
            "cpu_ratio": round(cpu_ratio, 3),
            "bytes_written": size,
            "rounds": [asdict(cost) for cost in measurements],
        }
    details = {"ffmpeg": tools.ffmpeg_version, "seconds": options.seconds, "height": options.height, "rungs": rungs}
    write_result("ladder", summary(rows, f"{options.seconds} s of {options.height}p"), {**details, "variants": rows})


def summary(rows: dict[str, dict[str, Any]], clip: str) -> list[Row]:
    peers = ("one ffmpeg, bare", "one ffmpeg per rung")
    return [
        Row(
            measure=f"Ladder of {clip}: {name}",
            unit="s",
            echo=rows["plugin"][figure],
            peers={peer: rows[peer][figure] for peer in peers},
            limit=1.1,
            of=peers[0],
        )
        for name, figure in (("wall time", "wall_s"), ("CPU", "cpu_s"))
    ]


if __name__ == "__main__":
    asyncio.run(main())
