"""From a commit to the start of its step, steps that do nothing per second, and the time until a killed worker's step
goes on; beside plain arq.

    python bench/engine.py [--steps 400] [--singles 40] [--quick]

Echo's worker here has the real engine, reconciler, doorbell and database of an instance, with its defaults, and two
steps of its own: one that does nothing and one that never ends. arq's worker does nothing in the same number of slots,
once with arq's default poll delay and once with Echo's. Echo commits every change of a step, with its events, to
PostgreSQL before the next; arq keeps what it knows in Redis and loses it with it: the comparison shows the price.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker as ArqWorker
from arq.worker import func
from harness import CLIENT_CPU, SERVER_CPU, Instance, Row, cpu_s, instance, percentile, pin, write_result

from echo_core.adapters.arq_queue import ArqDoorbell, ArqListener, open_arq
from echo_core.adapters.logs import configure_logging
from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork
from echo_core.adapters.redis_events import RedisEventBus
from echo_core.adapters.redis_metrics import RedisStepMetrics
from echo_core.adapters.settings import LogSettings
from echo_core.application.commit_relay import CommitRelay
from echo_core.application.engine import Engine
from echo_core.application.job_changes import store_change
from echo_core.application.pipeline import Pipeline, RegisteredStep
from echo_core.application.processing import opened
from echo_core.application.reconciling import Reconciler, ReconcilerTiming
from echo_core.domain.ids import UserId, new_video_id
from echo_core.domain.jobs import JobKind
from echo_core.domain.uploads import Upload, UploadState, source_key
from echo_core.domain.videos import Video, VideoStatus
from echo_core.plugin_api.specs import StepSpec
from echo_core.plugin_api.steps import Resource, StepContext, StepResult
from echo_core.testing.fake_storage import FakeStorage
from echo_core.testing.fake_transcoder import FakeTranscoder

SLOTS = 10
POLL_DELAY_S = 0.05
"""Echo's default."""
ARQ_POLL_DELAY_S = 0.5
"""arq's default."""
DEADLINE_S = 120


def tell(event: str) -> None:
    """To the process that measures; the clock is the machine's."""
    print(json.dumps({"event": event, "at": time.monotonic()}), flush=True)


# --- the workers ------------------------------------------------------------------------------------------------------


class Nothing:
    """A step that only tells that it has started."""

    async def run(self, context: StepContext) -> StepResult:
        tell("nothing")
        return StepResult()


class Forever:
    """A step that does not end."""

    async def run(self, context: StepContext) -> StepResult:
        tell("forever")
        await asyncio.Event().wait()
        return StepResult()


HANDLERS = {"nothing": Nothing(), "forever": Forever()}


def pipeline_of(step: str) -> Pipeline:
    spec = StepSpec(
        name=step,
        produces=(step,),
        resource=Resource.LIGHT,
        optional=False,
        timeout_s=3600.0,
        open=opened(HANDLERS[step]),
    )
    return Pipeline(process=(RegisteredStep(plugin="bench", spec=spec),), purge=())


@dataclass(frozen=True)
class Wiring:
    redis: Any
    bus: RedisEventBus
    doorbell: ArqDoorbell
    units_of_work: PostgresWorkerUnitsOfWork


@asynccontextmanager
async def wired(database_url: str, redis_url: str) -> AsyncIterator[Wiring]:
    """As bootstrap wires them."""
    async with AsyncExitStack() as stack:
        redis = open_arq(redis_url)
        stack.push_async_callback(redis.aclose)
        bus = RedisEventBus(redis_url)
        stack.push_async_callback(bus.aclose)
        doorbell = ArqDoorbell(redis)
        relay = CommitRelay(bus=bus, doorbell=doorbell)
        await stack.enter_async_context(relay.running())
        engine = await stack.enter_async_context(open_engine(database_url))
        yield Wiring(redis, bus, doorbell, PostgresWorkerUnitsOfWork(engine, relay))


async def echo_worker(database_url: str, redis_url: str) -> None:
    configure_logging(LogSettings(level="error", format="json"), process="bench")
    with tempfile.TemporaryDirectory() as scratch:
        async with wired(database_url, redis_url) as parts:
            engine = Engine(
                units_of_work=parts.units_of_work,
                storage=FakeStorage(),
                storage_name="fake",
                transcoder=FakeTranscoder(),
                handlers=HANDLERS,
                slots={Resource.LIGHT: SLOTS},
                scratch=Path(scratch),
                worker=f"bench-{Path(scratch).name}",
                bus=parts.bus,
                metrics=RedisStepMetrics(parts.redis),
            )
            reconciler = Reconciler(
                engine=engine,
                units_of_work=parts.units_of_work,
                doorbell=parts.doorbell,
                pipeline=pipeline_of("nothing"),
                timing=ReconcilerTiming(event_retention=timedelta(days=30)),
            )
            listener = ArqListener(
                parts.redis,
                Resource.LIGHT,
                slots=SLOTS,
                free_slots=lambda: engine.free_slots(Resource.LIGHT),
                claim=lambda: engine.claim_next(Resource.LIGHT),
                poll_delay_s=POLL_DELAY_S,
            )
            engine.on_slots_changed = lambda _, free: listener.slots_changed(free)
            await go()
            async with asyncio.TaskGroup() as tasks:
                ready = asyncio.Event()
                tasks.create_task(engine.run(ready=ready, stop=asyncio.Event()))
                await ready.wait()
                tasks.create_task(reconciler.run())
                tasks.create_task(listener.run())


async def arq_worker(redis_url: str, poll_delay_s: float) -> None:
    async def nothing(ctx: Mapping[str, object]) -> None:
        tell("nothing")

    worker = ArqWorker(
        functions=[func(nothing, name="nothing")],
        redis_settings=RedisSettings.from_dsn(redis_url),
        handle_signals=False,
        max_jobs=SLOTS,
        poll_delay=poll_delay_s,
        keep_result=0,
    )
    await go()
    await worker.async_run()


async def go() -> None:
    """Wait until told to begin."""
    tell("ready")
    await asyncio.to_thread(sys.stdin.readline)


class WorkerProcess:
    """A worker, from outside."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, __file__, "--worker", *arguments]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = psutil.Process(self.popen.pid)
        pin(self.popen.pid, SERVER_CPU)
        self.next("ready")

    def go(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("go\n")
        self.popen.stdin.flush()

    def next(self, event: str = "nothing") -> float:
        """When the next such event was, on this machine's monotonic clock."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with contextlib.suppress(ValueError):  # a log entry, a warning
                told = json.loads(line)
                if told.get("event") == event:
                    return float(told["at"])
        raise SystemExit("a worker ended")

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()


@contextmanager
def worker(*arguments: str) -> Any:
    process = WorkerProcess(*arguments)
    try:
        yield process
    finally:
        process.end()


# --- the measuring ----------------------------------------------------------------------------------------------------


async def submit(parts: Wiring, step: str) -> float:
    """A job of one step; returns the moment after its commit."""
    pipeline, video_id, owner = pipeline_of(step), new_video_id(), UserId(new_video_id())
    async with parts.units_of_work.for_worker() as uow:
        now = await uow.jobs.now()
        video = Video(
            id=video_id, owner_id=owner, status=VideoStatus.PROCESSING, title="clip", filename="clip.mp4",
            content_type="video/mp4", created_at=now, updated_at=now, size_bytes=1,
        )  # fmt: skip
        await uow.videos.add(video)
        upload = Upload(
            video_id=video_id, owner_id=owner, state=UploadState.COMPLETED, filename="clip.mp4",
            content_type="video/mp4", storage_key=source_key(video_id, "clip.mp4"), size_bytes=1, backend="fake",
            backend_state="", expires_at=now + timedelta(days=1), created_at=now, completed_at=now,
        )  # fmt: skip
        await uow.uploads.add(upload)
        job = pipeline.new_job(JobKind.PROCESS, video_id=video_id, owner_id=owner, now=now)
        await store_change(uow, None, job)
    return time.monotonic()


async def echo_figures(echo: Instance, steps: int, singles: int) -> dict[str, float]:
    urls = (echo.worker_url, echo.redis_url)
    async with wired(*urls) as parts:
        with worker("echo", *urls) as first:
            first.go()
            latencies_ms = []
            for _ in range(singles + 1):
                committed = await submit(parts, "nothing")
                started = await asyncio.to_thread(first.next)
                latencies_ms.append((started - committed) * 1000)
                await asyncio.sleep(random_pause_s())
            del latencies_ms[0]
        for _ in range(steps):
            await submit(parts, "nothing")
        with worker("echo", *urls) as second:
            rate = drain(second, steps)
        takeover_s = await takeover(parts, urls)
    return {
        "start_p50_ms": percentile(latencies_ms, 0.5),
        "start_p99_ms": percentile(latencies_ms, 0.99),
        "takeover_s": takeover_s,
        **rate,
    }


def random_pause_s() -> float:
    """Never in step with a poll: a fixed pause can make each ring come right after one, or right before."""
    return random.uniform(0.1, 0.2)


def drain(process: WorkerProcess, steps: int) -> dict[str, float]:
    """Let a worker work through what waits: steps per second, and its processor time for each."""
    before = cpu_s(process.process)
    process.go()
    starts = [process.next() for _ in range(steps)]
    spent = cpu_s(process.process) - before
    return {"steps_per_s": (steps - 1) / (starts[-1] - starts[0]), "cpu_ms_per_step": spent / steps * 1000}


async def takeover(parts: Wiring, urls: Sequence[str]) -> float:
    """From kill -9 of the worker that runs a step until another one runs it."""
    with worker("echo", *urls) as victim, worker("echo", *urls) as heir:
        victim.go()
        await submit(parts, "forever")
        await asyncio.to_thread(victim.next, "forever")
        heir.go()
        await asyncio.sleep(1.0)
        victim.popen.kill()
        killed = time.monotonic()
        return await asyncio.to_thread(heir.next, "forever") - killed


async def arq_figures(redis_url: str, steps: int, singles: int, poll_delay_s: float) -> dict[str, float]:
    pool = await create_pool(RedisSettings.from_dsn(redis_url))
    try:
        with worker("arq", redis_url, str(poll_delay_s)) as first:
            first.go()
            latencies_ms = []
            for _ in range(singles + 1):
                await pool.enqueue_job("nothing")
                enqueued = time.monotonic()
                started = await asyncio.to_thread(first.next)
                latencies_ms.append((started - enqueued) * 1000)
                await asyncio.sleep(random_pause_s())
            del latencies_ms[0]
        for _ in range(steps):
            await pool.enqueue_job("nothing")
        with worker("arq", redis_url, str(poll_delay_s)) as second:
            rate = drain(second, steps)
    finally:
        await pool.aclose()
    return {"start_p50_ms": percentile(latencies_ms, 0.5), "start_p99_ms": percentile(latencies_ms, 0.99), **rate}


def run(steps: int, singles: int) -> dict[str, dict[str, float]]:
    with instance() as echo:
        for process in (psutil.Process(), *echo.up.children(recursive=True)):
            pin(process.pid, CLIENT_CPU)
        others = echo.worker
        others.suspend()  # it would answer rings for steps that only our workers can run
        try:
            return {
                "echo": asyncio.run(echo_figures(echo, steps, singles)),
                "arq, poll 0.5 s": asyncio.run(arq_figures(echo.redis_url, steps, singles, ARQ_POLL_DELAY_S)),
                "arq, poll 0.05 s": asyncio.run(arq_figures(echo.redis_url, steps, singles, POLL_DELAY_S)),
            }
        finally:
            others.resume()


def summary(found: Mapping[str, Mapping[str, float]]) -> list[Row]:
    def row(measure: str, unit: str, figure: str, **target: Any) -> Row:
        peers = {name: figures[figure] for name, figures in found.items() if figure in figures and name != "echo"}
        return Row(measure=measure, unit=unit, echo=found["echo"][figure], peers=peers, **target)

    return [
        row("Commit to start of step: p50", "ms", "start_p50_ms", limit=35),
        row("Commit to start of step: p99", "ms", "start_p99_ms"),
        row("Steps that do nothing, one worker", "/s", "steps_per_s"),
        row("Steps that do nothing: worker CPU", "ms", "cpu_ms_per_step"),
        row("Takeover after kill -9 of a worker", "s", "takeover_s", limit=20),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--singles", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, *rest = options.worker
        asyncio.run(echo_worker(*rest) if kind == "echo" else arq_worker(rest[0], float(rest[1])))
        return
    steps, singles = (100, 15) if options.quick else (options.steps, options.singles)
    found = run(steps, singles)
    write_result("engine", summary(found), {"steps": steps, "singles": singles, "figures": found})


if __name__ == "__main__":
    main()
