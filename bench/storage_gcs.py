"""Large files to and from a bucket, beside what Google's client does by itself, and what it takes of memory.

    python bench/storage_gcs.py [--size-mib 5120] [--rounds 3] [--quick]

The bucket is the loopback fake of the tests, in a process of its own; the file is sparse, so that its disk decides
nothing. Every transfer is a process of its own: what counts is its processor time and the most memory that it had above
what it had before. ``echo`` is the plugin (``put_file``, ``fetch_file``, ``open_read``), the peers are
``upload_from_filename``, ``download_to_filename`` and ``transfer_manager.download_chunks_concurrently``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import resource
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import psutil
from harness import CLIENT_CPU, MIB, ROOT, SERVER_CPU, Row, cpu_s, instance, medians, pin, scratch_folder, write_result

BUCKET = "echo-bench"
CLIP = ROOT / "echo_core" / "entrypoints" / "cli" / "doctor.mp4"
KEY = "videos/1/source/film.mp4"
WAYS = ("put", "put by google", "fetch", "fetch by google", "fetch by google in parts", "stream")


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


# --- one transfer, in a process of its own ----------------------------------------------------------------------------


def transfer(way: str, url: str, folder: Path, key: str) -> None:
    """Make one transfer and print what it took."""
    info = json.loads((folder / "fake" / "service-account.json").read_text())
    source, target = folder / "source", folder / "target"
    target.unlink(missing_ok=True)
    work = (_by_google if "google" in way else _by_echo)(way, url, info, source, target, key)
    next(work)  # up to the point where the client has spoken to the bucket
    used, before, most = _cpu(), psutil.Process().memory_info().rss, _Watch()
    next(work, None)
    print(json.dumps({"cpu_s": _cpu() - used, "memory_mib": (most.end() - before) / MIB}))
    target.unlink(missing_ok=True)


class _Watch:
    """The most resident memory of a process, looked at fifty times a second."""

    def __init__(self, pid: int | None = None) -> None:
        self._most = 0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)

    def end(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._most


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _by_echo(way: str, url: str, info: Any, source: Path, target: Path, key: str) -> Iterator[None]:
    from echo_storage_gcs.backend import open_gcs_storage
    from echo_storage_gcs.config import GcsConfig

    from echo_core.plugin_api import FetchFile, PluginContext, PutFile, ReadObject

    config = GcsConfig(bucket=BUCKET, credentials=json.dumps(info), endpoint=url)
    context = PluginContext(
        plugin="storage_gcs",
        config=config,
        data_dir=target.parent,
        routes_url="",
        clock=SystemClock(),
        derive_key=lambda label: hashlib.sha256(label.encode()).digest(),
    )

    async def work(prepared: bool) -> None:
        async with open_gcs_storage(context) as storage:
            await storage.check()
            if not prepared:
                return
            if way == "put":
                await storage.put_file(PutFile(key=key, path=source, content_type="video/mp4"))
            elif way == "fetch":
                await storage.fetch_file(FetchFile(key=KEY, path=target))
            else:
                async with aclosing(storage.open_read(ReadObject(key=KEY))) as pieces:
                    async for _ in pieces:
                        pass

    asyncio.run(work(False))
    yield
    asyncio.run(work(True))


def _by_google(way: str, url: str, info: Any, source: Path, target: Path, key: str) -> Iterator[None]:
    from google.cloud.storage import Client, transfer_manager
    from google.oauth2 import service_account

    credentials = service_account.Credentials.from_service_account_info(info)
    with Client(project="echo", credentials=credentials, client_options={"api_endpoint": url}) as client:
        bucket = client.bucket(BUCKET)
        bucket.exists()
        yield
        if way == "put by google":
            bucket.blob(key).upload_from_filename(source, content_type="video/mp4", if_generation_match=0)
        elif way == "fetch by google":
            bucket.blob(KEY).download_to_filename(target)
        else:
            transfer_manager.download_chunks_concurrently(
                bucket.blob(KEY), str(target), worker_type=transfer_manager.THREAD, max_workers=4
            )


# --- all of them ------------------------------------------------------------------------------------------------------


@contextmanager
def fake(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    (folder / "fake").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.gcs", "--dir", str(folder / "fake"), "--bucket", BUCKET],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        pin(process.pid, SERVER_CPU)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def measure(way: str, url: str, folder: Path, key: str, server: psutil.Process) -> dict[str, float]:
    before, began = cpu_s(server), time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--transfer", way, "--url", url, "--folder", str(folder), "--key", key],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: pin(os.getpid(), CLIENT_CPU),
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return {
        **json.loads(done.stdout),
        "wall_s": time.perf_counter() - began,
        "server_cpu_s": cpu_s(server) - before,
    }


def through_echo(url: str, folder: Path, size_mib: int) -> dict[str, float]:
    """A tiny film with a large box without meaning goes up, is processed, and comes down again; the most memory that
    API and worker had meanwhile, above what they had before."""
    film = folder / "film.mp4"
    padding = size_mib * MIB
    with film.open("wb") as file:
        file.write(CLIP.read_bytes() + struct.pack(">I4sQ", 1, b"free", padding))  # ISO/IEC 14496-12: a 64-bit size
        file.truncate(file.tell() + padding - 16)
    key = folder / "fake" / "service-account.json"
    config = (
        f'[storage]\nbackend = "gcs"\n[plugins.storage_gcs]\nbucket = "{BUCKET}"\ncredentials_file = "{key}"\n'
        f'endpoint = "{url}"\n'
    )
    with instance(config=config) as echo:
        processes = {"api": echo.api, "worker": echo.worker}
        before = {name: process.memory_info().rss for name, process in processes.items()}
        watching = {name: _Watch(process.pid) for name, process in processes.items()}
        done = subprocess.run(
            [sys.executable, "-m", "echo_core.entrypoints.cli", "upload", str(film), "--watch", "--json"],
            env={**os.environ, "ECHO_TOKEN": echo.token},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        video_id = re.search(r"[0-9a-f-]{36}", done.stdout)
        assert video_id
        source = f"http://127.0.0.1:{echo.port}/api/v1/stream/video/{video_id[0]}"
        received = 0
        with httpx2.stream(
            "GET", source, headers={"Authorization": f"Bearer {echo.token}"}, follow_redirects=True, timeout=60
        ) as answer:
            for piece in answer.iter_raw(MIB):
                received += len(piece)
        assert received == film.stat().st_size
        return {f"{name}_mib": (watch.end() - before[name]) / MIB for name, watch in watching.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=5120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--transfer", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--key", default=KEY, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.transfer:
        transfer(options.transfer, options.url, options.folder, options.key)
        return
    size_mib, rounds = (512, 1) if options.quick else (options.size_mib, options.rounds)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with scratch_folder() as folder, fake(folder) as (url, server):
        with (folder / "source").open("wb") as file:
            file.truncate(size_mib * MIB)
        measure("put", url, folder, KEY, server)  # what is fetched
        for number in range(rounds):
            for way in WAYS:
                found[way].append(measure(way, url, folder, f"{KEY}-{number}-{way.replace(' ', '-')}", server))
        echo = through_echo(url, folder, size_mib)
    taken = {way: medians(results) for way, results in found.items()}

    def row(measure: str, unit: str, field: str, ours: str, *peers: str, **target: Any) -> Row:
        return Row(
            measure=measure,
            unit=unit,
            echo=taken[ours][field],
            peers={peer: taken[peer][field] for peer in peers},
            **target,
        )

    size = f"{size_mib / 1024:g} GiB"
    write_result(
        "storage_gcs",
        [
            row(f"{size} to a bucket, processor time", "s", "cpu_s", "put", "put by google"),
            row(f"{size} to a bucket, memory above idle", "MiB", "memory_mib", "put", "put by google", limit=64),
            row(
                f"{size} from a bucket to a file, processor time",
                "s",
                "cpu_s",
                "fetch",
                "fetch by google",
                "fetch by google in parts",
            ),
            row(
                f"{size} from a bucket to a file, memory above idle",
                "MiB",
                "memory_mib",
                "fetch",
                "fetch by google",
                "fetch by google in parts",
                limit=64,
            ),
            row(f"{size} streamed from a bucket, memory above idle", "MiB", "memory_mib", "stream", limit=64),
            Row(
                measure=f"API while {size} go up, are processed and come down: memory above idle",
                unit="MiB",
                echo=echo["api_mib"],
                limit=64,
            ),
            Row(
                measure=f"worker while {size} go up, are processed and come down: memory above idle",
                unit="MiB",
                echo=echo["worker_mib"],
                limit=128,
            ),
        ],
        {"size_mib": size_mib, "rounds": found, "echo": echo},
    )


if __name__ == "__main__":
    main()
