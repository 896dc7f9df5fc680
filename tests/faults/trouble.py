"""Every way in which a schedule breaks things, and how each ends again.

A ``Fault`` is drawn from a seed before anything runs: what, to whom, for how long. ``strike`` begins it and returns how
it ends; everything between is up to the processes.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import redis

from echo_core.adapters.arq_queue import QUEUE_PREFIX, ArqDoorbell, open_arq
from echo_core.domain.ids import StepId
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.steps import Resource
from tests.faults.cluster import LEASE_S, Cluster, Program
from tests.faults.places import POINTS

STEPS = ("verify", "inspect", "package", "ladder", "poster", "subtitles", "preview", "storyboard", "purge", "*")
End = Callable[[], None]
SMALLEST_REDIS = "1mb"
FULL_LEAVES_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One blow. ``wait_s`` before it, ``hold_s`` until it ends; ``pick`` chooses among equals."""

    kind: str
    wait_s: float
    hold_s: float
    pick: float
    detail: str = ""

    def __str__(self) -> str:
        """How tables and failures name it."""
        return f"{self.kind}{f'({self.detail})' if self.detail else ''}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A sort of fault: how often it comes and how long it lasts (seconds)."""

    strike: Callable[[Cluster, Fault], End]
    weight: int = 4
    hold_s: tuple[float, float] = (0.0, 1.0)
    details: tuple[str, ...] = ("",)


def draw(rng: random.Random, *, kinds: dict[str, Kind], count: int, gap_s: tuple[float, float]) -> list[Fault]:
    """The faults of one schedule."""
    names = list(kinds)
    weights = [kinds[name].weight for name in names]
    return [
        Fault(
            kind=name,
            wait_s=round(rng.uniform(*gap_s), 2),
            hold_s=round(rng.uniform(*kinds[name].hold_s), 2),
            pick=rng.random(),
            detail=rng.choice(kinds[name].details),
        )
        for name in rng.choices(names, weights, k=count)
    ]


# --- processes ------------------------------------------------------------------------------------------------------


def _worker(cluster: Cluster, fault: Fault) -> Program:
    return cluster.workers[int(fault.pick * len(cluster.workers))]


def _revive(program: Program) -> None:
    if not program.runs:
        program.start()


def _end(program: Program, number: int) -> End:
    _revive(program)  # one that is down already would not notice; one that has just begun shall
    program.send(signal.SIGCONT)
    program.end(number)
    return lambda: _revive(program)


def kill_worker(cluster: Cluster, fault: Fault) -> End:
    """-9, whatever it is doing."""
    return _end(_worker(cluster, fault), signal.SIGKILL)


def stop_worker(cluster: Cluster, fault: Fault) -> End:
    """SIGTERM, as a deploy does."""
    return _end(_worker(cluster, fault), signal.SIGTERM)


def pause_worker(cluster: Cluster, fault: Fault) -> End:
    """Stopped past its lease; when it wakes it does not know."""
    worker = _worker(cluster, fault)
    _revive(worker)
    worker.send(signal.SIGSTOP)
    return lambda: worker.send(signal.SIGCONT)


def crash_in_step(cluster: Cluster, fault: Fault) -> End:
    """Whichever worker comes to that place in that step first dies there."""
    _write(cluster, "crash", fault.detail)

    def end() -> None:
        (cluster.control / "crash").unlink(missing_ok=True)
        for worker in cluster.workers:
            _revive(worker)

    return end


def kill_api(cluster: Cluster, fault: Fault) -> End:
    """-9."""
    return _end(cluster.api, signal.SIGKILL)


def stop_api(cluster: Cluster, fault: Fault) -> End:
    """SIGTERM."""
    return _end(cluster.api, signal.SIGTERM)


def kill_encoder(cluster: Cluster, fault: Fault) -> End:
    """The system's out-of-memory killer takes one ffmpeg."""
    for encoder in cluster.encoders():
        with suppress(ProcessLookupError):
            os.kill(encoder.pid, signal.SIGKILL)
            break
    return _nothing


# --- Valkey ---------------------------------------------------------------------------------------------------------


def kill_valkey(cluster: Cluster, fault: Fault) -> End:
    """-9; it keeps nothing on disk, so it comes back empty."""
    return _end(cluster.valkey, signal.SIGKILL)


def empty_valkey(cluster: Cluster, fault: Fault) -> End:
    """FLUSHALL: rings, streams, tickets, all."""
    _redis(cluster, lambda r: r.flushall())
    return _nothing


def pause_valkey(cluster: Cluster, fault: Fault) -> End:
    """It accepts connections and answers nothing."""
    cluster.valkey.send(signal.SIGSTOP)
    return lambda: cluster.valkey.send(signal.SIGCONT)


def fill_valkey(cluster: Cluster, fault: Fault) -> End:
    """It refuses every write: out of memory."""
    _redis(cluster, lambda r: r.config_set("maxmemory", SMALLEST_REDIS))
    return lambda: _redis(cluster, lambda r: r.config_set("maxmemory", "0"))


def _redis(cluster: Cluster, do: Callable[[redis.Redis], object]) -> None:
    with suppress(redis.RedisError, OSError), cluster.redis() as client:
        do(client)


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def restart_postgres(cluster: Cluster, fault: Fault) -> End:
    """It ends as after a crash, stays away for a while, and replays its log."""
    cluster.revive_postgres()
    cluster.end_postgres()
    return cluster.revive_postgres


def cut_connections(cluster: Cluster, fault: Fault) -> End:
    """Every connection of Echo's ends at the server, in the midst of whatever it does."""
    cluster.revive_postgres()
    cluster.wake_postgres()
    cluster.cut_connections()
    return _nothing


def pause_postgres(cluster: Cluster, fault: Fault) -> End:
    """The server and all its processes stand still: nothing is refused, nothing is answered."""
    cluster.revive_postgres()
    for process in (cluster.postgres, *cluster.postgres.children()):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGSTOP)
    return cluster.wake_postgres


# --- storage, disk, clock -------------------------------------------------------------------------------------------


def spoil_storage(cluster: Cluster, fault: Fault) -> End:
    """The next calls of the storage fail, take long, or store half and fail."""
    _write(cluster, "storage", fault.detail)
    return lambda: (cluster.control / "storage").unlink(missing_ok=True)


def fill_disk(cluster: Cluster, fault: Fault) -> End:
    """No room for uploads, scratch files and objects."""
    filler = cluster.data_dir / "filler"
    cluster.fill_disk(leave_bytes=FULL_LEAVES_BYTES)
    return lambda: filler.unlink(missing_ok=True)


def step_clock(cluster: Cluster, fault: Fault) -> End:
    """A worker's wall clock jumps, and back."""
    worker = _worker(cluster, fault)
    _write(cluster, f"clock-{worker.name}", fault.detail)
    return lambda: _write(cluster, f"clock-{worker.name}", "+0")


# --- doorbells ------------------------------------------------------------------------------------------------------


def ring_again(cluster: Cluster, fault: Fault) -> End:
    """Eight rings for every step that is not done, ready or not."""

    async def ring() -> None:
        doorbell = open_arq(f"redis://127.0.0.1:{cluster.redis_port}/0")
        try:
            with suppress(UnavailableError):
                await ArqDoorbell(doorbell).ring(steps * 8)
        finally:
            await doorbell.aclose()

    cluster.revive_postgres()
    cluster.wake_postgres()
    rows = cluster.unfinished_steps()
    steps = [(StepId(UUID(str(step_id))), Resource(resource)) for step_id, resource in rows]
    if steps:
        asyncio.run(ring())
    return _nothing


def lose_rings(cluster: Cluster, fault: Fault) -> End:
    """Every ring that nobody has answered yet is gone."""

    def lose(client: redis.Redis) -> None:
        client.delete(*(f"{QUEUE_PREFIX}{resource}" for resource in Resource))

    _redis(cluster, lose)
    return _nothing


def shuffle_rings(cluster: Cluster, fault: Fault) -> End:
    """Rings come in another order, some of them late."""

    def shuffle(client: redis.Redis) -> None:
        rng = random.Random(fault.pick)  # noqa: S311
        for resource in Resource:
            queue = f"{QUEUE_PREFIX}{resource}"
            for ring, score in client.zrange(queue, 0, -1, withscores=True):  # type: ignore[union-attr, misc]
                client.zadd(queue, {ring: float(score) + rng.uniform(-5000, 2000)})

    _redis(cluster, shuffle)
    return _nothing


def _write(cluster: Cluster, name: str, content: str) -> None:
    # Renamed into place: a reader finds the old or the new, never half.
    fresh = cluster.control / f".{name}"
    fresh.write_text(content)
    fresh.rename(cluster.control / name)


def _nothing() -> None:
    return


KINDS: dict[str, Kind] = {
    "kill worker": Kind(strike=kill_worker, weight=10, hold_s=(0.0, 2.0)),
    "stop worker": Kind(strike=stop_worker, weight=6, hold_s=(0.0, 1.0)),
    "pause worker": Kind(strike=pause_worker, weight=5, hold_s=(LEASE_S + 0.5, LEASE_S + 3)),
    "crash in step": Kind(
        strike=crash_in_step,
        weight=14,
        hold_s=(1.0, 3.0),
        details=tuple(f"{step}:{point}" for step in STEPS for point in POINTS),
    ),
    "kill ffmpeg": Kind(strike=kill_encoder, weight=4),
    "kill api": Kind(strike=kill_api, weight=6),
    "stop api": Kind(strike=stop_api, weight=3),
    "kill valkey": Kind(strike=kill_valkey, hold_s=(0.0, 3.0)),
    "empty valkey": Kind(strike=empty_valkey),
    "pause valkey": Kind(strike=pause_valkey, weight=2, hold_s=(0.5, 4.0)),
    "fill valkey": Kind(strike=fill_valkey, weight=3, hold_s=(0.5, 3.0)),
    "restart postgres": Kind(strike=restart_postgres, hold_s=(0.0, 2.0)),
    "cut connections": Kind(strike=cut_connections, weight=6),
    "pause postgres": Kind(strike=pause_postgres, weight=2, hold_s=(0.5, LEASE_S + 1)),
    "spoil storage": Kind(
        strike=spoil_storage, weight=6, hold_s=(0.5, 2.0), details=("error:2", "error:6", "slow:3", "half:1", "half:3")
    ),
    "fill disk": Kind(strike=fill_disk, weight=3, hold_s=(0.5, 2.5)),
    "step clock": Kind(
        strike=step_clock, weight=4, hold_s=(0.5, 3.0), details=("+3600", "-3600", "+86400", "-5", "+30")
    ),
    "ring again": Kind(strike=ring_again),
    "lose rings": Kind(strike=lose_rings),
    "shuffle rings": Kind(strike=shuffle_rings, weight=2),
}
