"""What the benchmarks share: processes on their own processors, an instance of Echo, results as JSON.

``cpu_s`` of a server, in turns with its peers, is what decides here: neighbours on the machine slow wall time down by
far more than they change processor time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PEERS = ROOT / "bench" / "peers"
sys.path.insert(0, str(ROOT))

# A benchmark that is told to end takes its servers along.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

MIB = 1 << 20
GIB = 1 << 30
START_TIMEOUT_S = 120


# --- results ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the summary. ``limit`` bounds ``echo`` (from above, unless ``at_least``); with ``of`` it bounds the
    ratio to that peer, which is the same on every machine."""

    measure: str
    unit: str
    echo: float
    peers: Mapping[str, float] = field(default_factory=dict)
    limit: float | None = None
    of: str | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None: there is none."""
        if self.limit is None:
            return None
        value = self.echo if self.of is None else self.echo / self.peers[self.of]
        return value >= self.limit if self.at_least else value <= self.limit


def write_result(name: str, rows: Sequence[Row], details: Mapping[str, Any]) -> None:
    """Print the rows and keep them, with everything measured, in ``bench/results/<name>.json``."""
    for row in rows:
        print("  " + "  ".join(cell for cell in cells(asdict(row) | {"met": row.met}) if cell))
    result = {
        "benchmark": name,
        "machine": machine(),
        "summary": [asdict(row) | {"met": row.met} for row in rows],
        "details": details,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def cells(row: Mapping[str, Any]) -> list[str]:
    """Measure, Echo, peers, ratios, target, met: as text."""
    peers = ", ".join(f"{name} {_number(value)}" for name, value in row["peers"].items())
    ratios = ", ".join(f"{row['echo'] / value:.2f}" for value in row["peers"].values() if value)
    target = ""
    if row["limit"] is not None:
        sign, suffix = ("≥" if row["at_least"] else "≤"), (f" x {row['of']}" if row["of"] else f" {row['unit']}")
        target = f"{sign} {_number(row['limit'])}{suffix}"
    met = {True: "yes", False: "NO", None: ""}[row["met"]]
    return [row["measure"], f"{_number(row['echo'])} {row['unit']}", peers, ratios, target, met]


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """What figures depend on."""
    cpu = platform.processor()
    with suppress(OSError):
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    return {
        "system": platform.platform(),
        "processor": cpu,
        "processors": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "python": platform.python_version(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of every figure over the rounds."""
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


# --- processes --------------------------------------------------------------------------------------------------------


def pin(pid: int, processor: int) -> None:
    """Keep a process, with its threads and children to come, on one processor, if there are two."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        with suppress(FileNotFoundError):  # it has ended: one of PostgreSQL's helpers, which come and go
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), {processor})


SERVER_CPU, CLIENT_CPU = 0, 1


def cpu_s(*processes: psutil.Process) -> float:
    """Processor time of these processes so far, the kernel's on their behalf included."""
    return sum(_cpu_s(process) for process in processes)


def _cpu_s(process: psutil.Process) -> float:
    # The scheduler's own account is in nanoseconds, where /proc/<pid>/stat has ticks of 10 ms.
    with suppress(OSError):
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes], *, any_status: bool = False) -> None:
    """Until the server answers 200 (or anything at all)."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with suppress(httpx2.TransportError):
            if any_status or httpx2.get(url).status_code == 200:
                httpx2.get(url)
                return
        if process.poll() is not None:
            raise SystemExit(f"{process.args}: ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise SystemExit(f"{process.args}: does not answer at {url}")
        time.sleep(0.05)


@contextmanager
def running(argv: Sequence[str], *, quiet: bool = True, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of the block."""
    sink = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} if quiet else {}
    process = subprocess.Popen(argv, **sink, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def scratch_folder(*, in_memory: bool = False) -> Iterator[Path]:
    """A folder that is gone afterwards; in memory (tmpfs), where there is one."""
    shm = Path("/dev/shm")
    parent = shm if in_memory and os.access(shm, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="echo-bench-", dir=parent) as folder:
        yield Path(folder)


def node_peer(script: str) -> list[str]:
    """The command that starts a peer written in JavaScript."""
    node = shutil.which("node")
    if node is None or not (PEERS / "node_modules").is_dir():
        raise SystemExit("The JavaScript peers are not installed: run 'make bench'.")
    return [node, str(PEERS / script)]


# --- Echo -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A running Echo with an empty database."""

    port: int
    folder: Path
    up: psutil.Process
    token: str
    owner: str
    api_url: str
    worker_url: str
    redis_url: str

    @property
    def api(self) -> psutil.Process:
        """The API process."""
        return self._child("serve")

    @property
    def worker(self) -> psutil.Process:
        """The worker."""
        return self._child("worker")

    def _child(self, command: str) -> psutil.Process:
        return next(p for p in self.up.children(recursive=True) if command in p.cmdline())


@contextmanager
def instance(*, config: str = "", in_memory: bool = False) -> Iterator[Instance]:
    """``echoctl up`` in a folder of its own, ready, with one user. ``config`` is an ``echo.toml``."""
    from echo_core.adapters.addresses import addresses
    from echo_core.adapters.secrets import load_instance_secret
    from echo_core.bootstrap import issue_token, load_settings

    with scratch_folder(in_memory=in_memory) as folder:
        port = free_port()
        (folder / "echo.toml").write_text(config)
        environment = {
            "ECHO_CONFIG": str(folder / "echo.toml"),
            "ECHO_DATA_DIR": str(folder / "data"),
            "ECHO_HTTP__PORT": str(port),
            "XDG_STATE_HOME": str(folder / "state"),
        }
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            with running([sys.executable, "-m", "echo_core.entrypoints.cli", "up"], cwd=folder) as up:
                wait_for(f"http://127.0.0.1:{port}/readyz", up)
                settings = load_settings()
                token = asyncio.run(issue_token(settings, "bench@example.org", 36_000))
                where = addresses(settings, load_instance_secret(settings))
                yield Instance(
                    port=port,
                    folder=folder,
                    up=psutil.Process(up.pid),
                    token=token,
                    owner=str(_claims(token)["sub"]),
                    api_url=where.api_url,
                    worker_url=where.worker_url,
                    redis_url=where.redis_url,
                )
        finally:
            os.environ.clear()
            os.environ.update(before)


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims
