"""How long the API process takes to start, and how much memory it has when it rests.

    python bench/api_process.py [--rounds 5] [--quick]

``echoctl serve`` beside a database and a Redis that run: from the start of the process to its first answer at
``/healthz``, in wall time and in processor time, and the resident memory after the first requests. The peer is the
interpreter with nothing but uvicorn and Starlette, which answers one route. Not the first start ever: Python has
compiled its modules.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

import httpx2
import psutil
from harness import CLIENT_CPU, SERVER_CPU, Row, cpu_s, free_port, instance, pin, running, write_result

BARE = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def healthz(request):
    return PlainTextResponse("ok")

uvicorn.run(Starlette(routes=[Route("/healthz", healthz)]), port=int(sys.argv[1]), log_level="error")
"""


def started(
    argv: Sequence[str], port: int, issuer: str, requests: Sequence[tuple[str, Mapping[str, str]]]
) -> dict[str, float]:
    environment = {**os.environ, "ECHO_HTTP__PORT": str(port), "ECHO_HTTP__PUBLIC_URL": issuer}
    began = time.perf_counter()
    with running(argv, env=environment) as popen:
        process = psutil.Process(popen.pid)
        pin(popen.pid, SERVER_CPU)
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=url) as http:
            while True:
                try:
                    http.get("/healthz").raise_for_status()
                    break
                except httpx2.TransportError:
                    time.sleep(0.01)
            took, spent = time.perf_counter() - began, cpu_s(process)
            for path, headers in requests:
                http.get(path, headers=headers).raise_for_status()
        return {"start_s": took, "start_cpu_s": spent, "rss_mb": process.memory_info().rss / 1e6}


def run(rounds: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {"echo": [], "bare": []}
    with instance() as echo:
        # The embedded services stay; the API and the worker of this instance do not compete with what is measured.
        for process in (echo.up, *echo.up.children(recursive=True)):
            pin(process.pid, CLIENT_CPU)
        pin(os.getpid(), CLIENT_CPU)
        bearer = {"Authorization": f"Bearer {echo.token}"}
        requests = [("/readyz", {}), ("/api/v1/videos", bearer), ("/metrics", {})]
        serve = [sys.executable, "-m", "echo_core.entrypoints.cli", "serve"]
        os.chdir(echo.folder)
        for number in range(rounds + 1):
            for name, argv, then in (("echo", serve, requests), ("bare", [sys.executable, "-c", BARE], [])):
                port = free_port()
                issuer = f"http://127.0.0.1:{echo.port}"
                figures = started([*argv, str(port)] if name == "bare" else argv, port, issuer, then)
                if number:
                    found[name].append(figures)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    found = run(2 if options.quick else options.rounds)

    def row(measure: str, unit: str, figure: str, limit: float | None) -> Row:
        echo, bare = (statistics.median(one[figure] for one in found[name]) for name in ("echo", "bare"))
        return Row(measure=measure, unit=unit, echo=echo, peers={"bare uvicorn": bare}, limit=limit)

    rows = [
        row("API process: start to first answer", "s", "start_s", 2.0),
        row("API process: CPU of the start", "s", "start_cpu_s", None),
        row("API process at rest: resident memory", "MB", "rss_mb", 120),
    ]
    write_result("api_process", rows, {"rounds": found})


if __name__ == "__main__":
    main()
