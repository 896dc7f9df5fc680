"""Cost of the ladder, beside the ways of others, at equal quality and in the same run.

    python bench/ladder.py --seconds 16 --rounds 3

The plugin; the same ffmpeg command run bare; one ffmpeg for each rung, as PeerTube does; and the source cut into chunks
of which each is encoded once for each rung, to be joined, as MediaCMS does. All with the same encoder and settings, and
so the same quality, which is measured too (VMAF, or SSIM where no ffmpeg has it).

Ratios are what to compare between machines: wall time moves with the neighbours, CPU seconds hardly. Rounds are
interleaved and medians shown. The clip is a film, scaled up to 1080p (``film.py``).
"""

import argparse
import asyncio
import re
import resource
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from echo_transcode_ffmpeg.binaries import Tools, _bundled, find_tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import ladder_argv
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder
from film import looped
from harness import MIB, Row, write_result

from echo_core.plugin_api import InspectRequest, LadderRequest, MediaInfo, PackageRequest, PlanLadder

CHUNKS = 4
"""MediaCMS cuts every four minutes; here as many chunks of a short clip."""


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float
    bytes_written: int
    memory_mib: float
    """Of all processes together, at the highest."""
    quality: dict[str, float] = field(default_factory=dict)


def written(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.mp4"))


class Memory:
    """Watches the resident memory of this process's children."""

    def __init__(self) -> None:
        self.highest = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._done.wait(0.05):
            held = 0
            for child in own.children(recursive=True):
                try:
                    held += child.memory_info().rss
                except psutil.Error:
                    continue
            self.highest = max(self.highest, held)


async def measured(directory: Path, work: Callable[[Path], Awaitable[None]], judge: "Judge | None") -> Cost:
    with tempfile.TemporaryDirectory(dir=directory) as out:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        own = time.process_time()
        with Memory() as memory:
            await work(Path(out))
        wall_s = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + time.process_time() - own
        return Cost(
            wall_s=wall_s,
            cpu_s=cpu_s,
            bytes_written=written(Path(out)),
            memory_mib=memory.highest / MIB,
            quality=judge.judged(Path(out)) if judge else {},
        )


@dataclass(frozen=True)
class Judge:
    """Compares rungs with the clip, at the size of the clip."""

    ffmpeg: Path
    clip: Path
    media: MediaInfo
    names: tuple[str, ...]

    @property
    def measure(self) -> str:
        listing = subprocess.run([self.ffmpeg, "-v", "error", "-filters"], capture_output=True, text=True, check=True)
        return "libvmaf" if "libvmaf" in listing.stdout else "ssim"

    def judged(self, out_dir: Path) -> dict[str, float]:
        return {name: self._one(out_dir / f"{name}.mp4") for name in self.names if (out_dir / f"{name}.mp4").exists()}

    def _one(self, path: Path) -> float:
        video = self.media.video
        assert video is not None
        scaled = f"[0:v]scale={video.width}:{video.height}:flags=bicubic,setpts=N[a];[1:v]setpts=N[b];[a][b]"
        compare = "libvmaf=n_threads=2:n_subsample=3" if self.measure == "libvmaf" else "ssim"
        command = [self.ffmpeg, "-nostdin", "-i", path, "-i", self.clip, "-lavfi", scaled + compare, "-f", "null", "-"]
        said = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stderr
        found = re.search(r"VMAF score: ([\d.]+)|SSIM .*All:([\d.]+)", said)
        assert found, said
        return float(found[1] or found[2])


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

    async def chunk_by_chunk(out_dir: Path) -> None:
        chunks = out_dir / "chunks"
        chunks.mkdir()
        cut = ["-f", "segment", "-segment_time", str(request.media.duration_s / CHUNKS), "-reset_timestamps", "1"]
        copy = [tools.ffmpeg, "-v", "error", "-i", request.path, "-map", "0:v", "-c", "copy", *cut, "%03d.mkv"]
        await bare([*map(str, copy)], chunks)
        await bare(ladder_argv(tools, config, replace(request, rungs=(), out_dir=out_dir)), out_dir)
        pieces = sorted(chunks.iterdir())
        for rung in request.rungs:
            for piece in pieces:
                made = chunks / f"{rung.name}-{piece.stem}"
                made.mkdir()
                one = replace(request, path=piece, rungs=(rung,), with_audio=False, out_dir=made)
                await bare(ladder_argv(tools, config, one), made)
            listing = chunks / f"{rung.name}.txt"
            files = [chunks / f"{rung.name}-{piece.stem}" / f"{rung.name}.mp4" for piece in pieces]
            listing.write_text("".join(f"file '{file}'\n" for file in files))
            join = [tools.ffmpeg, "-v", "error", "-f", "concat", "-safe", "0", "-i", listing, "-c", "copy"]
            await bare([*map(str, join), f"{rung.name}.mp4"], out_dir)

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
        "chunk by chunk": chunk_by_chunk,
        "one ffmpeg, bare": command,
        "plugin": plugin,
        "plugin, source copied": source_first,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a shorter clip, fewer rounds")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 8, 2
    # As nice as the bare command, and as patient: neighbours shall slow both alike, and end neither.
    config = FfmpegConfig(
        package_max_bitrate_bps=1_000_000_000, nice=0, encode_timeout_factor=1000.0, stall_timeout_s=600.0
    )
    tools, transcoder = await find_tools(config), FfmpegTranscoder(config)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "source").mkdir()
        coded = [
            "-vf",
            "scale=1920:1080",
            "-c:v",
            "libx264",
            "-preset",
            "medium",
            "-crf",
            "20",
            "-g",
            "100",
            "-c:a",
            "aac",
        ]
        clip = looped(directory / "source" / "clip.mp4", options.seconds, *coded)
        media = await transcoder.inspect(InspectRequest(path=clip))
        full, below = (transcoder.plan_ladder(PlanLadder(media=media, packaged=packaged)) for packaged in (False, True))
        request = LadderRequest(path=clip, media=media, out_dir=directory, rungs=full)
        runs = variants(tools, config, transcoder, request, replace(request, rungs=below))
        judge = Judge(_bundled() or tools.ffmpeg, clip, media, tuple(rung.name for rung in full))
        costs: dict[str, list[Cost]] = {name: [] for name in runs}
        for number in range(options.rounds):
            for name, work in runs.items():
                costs[name].append(await measured(directory, work, None if number else judge))
    report(options, tools, judge, costs)


def report(options: argparse.Namespace, tools: Tools, judge: Judge, costs: dict[str, list[Cost]]) -> None:
    base = costs["one ffmpeg per rung"]
    rows: dict[str, dict[str, Any]] = {}
    measure = {"libvmaf": "VMAF", "ssim": "SSIM"}[judge.measure]
    print(
        f"{options.seconds} s of a film at 1080p, rungs {' '.join(judge.names)}, ffmpeg {tools.ffmpeg_version}, "
        f"median of {options.rounds}"
    )
    print(f"{'':24}{'wall s':>8}{'ratio':>7}{'CPU s':>8}{'ratio':>7}{'kB':>9}{'MiB':>7}  {measure}")
    for name, measurements in costs.items():
        wall_s, cpu_s, memory = (
            statistics.median(getattr(cost, figure) for cost in measurements)
            for figure in ("wall_s", "cpu_s", "memory_mib")
        )
        # Each round against its own baseline: neighbours slow both alike.
        wall_ratio = statistics.median(c.wall_s / b.wall_s for c, b in zip(measurements, base, strict=True))
        cpu_ratio = statistics.median(c.cpu_s / b.cpu_s for c, b in zip(measurements, base, strict=True))
        size, quality = measurements[0].bytes_written, measurements[0].quality
        print(
            f"{name:24}{wall_s:8.2f}{wall_ratio:7.2f}{cpu_s:8.2f}{cpu_ratio:7.2f}{size / 1000:9.0f}{memory:7.0f}  "
            + " ".join(f"{value:.1f}" for value in quality.values())
        )
        rows[name] = {
            "wall_s": round(wall_s, 3),
            "wall_ratio": round(wall_ratio, 3),
            "cpu_s": round(cpu_s, 3),
            "cpu_ratio": round(cpu_ratio, 3),
            "bytes_written": size,
            "megabytes": size / 1e6,
            "memory_mib": round(memory),
            "quality": quality,
            "mean quality": statistics.mean(quality.values()),
            "rounds": [asdict(cost) for cost in measurements],
        }
    details = {"ffmpeg": tools.ffmpeg_version, "seconds": options.seconds, "rungs": judge.names, "quality": measure}
    clip = f"{options.seconds} s of film"
    write_result("ladder", summary(rows, clip, measure), {**details, "variants": rows})


def summary(rows: dict[str, dict[str, Any]], clip: str, measure: str) -> list[Row]:
    bare, per_rung, chunks = "one ffmpeg, bare", "one ffmpeg per rung", "chunk by chunk"
    copied = rows["plugin, source copied"]

    def row(what: str, unit: str, figure: str, **target: Any) -> Row:
        peers = {peer: rows[peer][figure] for peer in (bare, per_rung, chunks)}
        return Row(measure=f"Ladder of {clip}: {what}", unit=unit, echo=rows["plugin"][figure], peers=peers, **target)

    return [
        row("wall time", "s", "wall_s", limit=1.1, of=bare),
        row("CPU", "s", "cpu_s", limit=0.72, of=per_rung),
        Row(
            measure=f"Ladder of {clip}, source copied: CPU",
            unit="s",
            echo=copied["cpu_s"],
            peers={peer: rows[peer]["cpu_s"] for peer in (per_rung, chunks)},
            limit=0.4,
            of=per_rung,
        ),
        row("bytes", "MB", "megabytes"),
        row("memory", "MiB", "memory_mib"),
        row(f"{measure}, mean of the rungs", "", "mean quality", limit=0.99, of=per_rung, at_least=True),
    ]


if __name__ == "__main__":
    asyncio.run(main())
