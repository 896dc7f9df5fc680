"""Uploads to and reads from storage_local over loopback HTTP: MB/s, and CPU seconds of the server per GiB.

    python bench/storage_local.py [--size-mib 256] [--rounds 3]

The yardstick of reads is Starlette's FileResponse as it comes, in the same server and the same run; that of uploads is
the same server throwing the bytes away, and ``cp`` with fsync. Prints a table; writes bench/results/storage_local.json.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psutil

MIB = 1 << 20
RESULTS = Path(__file__).parent / "results" / "storage_local.json"


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def serve(data_dir: Path, port: int, high_water_bytes: int) -> None:
    """The server process: the plugin's routes, the yardsticks, and two ways to ask for URLs."""
    import uvicorn
    import uvicorn.protocols.http.httptools_impl as httptools_impl
    from echo_storage_local.backend import open_local_storage
    from echo_storage_local.config import LocalStorageConfig
    from echo_storage_local.routes import make_routes
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Mount, Route

    from echo_core.plugin_api import BeginUpload, PluginContext, ReadUrl

    httptools_impl.HIGH_WATER_LIMIT = high_water_bytes
    context = PluginContext(
        plugin="storage_local",
        config=LocalStorageConfig(),
        data_dir=data_dir,
        routes_url=f"http://127.0.0.1:{port}/plugins/storage_local",
        clock=SystemClock(),
        derive_key=lambda label: hashlib.sha256(label.encode()).digest(),
    )

    @asynccontextmanager
    async def lifespan(app):
        async with open_local_storage(context) as storage:
            yield {"storage": storage}

    async def begin(request):
        query = request.query_params
        begin = BeginUpload(key=query["key"], content_type="video/mp4", size_bytes=int(query["size"]))
        return PlainTextResponse((await request.state.storage.begin_upload(begin)).url)

    async def read_url(request):
        read = ReadUrl(key=request.query_params["key"], expires_in_s=3600)
        return PlainTextResponse((await request.state.storage.read_url(read)).url)

    async def discard(request):
        async for _ in request.stream():
            pass
        return PlainTextResponse("")

    async def plain(request):
        return FileResponse(data_dir / "plain.bin")

    routes = [
        Mount("/plugins/storage_local", routes=make_routes()),
        Route("/begin", begin),
        Route("/read-url", read_url),
        Route("/discard", discard, methods=["PUT"]),
        Route("/plain", plain),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, ws="none")


class Client:
    """One keep-alive connection that costs little: it neither parses nor keeps what it reads."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._buffer = bytearray(4 * MIB)

    def get(self, target: str, start: int | None = None, end: int | None = None) -> int:
        wanted = "" if start is None else f"Range: bytes={start}-{end}\r\n"
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: bench\r\n{wanted}\r\n".encode())
        return self._answer()

    def put(self, target: str, source: Path, start: int, count: int, total: int) -> int:
        head = f"PUT {target} HTTP/1.1\r\nHost: bench\r\nContent-Length: {count}\r\n"
        head += f"Content-Range: bytes {start}-{start + count - 1}/{total}\r\n\r\n"
        self._socket.sendall(head.encode())
        with source.open("rb") as file:
            self._socket.sendfile(file, start, count)
        return self._answer()

    def text(self, target: str) -> str:
        self.get(target)
        return self._body.decode()

    def _answer(self) -> int:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._socket.recv(64 * 1024)
        head, _, self._body = head.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if b"transfer-encoding: chunked" in lines:
            while not (self._body.endswith(b"0\r\n\r\n")):
                self._body += self._socket.recv(64 * 1024)
        left = length - len(self._body)
        if 0 < left <= 64 * 1024:
            self._body += self._socket.recv(left, socket.MSG_WAITALL)
            left = 0
        while left > 0:
            left -= self._socket.recv_into(self._buffer, min(left, len(self._buffer)))
        return int(head.split(b" ", 2)[1])


class Server:
    def __init__(self, data_dir: Path, high_water_bytes: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        command = [sys.executable, __file__, "--serve", str(data_dir), str(self.port), str(high_water_bytes)]
        self._process = subprocess.Popen(command)
        self._facts = psutil.Process(self._process.pid)
        deadline = time.monotonic() + 15
        while True:
            try:
                self.client = Client(self.port)
                return
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def measure(self, work: Callable[[], int]) -> dict[str, float]:
        """Run ``work``, which returns the bytes it moved."""
        before, began = self._facts.cpu_times(), time.perf_counter()
        moved = work()
        took, after = time.perf_counter() - began, self._facts.cpu_times()
        cpu_s = after.user + after.system - before.user - before.system
        return {
            "mb_per_s": moved / took / 1e6,
            "cpu_s_per_gib": cpu_s / (moved / 2**30),
            "rss_mib": self._facts.memory_info().rss / MIB,
        }

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(15)


def uploads(server: Server, source: Path, size: int, tag: str) -> dict[str, Callable[[], int]]:
    counter = iter(range(1000))

    def put(chunk: int) -> int:
        url = urlsplit(server.client.text(f"/begin?key=up/{tag}/{next(counter)}&size={size}"))
        target = f"{url.path}?{url.query}"
        for start in range(0, size, chunk):
            status = server.client.put(target, source, start, min(chunk, size - start), size)
            if status != (200 if start + chunk >= size else 308):
                raise RuntimeError(f"upload answered {status}")
        return size

    def discard() -> int:
        server.client.put("/discard", source, 0, size, size)
        return size

    return {
        "bytes thrown away": discard,
        "storage_local, one PUT": lambda: put(size),
        "storage_local, 8 MiB chunks": lambda: put(8 * MIB),
    }


def reads(server: Server, size: int) -> dict[str, Callable[[], int]]:
    url = urlsplit(server.client.text("/read-url?key=bench/plain"))
    ours = f"{url.path}?{url.query}"

    def whole(target: str) -> int:
        if server.client.get(target) != 200:
            raise RuntimeError("read failed")
        return size

    def ranges(target: str, step: int) -> int:
        for start in range(0, size, step):
            if server.client.get(target, start, start + step - 1) != 206:
                raise RuntimeError("range read failed")
        return size

    found: dict[str, Callable[[], int]] = {}
    for name, target in (("FileResponse", "/plain"), ("storage_local", ours)):
        found[f"{name}, whole"] = lambda target=target: whole(target)
        for mib in (8, 1):
            found[f"{name}, {mib} MiB ranges"] = lambda target=target, mib=mib: ranges(target, mib * MIB)
    return found


def copy_with_fsync(source: Path, target: Path) -> float:
    began = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return source.stat().st_size / (time.perf_counter() - began) / 1e6


def store_plain(data_dir: Path, source: Path) -> None:
    from echo_storage_local.backend import open_local_storage
    from echo_storage_local.config import LocalStorageConfig

    from echo_core.plugin_api import PluginContext, PutFile

    async def put() -> None:
        context = PluginContext(
            plugin="storage_local",
            config=LocalStorageConfig(),
            data_dir=data_dir,
            routes_url="http://bench",
            clock=SystemClock(),
            derive_key=lambda label: b"",
        )
        linked = data_dir / "to-put.bin"
        linked.hardlink_to(source)
        async with open_local_storage(context) as storage:
            await storage.put_file(PutFile(key="bench/plain", path=linked, content_type="video/mp4"))

    asyncio.run(put())


def run(size_mib: int, rounds: int) -> dict[str, dict[str, float]]:
    size = size_mib * MIB
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="echo-bench-") as folder:
        data_dir = Path(folder)
        source = data_dir / "plain.bin"
        with source.open("wb") as file:
            for _ in range(size_mib):
                file.write(os.urandom(MIB))
        store_plain(data_dir, source)
        copies = []
        for _ in range(rounds):
            copies.append(copy_with_fsync(source, data_dir / "copy.bin"))
            (data_dir / "copy.bin").unlink()
        results["cp and fsync"] = {"mb_per_s": statistics.median(copies)}
        for name, high_water in (("", 65536), (" (body high-water 1 MiB)", MIB)):
            server = Server(data_dir, high_water)
            try:
                work = uploads(server, source, size, str(high_water))
                if not name:
                    work |= reads(server, size)
                for title, task in work.items():
                    found = [server.measure(task) for _ in range(rounds)]
                    shutil.rmtree(data_dir / "objects" / "objects" / "up", ignore_errors=True)
                    results[title + name] = {key: statistics.median(one[key] for one in found) for key in found[0]}
            finally:
                server.stop()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results = run(options.size_mib, options.rounds)
    print(f"{'':48} {'MB/s':>7} {'CPU s/GiB':>10} {'RSS MiB':>8} {'CPU, of FileResponse':>21}")
    for name, facts in results.items():
        kind = name.partition(", ")[2]
        peer = results.get(f"FileResponse, {kind}", {}).get("cpu_s_per_gib")
        if peer:
            facts["cpu_ratio_to_file_response"] = facts["cpu_s_per_gib"] / peer
        cells = [facts.get(key) for key in ("cpu_s_per_gib", "rss_mib", "cpu_ratio_to_file_response")]
        shown = ["" if cell is None else f"{cell:.2f}" for cell in cells]
        print(f"{name:48} {facts['mb_per_s']:7.0f} {shown[0]:>10} {shown[1]:>8} {shown[2]:>21}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"size_mib": options.size_mib, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
