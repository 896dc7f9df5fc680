"""Through the whole of Echo: from the end of an upload to a stream that plays, and a long encode shared by two workers.

    python bench/media.py [--rounds 3] [--quick]

Playable means: the details name a stream, and its playlists and its first segment have been fetched. Beside it, in
turns, the ffmpeg commands that Echo runs for that, run bare: a copy where browsers can play the source, else the lowest
rung. Two hours of film, copied, are to be there in seconds, and Echo is to need no more memory for them than for a
minute; what ffmpeg keeps of a long film is told beside it. A film that is cut into pieces is encoded by one worker with
one processor, then by two with one each; both streams must be the same.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
from echo_transcode_ffmpeg.binaries import Tools, find_tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import ladder_argv
from echo_transcode_ffmpeg.package import package_argv
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder
from film import looped
from harness import MIB, Instance, Row, instance, pin, running, write_result

from echo_core.plugin_api import InspectRequest, LadderRequest, MediaInfo, PackageRequest, PlanLadder
from tests.e2e.api import Api

DEADLINE_S = 900.0
POLL_S = 0.02
LONG_S = 7200
PIECES_S = 200
"""Long enough to be cut, once there are two slots."""
STEREO = ("-c:a", "aac", "-ac", "2")
SMALL = (*STEREO, "-vf", "scale=640:-2", "-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-g", "100")


class Memory:
    """The most that Echo's processes held, and the programs that they ran; what some share counts once (PSS)."""

    def __init__(self, *roots: psutil.Process) -> None:
        self._roots = roots
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.own = 0
        self.programs = 0

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            own = sum(map(_held, self._roots))
            programs = sum(_held(child) for root in self._roots for child in root.children(recursive=True))
            self.own = max(self.own, own)
            self.programs = max(self.programs, programs)


def _held(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it has ended
        return 0


def fetched(url: str) -> None:
    """The playlists of a stream and its first segment."""
    master = httpx2.get(url, follow_redirects=True).raise_for_status()
    first = next(line for line in master.text.splitlines() if line and not line.startswith("#"))
    playlist = httpx2.get(str(httpx2.URL(str(master.url)).join(first)), follow_redirects=True).raise_for_status()
    name = next(line for line in playlist.text.splitlines() if line and not line.startswith("#"))
    found = re.search(r"#EXT-X-BYTERANGE:(\d+)@(\d+)", playlist.text)
    assert found, playlist.text
    length, start = int(found[1]), int(found[2])
    segment = httpx2.get(
        str(httpx2.URL(str(playlist.url)).join(name)),
        headers={"Range": f"bytes={start}-{start + length - 1}"},
        follow_redirects=True,
    )
    assert (segment.status_code, len(segment.content)) == (206, length)


def until_playable(api: Api, clip: Path) -> tuple[float, str, str]:
    """Seconds from the answer to ``upload-complete`` on, video and job."""
    video_id, job_id = api.upload(clip)
    began = time.perf_counter()
    while time.perf_counter() - began < DEADLINE_S:
        if url := api.details(video_id).get("playbackUrl"):
            fetched(str(url))
            return time.perf_counter() - began, video_id, job_id
        time.sleep(POLL_S)
    raise SystemExit(f"{clip.name} never became playable: {api.job(job_id)}")


def given_up(api: Api, video_id: str, job_id: str) -> None:
    """End what goes on, so that the next round has the machine to itself."""
    api.http.post(f"/api/v1/videos/jobs/{job_id}/cancel")
    api.wait_for_job(job_id, deadline_s=DEADLINE_S)
    api.call("DELETE", f"/api/v1/videos/{video_id}", expect=204)


def bare(argv: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        subprocess.run(argv, cwd=out, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


async def commands(clip: Path) -> tuple[list[str], list[str]]:
    """What Echo runs for this clip: the copy, and the lowest rung."""
    config = FfmpegConfig()
    tools: Tools = await find_tools(config)
    transcoder = FfmpegTranscoder(config)
    media: MediaInfo = await transcoder.inspect(InspectRequest(path=clip))
    rungs = transcoder.plan_ladder(PlanLadder(media=media))
    return (
        package_argv(tools, config, PackageRequest(path=clip, media=media, out_dir=clip.parent)),
        ladder_argv(tools, config, LadderRequest(path=clip, media=media, out_dir=clip.parent, rungs=rungs[-1:])),
    )


def playable(folder: Path, seconds: int, rounds: int, long_s: int) -> tuple[list[Row], dict[str, Any]]:
    film = ["-vf", "scale=1920:1080", "-g", "100", *STEREO]
    clips = {
        "H.264": looped(folder / "h264.mp4", seconds, *film, "-c:v", "libx264", "-preset", "veryfast", "-crf", "20"),
        "HEVC": looped(
            folder / "hevc.mp4",
            seconds,
            *film,
            "-c:v",
            "libx265",
            "-preset",
            "ultrafast",
            "-x265-params",
            "log-level=1",
        ),
    }
    short = looped(folder / "short.mp4", 60, *SMALL)
    long = folder / "long.mp4"
    copy = ["ffmpeg", "-nostdin", "-v", "error", "-stream_loop", "-1", "-i", short, "-t", long_s, "-c", "copy", long]
    subprocess.run([*map(str, copy)], check=True)
    bares = {name: asyncio.run(commands(clip)) for name, clip in clips.items()}
    times: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    programs: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        times.setdefault(name, []).append(value)

    with instance() as echo:
        api = api_of(echo)
        for _ in range(rounds):
            for number, (name, clip) in enumerate(clips.items()):
                taken, *ids = until_playable(api, clip)
                note(name, taken)
                given_up(api, *ids)
                note(f"{name}, bare", bare(bares[name][number]))
            for name, clip in (("a minute", short), ("long", long)):
                with Memory(echo.worker, echo.api) as held:
                    taken, *ids = until_playable(api, clip)
                note(name, taken)
                memory.setdefault(name, []).append(held.own / MIB)
                programs.setdefault(name, []).append(held.programs / MIB)
                given_up(api, *ids)
    middle = {name: statistics.median(values) for name, values in times.items()}
    own, ffmpeg = ({name: max(values) for name, values in of.items()} for of in (memory, programs))
    hours = f"{long_s / 3600:g} hours"
    rows = [
        Row(
            measure=f"Upload complete to playable, {seconds} s of 1080p H.264 (copied)",
            unit="s",
            echo=middle["H.264"],
            peers={"bare copy": middle["H.264, bare"]},
            limit=4 * middle["H.264, bare"] + 1,
        ),
        Row(
            measure=f"Upload complete to playable, {seconds} s of 1080p HEVC (lowest rung)",
            unit="s",
            echo=middle["HEVC"],
            peers={"bare rung": middle["HEVC, bare"]},
            limit=2 * middle["HEVC, bare"] + 1,
        ),
        Row(
            measure=f"Upload complete to playable, {hours} of H.264",
            unit="s",
            echo=middle["long"],
            peers={"a minute": middle["a minute"]},
            limit=10.0,
        ),
        Row(
            measure=f"Memory of worker and API meanwhile, {hours}",
            unit="MiB",
            echo=own["long"],
            peers={"a minute": own["a minute"]},
            limit=1.1,
            of="a minute",
        ),
        Row(
            measure=f"Memory of the ffmpeg that copies, {hours}",
            unit="MiB",
            echo=ffmpeg["long"],
            peers={"a minute": ffmpeg["a minute"]},
        ),
    ]
    return rows, {"seconds": times, "mib": memory, "ffmpeg_mib": programs, "long_bytes": long.stat().st_size}


def api_of(echo: Instance) -> Api:
    return Api(f"http://127.0.0.1:{echo.port}", echo.token)


@contextmanager
def another_worker(echo: Instance) -> Iterator[psutil.Process]:
    argv = [sys.executable, "-m", "echo_core.entrypoints.cli", "worker"]
    environment = {
        **os.environ,
        "ECHO_CONFIG": str(echo.folder / "echo.toml"),
        "ECHO_DATA_DIR": str(echo.folder / "data"),
    }
    with running(argv, cwd=echo.folder, env=environment) as process:
        yield psutil.Process(process.pid)


def shared(folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """By one worker with one processor, then by two."""
    clip = looped(folder / "pieces.mp4", PIECES_S, *SMALL)
    config = "[worker]\ncpu_slots = 1\n[plugins.transcode_ffmpeg]\nthreads = 1\nper_title_from_s = 1e6\n"
    walls: dict[int, float] = {}
    streams: dict[int, dict[str, list[float]]] = {}
    steps: dict[int, list[str]] = {}
    for workers in (1, 2):
        with instance(config=config) as echo:
            pin(echo.worker.pid, 0)
            if workers == 1:
                walls[1], streams[1], steps[1] = encoded(api_of(echo), clip)
                continue
            with another_worker(echo) as other:
                pin(other.pid, 1)
                time.sleep(5)  # until it is known
                walls[2], streams[2], steps[2] = encoded(api_of(echo), clip)
    assert not [name for name in steps[1] if name.startswith("piece.")], steps
    assert [name for name in steps[2] if name.startswith("piece.")], steps
    assert streams[1] == streams[2], "the streams differ"
    row = Row(
        measure=f"Ladder of {PIECES_S} s of film, in pieces by two workers of one processor each",
        unit="s",
        echo=walls[2],
        peers={"in one go by one": walls[1]},
        limit=0.7,
        of="in one go by one",
    )
    return [row], {"wall_s": walls, "pieces": len([name for name in steps[2] if name.startswith("piece.")])}


def encoded(api: Api, clip: Path) -> tuple[float, dict[str, list[float]], list[str]]:
    """Seconds until all is done; the lengths of the segments of each rendition; the steps."""
    video_id, job_id = api.upload(clip)
    began = time.perf_counter()
    job = api.wait_for_job(job_id, deadline_s=DEADLINE_S)
    wall_s = time.perf_counter() - began
    assert job["state"] == "succeeded", job
    master = httpx2.get(str(api.details(video_id)["playbackUrl"]), follow_redirects=True)
    found = {}
    for line in master.text.splitlines():
        if line and not line.startswith("#"):
            playlist = httpx2.get(str(httpx2.URL(str(master.url)).join(line)), follow_redirects=True).text
            found[line.partition("?")[0].rpartition("/")[2]] = [
                float(n) for n in re.findall(r"#EXTINF:([\d.]+)", playlist)
            ]
    return wall_s, found, [str(step["name"]) for step in job["steps"]]  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="20 s instead of a minute, half an hour instead of two")
    options = parser.parse_args()
    seconds, rounds, long_s = (20, 1, LONG_S // 4) if options.quick else (60, options.rounds, LONG_S)
    with tempfile.TemporaryDirectory(prefix="echo-bench-") as folder:
        rows, details = playable(Path(folder), seconds, rounds, long_s)
        further, pieces = shared(Path(folder))
    write_result("media", [*rows, *further], {**details, "shared": pieces})


if __name__ == "__main__":
    main()
