"""What one delivery over a status WebSocket costs, beside a bare ws server in Node.js and a loop that only sends.

    python bench/websocket.py [--connections 2000] [--rounds 5] [--quick]

A server process (uvicorn, uvloop, the hub and its routes over a database in memory), one of ws, and this process as
all clients of both. ``loop`` awaits Echo's own sockets' send one after another with one text made beforehand: the least
that Python can do, and what one stalled client stops for everybody. All send frames of the same length, in turns.

For processor time the clients share the server's processor and never preempt it (SCHED_BATCH). On another processor
they would fall asleep between two messages, and waking a processor of a virtual machine costs the sender more than
sending does: whoever sends faster would pay less. For latency they have a processor of their own. Latency is from the
moment an event is made, for everybody at once, to the moment a client reads it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
import uvloop
from harness import CLIENT_CPU, SERVER_CPU, Row, free_port, node_peer, percentile, pin, running, write_result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from echo_core.adapters.redis_events import _decode, _encode_event
from echo_core.application.realtime import Realtime, RealtimeHub
from echo_core.application.realtime_frames import event_frame
from echo_core.domain.users import User
from echo_core.entrypoints.cli.commands.instance import GC_THRESHOLDS
from echo_core.entrypoints.http.server import WS_OPTIONS
from echo_core.entrypoints.http.ws import ws_routes
from echo_core.plugin_api.events import Event
from tests.fakes.realtime import (
    JOB,
    START,
    VIDEO,
    EventDatabase,
    ManualClock,
    MemoryTickets,
    QueueSource,
    TableTokens,
    limits,
    user,
)

EVENTS_PER_BURST = 10
SWEEPS = 10
SWEEP_EVERY_S = 0.1
CONNECT_AT_ONCE = 100
STAMP = re.compile(rb'"t:(\d+)"')
STAMP_BYTES = 32


# --- the server ---------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, hub: RealtimeHub) -> None:
        self.hub = hub
        self.numbers: dict[Any, int] = {}

    def event(self, owner: User, *, stamped: bool = False) -> Event:
        number = self.numbers[owner.id] = self.numbers.get(owner.id, 0) + 1
        title = f"t:{time.monotonic_ns()}" if stamped else "t:0000000000000000000"
        facts = {"title": title, "attempt": 1}
        return Event(
            sequence=number,
            type="step.running",
            owner_id=owner.id,
            video_id=VIDEO,
            job_id=JOB,
            step="ladder",
            state="running",
            at=START,
            facts=facts,
        )

    def connections(self) -> list[Any]:
        return [c for topic in self.hub.topics.values() for c in topic.connections]

    def owners(self) -> list[User]:
        return [topic.user for topic in self.hub.topics.values()]

    def prepare(self, mode: str, *, stamped: bool = False) -> Callable[[], Awaitable[None]]:
        """One delivery to every connection, with everything made beforehand that others than the hub make."""
        if mode == "loop":
            text = event_frame(self.event(user(0), stamped=stamped)).text
            return partial(_send_to_all, self.connections(), text)
        return partial(self._by_hub, [_encode_event(self.event(owner, stamped=stamped)) for owner in self.owners()])

    async def _by_hub(self, entries: list[bytes]) -> None:
        """As the hub gets them: one entry of the stream for each owner, decoded and delivered."""
        for index, entry in enumerate(entries, start=1):
            message = _decode(entry)
            assert message is not None
            self.hub.handle(message)
            if index % 16 == 0:
                await asyncio.sleep(0)


async def _send_to_all(connections: list[Any], text: str) -> None:
    for connection in connections:
        await connection.sink.send(text)


def serve(port: int) -> None:
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as ``echoctl serve`` does
    clock = ManualClock()
    settings = limits(ws_max_connections_per_user=100_000)
    tokens = TableTokens({f"{n}": user(n) for n in range(1, 20_000)})
    hub = RealtimeHub(units_of_work=EventDatabase(), source=QueueSource(), limits=settings, clock=clock)  # type: ignore[arg-type]
    services = Realtime(hub=hub, tokens=tokens, tickets=MemoryTickets(clock), limits=settings, clock=clock)
    bench = Bench(hub)

    async def state(_request: Request) -> JSONResponse:
        gc.collect()
        live = sum(c.live for c in bench.connections())
        return JSONResponse({"rss": _resident_bytes(), "live": live})

    async def burst(request: Request) -> JSONResponse:
        deliveries = [bench.prepare(request.path_params["mode"]) for _ in range(EVENTS_PER_BURST)]
        cpu, wall = time.process_time(), time.perf_counter()
        for deliver in deliveries:
            await deliver()
            await asyncio.sleep(0)
        return JSONResponse({"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall})

    async def sweeps(request: Request) -> JSONResponse:
        for _ in range(SWEEPS):
            await bench.prepare(request.path_params["mode"], stamped=True)()
            await asyncio.sleep(SWEEP_EVERY_S)
        return JSONResponse({})

    routes = ws_routes(lambda: services, current_user=lambda _request: tokens.verify(""))
    routes += [Route("/state", state), Route("/burst/{mode}", burst), Route("/sweeps/{mode}", sweeps)]
    config = uvicorn.Config(
        Starlette(routes=routes),
        port=port,
        **{**WS_OPTIONS, "ws_ping_interval": None},  # these clients do not answer pings
        loop="uvloop",
        http="httptools",
        log_level="error",
        access_log=False,
        lifespan="off",
        backlog=4096,
    )

    async def main() -> None:
        running = asyncio.create_task(hub.run())
        await uvicorn.Server(config).serve()
        running.cancel()

    uvloop.run(main())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# --- the clients --------------------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """Counts bytes and collects the stamps in them; everything else about a client would only slow the server down."""

    def __init__(self, number: int, port: int, crowd: Crowd) -> None:
        self.number, self.port, self.crowd = number, port, crowd
        self.ready = asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.upgraded = False
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(
            f"GET /ws/jobs/status/{user(self.number).id} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if not self.upgraded:
            self.upgraded = True
            message = json.dumps({"type": "auth", "token": f"{self.number}"}).encode()
            self.transport.write(bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message)
        elif not self.ready.done():
            if b'"snapshot"' in data:
                self.ready.set_result(None)
        else:
            data = self.rest + data  # a stamp may lie across two reads
            end = self.crowd.take(data)
            self.rest = data[max(end, len(data) - STAMP_BYTES) :]


class Crowd:
    """All clients of one run."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.frames = 0
        self.latencies_ms: list[float] = []
        self.clients: list[Client] = []

    def take(self, data: bytes) -> int:
        """Count stamps; returns where the last one ends."""
        now, end = time.monotonic_ns(), 0
        for stamp in STAMP.finditer(data):
            end = stamp.end()
            self.frames += 1
            if (sent := int(stamp[1])) > 0:
                self.latencies_ms.append((now - sent) / 1e6)
        return end

    async def connect(self, numbers: list[int]) -> None:
        loop = asyncio.get_running_loop()
        for start in range(0, len(numbers), CONNECT_AT_ONCE):
            made = await asyncio.gather(
                *(
                    loop.create_connection(lambda n=n: Client(n, self.port, self), "127.0.0.1", self.port)
                    for n in numbers[start : start + CONNECT_AT_ONCE]
                )
            )
            fresh = [protocol for _, protocol in made]
            await asyncio.gather(*(client.ready for client in fresh))
            self.clients += fresh

    async def received(self, frames: int) -> None:
        deadline = time.monotonic() + 20
        while self.frames < frames and time.monotonic() < deadline:  # noqa: ASYNC110 - a data_received counts
            await asyncio.sleep(0.01)
        if self.frames != frames:
            raise SystemExit(f"{self.frames} of {frames} frames arrived")
        self.frames = 0

    def close(self) -> None:
        for client in self.clients:
            client.transport.abort()


class Server:
    """One of those that are compared, and its crowd. ``modes`` are ways in which it can send the same."""

    def __init__(self, port: int, pid: int, modes: Sequence[str]) -> None:
        self.port, self.pid, self.modes = port, pid, modes
        self.crowd = Crowd(port)
        self.kib_per_connection = 0.0

    async def ask(self, path: str) -> dict[str, Any]:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60) as http:
            answer: dict[str, Any] = (await http.get(path)).raise_for_status().json()
            return answer

    async def connect(self, connections: int, *, one_owner: bool) -> None:
        await _until(lambda: _is(self.ask, live=0))
        before = await self.ask("/state")
        await self.crowd.connect([1] * connections if one_owner else list(range(1, connections + 1)))
        after = await self.ask("/state")
        self.kib_per_connection = round((after["rss"] - before["rss"]) / 1024 / connections, 1)


async def measure(servers: Mapping[str, Server], connections: int, rounds: int, *, one_owner: bool) -> dict[str, Any]:
    for server in servers.values():
        pin(server.pid, SERVER_CPU)
        await server.connect(connections, one_owner=one_owner)
    runs = [(f"{name} {mode}", server, mode) for name, server in servers.items() for mode in server.modes]
    cpu_us: dict[str, list[float]] = {name: [] for name, *_ in runs}
    deliveries = EVENTS_PER_BURST * connections
    pin(os.getpid(), SERVER_CPU)
    for number in range(rounds + 1):
        for name, server, mode in runs if number % 2 else runs[::-1]:
            spent = await server.ask(f"/burst/{mode}")
            await server.crowd.received(deliveries)
            if number:  # the first round warms up
                cpu_us[name].append(1e6 * spent["cpu_s"] / deliveries)
    pin(os.getpid(), CLIENT_CPU)
    result: dict[str, Any] = {"connections": connections, "owners": 1 if one_owner else connections}
    for name, server, mode in runs:
        latencies_ms = server.crowd.latencies_ms = []
        await server.ask(f"/sweeps/{mode}")
        await server.crowd.received(SWEEPS * connections)
        result[name] = {
            "cpu_us_per_delivery": round(statistics.median(cpu_us[name]), 1),
            "cpu_us_rounds": [round(value, 1) for value in cpu_us[name]],
            "p50_ms": round(percentile(latencies_ms, 0.5), 1),
            "p99_ms": round(percentile(latencies_ms, 0.99), 1),
            "kib_per_connection": server.kib_per_connection,
        }
    for server in servers.values():
        server.crowd.close()
    return result


async def _is(ask: Callable[[str], Awaitable[dict[str, Any]]], *, live: int) -> bool:
    return (await ask("/state"))["live"] == live


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(500):
        try:
            if await condition():
                return
        except httpx2.TransportError:
            pass
        await asyncio.sleep(0.05)
    raise SystemExit("the server did not come up")


def run(connections: int, rounds: int, *, one_owner: bool) -> dict[str, Any]:
    echo, ws = free_port(), free_port()
    with (
        running([sys.executable, __file__, "--serve", str(echo)], quiet=False) as ours,
        running([*node_peer("ws.mjs"), str(ws)], quiet=False) as theirs,
    ):
        servers = {
            "echo": Server(echo, ours.pid, ("hub", "loop")),
            "ws": Server(ws, theirs.pid, ("same" if one_owner else "own",)),
        }
        return uvloop.run(measure(servers, connections, rounds, one_owner=one_owner))


def summary(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Of the largest number of connections."""
    own, same = results[-1], results[-2]
    clients = f"{own['connections']} sockets"
    kinds = (("one event for all", same, "ws same", True), ("an event each", own, "ws own", False))
    rows = []
    for kind, result, ws, has_target in kinds:
        # What the targets were measured with is one frame for all.
        peers = {"ws": result[ws], "bare loop": result["echo loop"]}
        rows.append(
            Row(
                measure=f"WebSocket delivery, {clients}, {kind}: CPU",
                unit="us",
                echo=result["echo hub"]["cpu_us_per_delivery"],
                peers={name: figures["cpu_us_per_delivery"] for name, figures in peers.items()},
                limit=round(20 / 14, 2) if has_target else None,  # where ws took 13 to 15 us, 20 were asked for
                of="ws" if has_target else None,
            )
        )
        rows += [
            Row(
                measure=f"WebSocket sweep of {clients}, {kind}: {share}",
                unit="ms",
                echo=result["echo hub"][f"{share}_ms"],
                peers={name: figures[f"{share}_ms"] for name, figures in peers.items()},
                limit=100 if has_target and share == "p99" else None,
            )
            for share in ("p50", "p99")
        ]
    return [
        *rows,
        Row(
            measure="WebSocket connection: memory",
            unit="KiB",
            echo=own["echo hub"]["kib_per_connection"],
            peers={"ws": own["ws own"]["kib_per_connection"]},
            limit=30,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, nargs="+", default=[2000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if arguments.serve:
        serve(arguments.serve)
        return
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # see the module
    rounds = 3 if arguments.quick else arguments.rounds
    results = [
        run(connections, rounds, one_owner=one_owner)
        for connections in arguments.connections
        for one_owner in (True, False)
    ]
    write_result("websocket", summary(results), {"rounds": rounds, "runs": results})


if __name__ == "__main__":
    main()
