"""Finding uploads whose "complete" never came: the tab was closed after the last byte, or the answer was lost.

Each open upload has a time at which somebody looks for its object (``check_at``): minutes after it began, then ever
more rarely, and at once when the storage tells of an object (``UploadHints``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import structlog

from echo_core.application.completing import FoundObject, complete_with
from echo_core.application.ports import WorkerUnitsOfWork
from echo_core.application.services import UploadServices
from echo_core.domain.uploads import Upload, UploadState
from echo_core.plugin_api.errors import DomainError, EchoError, NotFoundError, RateLimitedError, UnavailableError

log = structlog.get_logger("echo.uploads")

LAST_GRACE = timedelta(minutes=10)
"""So long an upload that was found whole when its time was up may still be completed."""
CLAIMED_FOR = timedelta(seconds=30)
"""Nobody else looks at it meanwhile. Whoever took it on may meet an outage, be cut short or be killed: then it is due
again. One that two look at by that is completed once all the same."""


class UploadFinder:
    """Completes uploads in their owners' place. Only those of the storage that is configured: of others it knows
    nothing."""

    def __init__(self, *, services: UploadServices, units_of_work: WorkerUnitsOfWork) -> None:
        self._services = services
        self._units_of_work = units_of_work

    async def look(self) -> None:
        """Look for the object of every upload whose time has come. Trouble with one does not keep the others.

        Raises ``UnavailableError``, ``RateLimitedError``: the storage or the database is away, and the rest would fare
        no better. The upload that met it is due again after ``CLAIMED_FOR``; so it is when this is cancelled.
        """
        while True:
            async with self._units_of_work.for_worker() as uow:
                # One at a time: what somebody claims and does not come to would wait for nothing.
                upload = await uow.uploads.claim_due(self._services.storage_name, for_s=CLAIMED_FOR.total_seconds())
            if upload is None:
                return
            if not await self._look_for(upload):
                async with self._units_of_work.for_worker() as uow:
                    await uow.uploads.put_off(upload.video_id)

    async def last_look(self, upload: Upload) -> Upload | None:
        """What is to be thrown away of an upload whose time is up; None: it was whole, and is completed now.

        Raises ``UnavailableError``, ``RateLimitedError``: nobody can tell, so nothing is thrown away yet.
        """
        if upload.state is not UploadState.OPEN or upload.backend != self._services.storage_name:
            return upload
        try:
            await self._services.storage.stat(upload.storage_key)
        except NotFoundError:
            return upload
        async with self._units_of_work.for_worker() as uow:
            latest = await uow.uploads.get(upload.video_id, for_update=True)
            if (latest.state, latest.expires_at) != (upload.state, upload.expires_at):
                return upload  # somebody was faster; whoever throws it away sees that
            latest = replace(latest, expires_at=await uow.jobs.now() + LAST_GRACE)
            await uow.uploads.save(latest)
        return None if await self._look_for(latest) else latest

    async def _look_for(self, upload: Upload) -> bool:
        """Whether it is settled; False: somebody has to look again."""
        try:
            stored = await self._services.storage.stat(upload.storage_key)
            found = FoundObject(stored=stored, filename=upload.filename)
            completed = await complete_with(self._services, self._units_of_work.for_worker, upload, found)
        except NotFoundError:
            return False  # bytes are missing
        except (UnavailableError, RateLimitedError):
            raise
        except DomainError as error:
            # Somebody was faster, or the object is not what was announced, or too large.
            log.info("upload.not_completed", video_id=str(upload.video_id), code=error.code, error=error.message)
        except EchoError as error:
            log.warning("upload.check_failed", video_id=str(upload.video_id), code=error.code, error=error.message)
        except Exception:
            log.exception("upload.check_failed", video_id=str(upload.video_id))
        else:
            log.info("upload.found", video_id=str(upload.video_id), job_id=str(completed.job_id))
            return True
        return False
