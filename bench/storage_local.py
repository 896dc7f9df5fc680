"""Uploads to and reads from storage_local over loopback HTTP, beside nginx and a plain tus server.

    python bench/storage_local.py [--size-mib 256] [--rounds 5] [--quick]

Uploads: nginx's WebDAV PUT, @tus/server's PATCH, ``cp``, and Echo's server throwing the bytes away. Reads: nginx, and
Starlette's FileResponse as it comes. Once in memory (tmpfs), where processors decide, and once on the disk. Only Echo
(and ``cp`` here) syncs what it has taken to the disk before it says so, and only Echo computes a checksum. Servers have
one processor, the client the other. Long, because each peer has its own way to be started and asked.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from harness import (
    CLIENT_CPU,
    GIB,
    MIB,
    SERVER_CPU,
    Row,
    cpu_s,
    free_port,
    medians,
    node_peer,
    pin,
    running,
    scratch_folder,
    write_result,
)

NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        location / {{ dav_methods PUT; create_full_put_path on; }}
    }}
}}
"""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def serve(data_dir: Path, port: int) -> None:
    """The server process: the plugin's routes, the yardsticks, and two ways to ask for URLs."""
    import uvicorn
    from echo_storage_local.backend import open_local_storage
    from echo_storage_local.config import LocalStorageConfig
    from echo_storage_local.routes import make_routes
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Mount, Route

    from echo_core.plugin_api import BeginUpload, PluginContext, ReadUrl

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
        self.head = b""

    def get(self, target: str, start: int | None = None, end: int | None = None) -> int:
        return self.ask("GET", target, {} if start is None else {"Range": f"bytes={start}-{end}"})

    def put(self, target: str, source: Path, start: int, count: int, total: int) -> int:
        content_range = {"Content-Range": f"bytes {start}-{start + count - 1}/{total}"}
        return self.send("PUT", target, source, start, count, content_range)

    def send(
        self, method: str, target: str, source: Path, start: int, count: int, headers: Mapping[str, str] | None = None
    ) -> int:
        self._say(method, target, {"Content-Length": str(count), **(headers or {})})
        with source.open("rb") as file:
            self._socket.sendfile(file, start, count)
        return self._answer()

    def ask(self, method: str, target: str, headers: Mapping[str, str]) -> int:
        self._say(method, target, headers)
        return self._answer()

    def _say(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: bench\r\n{lines}\r\n".encode())

    def text(self, target: str) -> str:
        self.get(target)
        return self._body.decode()

    def _answer(self) -> int:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._received()
        self.head, _, self._body = head.partition(b"\r\n\r\n")
        head = self.head
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if b"transfer-encoding: chunked" in lines:
            while not (self._body.endswith(b"0\r\n\r\n")):
                self._body += self._received()
        left = length - len(self._body)
        if 0 < left <= 64 * 1024:
            self._body += self._socket.recv(left, socket.MSG_WAITALL)
            left = 0
        while left > 0:
            count = self._socket.recv_into(self._buffer, min(left, len(self._buffer)))
            if not count:
                raise ConnectionError("the server has closed the connection")
            left -= count
        return int(head.split(b" ", 2)[1])

    def _received(self) -> bytes:
        piece = self._socket.recv(64 * 1024)
        if not piece:
            raise ConnectionError("the server has closed the connection")
        return piece

    def close(self) -> None:
        self._socket.close()


class Server:
    """A server process that listens, and one connection to it."""

    def __init__(self, process: psutil.Process, port: int) -> None:
        self.process = process
        self.port = port
        pin(process.pid, SERVER_CPU)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client = Client(port)
                return
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def measure(self, work: Callable[[], int]) -> dict[str, float]:
        """Run ``work``, which returns the bytes it moved, on a connection of its own: idle ones are closed."""
        self.client.close()
        self.client = Client(self.port)
        before, began = cpu_s(self.process), time.perf_counter()
        moved = work()
        took, after = time.perf_counter() - began, cpu_s(self.process)
        return {
            "mb_per_s": moved / took / 1e6,
            "cpu_s_per_gib": (after - before) / (moved / GIB),
            "rss_mib": self.process.memory_info().rss / MIB,
        }


@contextmanager
def echo_server(data_dir: Path) -> Iterator[Server]:
    port = free_port()
    with running([sys.executable, __file__, "--serve", str(data_dir), str(port)], quiet=False) as process:
        yield Server(psutil.Process(process.pid), port)


@contextmanager
def tus_server(folder: Path) -> Iterator[Server]:
    port = free_port()
    folder.mkdir()
    with running([*node_peer("tus.mjs"), str(port), str(folder)], quiet=False) as process:
        yield Server(psutil.Process(process.pid), port)


@contextmanager
def nginx_server(folder: Path) -> Iterator[Server]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        raise SystemExit("nginx is not installed: run 'make bench'.")
    port = free_port()
    (folder / "files").mkdir(parents=True)
    configuration = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # its worker would otherwise be nobody, who may not write here
    configuration.write_text(NGINX.format(folder=folder, port=port, user=user))
    command = [nginx, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log"), "-g", "daemon off;"]
    with running(command, quiet=False) as process:
        master = psutil.Process(process.pid)
        deadline = time.monotonic() + 15
        while not (workers := master.children()) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield Server(workers[0], port)


def tus_uploads(server: Server, source: Path, size: int) -> dict[str, Callable[[], int]]:
    def patch() -> int:
        version = {"Tus-Resumable": "1.0.0"}
        server.client.ask("POST", "/files", {**version, "Upload-Length": str(size), "Content-Length": "0"})
        location = next(line for line in server.client.head.split(b"\r\n") if line.lower().startswith(b"location:"))
        target = urlsplit(location.partition(b":")[2].strip().decode()).path
        headers = {**version, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        if server.client.send("PATCH", target, source, 0, size, headers) != 204:
            raise RuntimeError("tus did not take the bytes")
        return size

    return {"tus PATCH": patch}


def nginx_work(server: Server, folder: Path, source: Path, size: int) -> dict[str, Callable[[], int]]:
    (folder / "files" / "plain.bin").hardlink_to(source)
    counter = iter(range(1000))

    def put() -> int:
        if server.client.send("PUT", f"/up/{next(counter)}", source, 0, size) not in (201, 204):
            raise RuntimeError("nginx did not take the bytes")
        return size

    def ranges() -> int:
        for start in range(0, size, MIB):
            if server.client.get("/plain.bin", start, start + MIB - 1) != 206:
                raise RuntimeError("range read failed")
        return size

    return {"nginx PUT": put, "nginx, 1 MiB ranges": ranges}


def uploads(server: Server, source: Path, size: int) -> dict[str, Callable[[], int]]:
    counter = iter(range(1000))

    def put(chunk: int) -> int:
        url = urlsplit(server.client.text(f"/begin?key=up/{next(counter)}&size={size}"))
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
    speed = source.stat().st_size / (time.perf_counter() - began) / 1e6
    target.unlink()
    return speed


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
        shutil.copyfile(source, linked)
        async with open_local_storage(context) as storage:
            await storage.put_file(PutFile(key="bench/plain", path=linked, content_type="video/mp4"))

    asyncio.run(put())


def run(size_mib: int, rounds: int, *, in_memory: bool) -> dict[str, dict[str, float]]:
    size = size_mib * MIB
    with scratch_folder(in_memory=in_memory) as folder, ExitStack() as stack:
        source = folder / "plain.bin"
        with source.open("wb") as file:
            for _ in range(size_mib):
                file.write(os.urandom(MIB))
        data_dir = folder / "echo"
        data_dir.mkdir()
        (data_dir / "plain.bin").hardlink_to(source)
        store_plain(data_dir, source)
        echo = stack.enter_context(echo_server(data_dir))
        nginx = stack.enter_context(nginx_server(folder / "nginx"))
        tus = stack.enter_context(tus_server(folder / "tus"))
        work = [(echo, uploads(echo, source, size) | reads(echo, size))]
        work.append((nginx, nginx_work(nginx, folder / "nginx", source, size)))
        work.append((tus, tus_uploads(tus, source, size)))
        found: dict[str, list[dict[str, float]]] = {}
        for number in range(rounds + 1):
            taken = {"cp and fsync": {"mb_per_s": copy_with_fsync(source, folder / "copy.bin")}}
            for server, tasks in work:
                taken |= {name: server.measure(task) for name, task in tasks.items()}
                for received in (data_dir / "objects/objects/up", folder / "nginx/files/up", folder / "tus"):
                    _empty(received)
            if number:  # the first round warms up
                for name, figures in taken.items():
                    found.setdefault(name, []).append(figures)
        return {name: medians(figures) for name, figures in found.items()}


def _empty(folder: Path) -> None:
    with suppress(FileNotFoundError):
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def summary(memory: Mapping[str, Mapping[str, float]], disk: Mapping[str, Mapping[str, float]]) -> list[Row]:
    ours, nginx, tus, copy = "storage_local, one PUT", "nginx PUT", "tus PATCH", "cp and fsync"
    discard = "bytes thrown away"

    def peers(of: Mapping[str, Mapping[str, float]], figure: str, *names: str) -> dict[str, float]:
        return {name: of[name][figure] for name in names}

    return [
        Row(
            measure="Upload, in memory: speed",
            unit="MB/s",
            echo=memory[ours]["mb_per_s"],
            peers=peers(memory, "mb_per_s", nginx, discard, tus, copy),
            limit=round(500 / 938, 2),  # where nginx made 938, 500 were asked for
            of=nginx,
            at_least=True,
        ),
        Row(
            measure="Upload, in memory: server CPU",
            unit="s/GiB",
            echo=memory[ours]["cpu_s_per_gib"],
            peers=peers(memory, "cpu_s_per_gib", nginx, discard, tus),
        ),
        Row(
            measure="Upload, on disk and synced: speed",
            unit="MB/s",
            echo=disk[ours]["mb_per_s"],
            peers=peers(disk, "mb_per_s", nginx, tus, copy),
        ),
        Row(
            measure="Upload: resident memory of the server",
            unit="MiB",
            echo=memory[ours]["rss_mib"],
            peers=peers(memory, "rss_mib", nginx, tus),
        ),
        Row(
            measure="Range reads of 8 MiB: server CPU",
            unit="s/GiB",
            echo=disk["storage_local, 8 MiB ranges"]["cpu_s_per_gib"],
            peers={"FileResponse": disk["FileResponse, 8 MiB ranges"]["cpu_s_per_gib"]},
            limit=round(0.6 / 2.5, 2),  # where FileResponse took 2.5 s, 0.6 were asked for
            of="FileResponse",
        ),
        Row(
            measure="Range reads of 1 MiB: server CPU of each",
            unit="us",
            echo=_us_each(disk["storage_local, 1 MiB ranges"]),
            peers={name: _us_each(disk[f"{name}, 1 MiB ranges"]) for name in ("FileResponse", "nginx")},
            limit=round(900 / 2581, 2),  # where FileResponse took 2581 us, 900 were asked for
            of="FileResponse",
        ),
    ]


def _us_each(figures: Mapping[str, float]) -> float:
    return figures["cpu_s_per_gib"] * 1e6 * MIB / GIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="smaller files, fewer rounds")
    options = parser.parse_args()
    size_mib, rounds = (64, 2) if options.quick else (options.size_mib, options.rounds)
    pin(os.getpid(), CLIENT_CPU)
    memory, disk = (run(size_mib, rounds, in_memory=in_memory) for in_memory in (True, False))
    for place, results in (("in memory", memory), ("on disk", disk)):
        print(f"  {place:40} {'MB/s':>7} {'CPU s/GiB':>10} {'RSS MiB':>8}")
        for name, facts in results.items():
            shown = [f"{facts[key]:.2f}" if key in facts else "" for key in ("cpu_s_per_gib", "rss_mib")]
            print(f"  {name:40} {facts['mb_per_s']:7.0f} {shown[0]:>10} {shown[1]:>8}")
    write_result("storage_local", summary(memory, disk), {"size_mib": size_mib, "memory": memory, "disk": disk})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
