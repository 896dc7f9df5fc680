"""Admission: a step starts only where what it needs of scratch disk and memory is to be had, and reserves it.

Reservations count over all steps of a worker and over all workers of a machine, so that two steps which each fit alone
are not both started. A step that must wait for others stays queued, costs no attempt, and says what it waits for; one
that could never fit, however long it waited, fails at once (ADR 0012).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Protocol

import structlog

from echo_core.application.job_changes import step_event, store_change
from echo_core.application.ports import UnitOfWork
from echo_core.domain.jobs import Job, Step, StepError
from echo_core.domain.uploads import Upload
from echo_core.domain.videos import Video
from echo_core.plugin_api.errors import EchoError, InsufficientStorageError, ProviderError, UnavailableError
from echo_core.plugin_api.needs import Needs
from echo_core.plugin_api.steps import StepOutlook, StepVideo
from echo_core.plugin_api.storage import StorageBackend
from echo_core.plugin_api.transcoder import Transcoder

log = structlog.get_logger("echo.admission")

ASK_AGAIN_S = 5.0
"""A step that waits for room asks again after this, with some jitter."""

StepNeeds = Callable[[StepOutlook], Needs]


class Room(Enum):
    """What may be short."""

    SCRATCH = "scratch"
    MEMORY = "memory"


class Prospect(Enum):
    """What becomes of a step for which there is no room."""

    WAIT = "wait"
    """Other steps hold it, and will give it back."""
    SHORT = "short"
    """Nobody whose end could be waited for holds it: the disk or the memory is full of something else."""
    NEVER = "never"
    """It is more than there is in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortage:
    """Why a step was not let in. ``free_bytes``: beside what others have reserved; ``total_bytes``: usable in all."""

    room: Room
    prospect: Prospect
    needed_bytes: int
    free_bytes: int
    total_bytes: int

    @property
    def error(self) -> EchoError:
        """What the step fails with. ``SHORT`` is tried again as any failure that may pass, ``NEVER`` is not."""
        needs = f"This step needs {_size(self.needed_bytes)}"
        if self.room is Room.SCRATCH:
            if self.prospect is Prospect.NEVER:
                return ProviderError(
                    f"{needs} of the worker's scratch disk, which has {_size(self.total_bytes)} for it in all.",
                    code="scratch_too_small",
                    remedy="Move data_dir to a larger disk and retry the job, or upload a shorter or smaller video.",
                )
            return InsufficientStorageError(
                f"{needs} of the worker's scratch disk, which has {_size(self.free_bytes)} left."
            )
        if self.prospect is Prospect.NEVER:
            return ProviderError(
                f"{needs} of memory; the worker's machine has {_size(self.total_bytes)} for it in all.",
                code="memory_too_small",
                remedy="Give the worker more memory and retry the job, or upload a smaller picture.",
            )
        return UnavailableError(
            f"{needs} of memory; the worker's machine has {_size(self.free_bytes)} left.",
            code="insufficient_memory",
            remedy="Retry the job when the machine is less busy, or give the worker more memory.",
        )

    @property
    def waiting(self) -> StepError:
        """What a step that waits shows."""
        what, more = {
            Room.SCRATCH: ("room on the worker's scratch disk", "a larger disk for data_dir"),
            Room.MEMORY: ("memory of the worker's machine", "more memory"),
        }[self.room]
        return StepError(
            code=f"waiting_for_{self.room.value}",
            message=f"Waits for {what}: it needs {_size(self.needed_bytes)}, and beside what runs "
            f"{_size(self.free_bytes)} are free.",
            remedy=f"It starts by itself when other steps have ended; {more} lets more of them run at once.",
        )


class Reservations(Protocol):
    """Who has been promised how much, on this machine."""

    async def reserve(self, directory: str, needs: Needs, *, claimant: str) -> Shortage | None:
        """Promise what a run needs, or tell what is short. ``directory`` is the run's, below the worker's scratch
        directory: what it has written there already is not promised any more. ``claimant`` is the same for all runs
        of a step: who has waited for long is not overtaken for ever by those who need less."""

    async def release(self, directory: str) -> None:
        """The run has ended; unknown ones are fine."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Lets steps in. ``needs`` by step name; steps that have none always come in."""

    reservations: Reservations
    needs: Mapping[str, StepNeeds]
    storage: StorageBackend
    storage_name: str
    transcoder: Transcoder
    scratch: Path

    async def ask(self, uow: UnitOfWork, job: Job, step: Step) -> Shortage | None:
        """Reserve what the next run of a queued step needs. ``release`` it when the run has ended, or never began."""
        needs_of = self.needs.get(step.spec)
        if needs_of is None:
            return None
        video = await uow.videos.get(job.video_id, deleted=True)
        upload = await uow.uploads.get(job.video_id)
        try:
            outlook = StepOutlook(
                video=step_video(video, upload, self.storage_name),
                inputs=job.products,
                source_bytes=self.storage.fetch_takes_bytes(upload.size_bytes or 0, self.scratch),
                transcoder=self.transcoder,
            )
            needs = needs_of(outlook)
        except Exception:
            # Its inputs make no sense, or its plugin has a defect: the run will tell the owner better than we could.
            log.exception("step.needs_unknown", step=step.name, job_id=str(job.id))
            return None
        return await self.reservations.reserve(run_directory(step, step.lease_token + 1), needs, claimant=str(step.id))

    async def release(self, step: Step, lease_token: int) -> None:
        """The run under this lease has ended, or never began."""
        await self.reservations.release(run_directory(step, lease_token))


def run_directory(step: Step, lease_token: int) -> str:
    """The name of a run's scratch directory."""
    return f"{step.id}-{lease_token}"


def step_video(video: Video, upload: Upload, storage: str) -> StepVideo:
    """A video as steps see it that read from this storage."""
    return StepVideo(
        id=video.id,
        owner_id=video.owner_id,
        title=video.title,
        filename=upload.filename,
        content_type=upload.content_type,
        size_bytes=upload.size_bytes or 0,
        source_key=upload.storage_key,
        source_generation=upload.pin(storage) or "",
        source_checksum=upload.checksum,
    )


async def defer(uow: UnitOfWork, job: Job, step: Step, shortage: Shortage) -> None:
    """Let a queued step wait. Its owner is told once, not every time that it has asked in vain."""
    delay_s = ASK_AGAIN_S * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
    reason = shortage.waiting
    after = job.deferred(step.id, run_at=await uow.jobs.now() + timedelta(seconds=delay_s), reason=reason)
    known = step.error is not None and step.error.code == reason.code
    await store_change(uow, job, after, also=[] if known else [step_event(after, after.step(step.id))])
    log.info("step.deferred", step=step.name, job_id=str(job.id), code=reason.code, needed_bytes=shortage.needed_bytes)


def _size(size_bytes: int) -> str:
    mib = max(0, size_bytes) / (1 << 20)
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
