"""Removing what runs of a step left in storage and no row names.

A run that is killed between storing a file and recording it leaves an object that nobody knows of. So a step remembers
up to which lease token its storage has been swept; one that has ended and is behind is swept, by whoever ended it or by
a reconciler later.
"""

from __future__ import annotations

import structlog

from echo_core.application.ports import UnsweptStep, WorkerUnitsOfWork
from echo_core.domain.ids import StepId
from echo_core.domain.jobs import Job
from echo_core.domain.uploads import lease_token_of, step_prefix
from echo_core.plugin_api.errors import EchoError, UnavailableError
from echo_core.plugin_api.storage import ListObjects, StorageBackend

log = structlog.get_logger("echo.sweeper")


def unswept(job: Job, step_id: StepId) -> UnsweptStep | None:
    """What may be left of a step. None: it goes on, or nothing can be."""
    step = job.step(step_id)
    if not step.state.finished or step.swept_token >= step.lease_token:
        return None
    return UnsweptStep(step_id=step.id, video_id=job.video_id, name=step.name, lease_token=step.lease_token)


class Sweeper:
    """Sweeps. What fails is left for a later round of the reconciler."""

    def __init__(self, *, units_of_work: WorkerUnitsOfWork, storage: StorageBackend) -> None:
        self._units_of_work = units_of_work
        self._storage = storage

    async def sweep(self, left: UnsweptStep) -> None:
        """Remove every object of the step's runs that no row names, and note that it was done.

        Only tokens up to ``left.lease_token`` count: the step may be running again, and that run has yet to record.
        Raises ``UnavailableError``: nothing else can be swept now either. Other failures are logged.
        """
        prefix = step_prefix(left.video_id, left.name)
        try:
            stored = await self._keys(prefix)
            old = [key for key in stored if (token := lease_token_of(key, prefix)) and token <= left.lease_token]
            async with self._units_of_work.for_worker() as uow:
                named = {row.storage_key for row in await uow.artefacts.list_for_video(left.video_id)} if old else set()
            for key in old:
                if key not in named:
                    await self._storage.delete(key)
            async with self._units_of_work.for_worker() as uow:
                await uow.jobs.mark_swept(left.step_id, left.lease_token)
        except UnavailableError:
            raise
        except EchoError as error:
            log.warning("storage.sweep_failed", step=left.name, video_id=str(left.video_id), error=error.message)

    async def _keys(self, prefix: str) -> list[str]:
        keys: list[str] = []
        cursor: str | None = None
        while True:
            page = await self._storage.list(ListObjects(prefix=prefix, cursor=cursor))
            keys += [found.key for found in page.objects]
            if (cursor := page.next_cursor) is None:
                return keys
