"""The worker process: claims and runs steps until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import structlog

from echo_core.bootstrap import configure_process, open_worker

if TYPE_CHECKING:
    from echo_core.adapters.settings import Settings

log = structlog.get_logger("echo.worker")


async def work(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; running steps get ``worker.shutdown_grace_s`` to end. The second signal
    ends them at once: other workers take them when their leases have run out."""
    configure_process(settings, "worker")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    working = asyncio.create_task(_work(settings, stop), name="worker")

    def heard() -> None:
        if stop.is_set():
            working.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)
    try:
        await working
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        log.warning("worker.hurried")
    log.info("worker.stopped")


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    async with open_worker(settings) as worker:
        log.info("worker.started", name=worker.name, slots=dict(worker.slots))
        await worker.run(stop)
