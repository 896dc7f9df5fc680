"""Removing what nobody wants any more: deleted videos, and uploads that were never completed."""

from __future__ import annotations

from dataclasses import dataclass

from echo_core.application.ports import WorkerUnitsOfWork
from echo_core.application.processing import opened
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import JobKind
from echo_core.domain.uploads import UploadState, video_prefix
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.specs import StepSpec
from echo_core.plugin_api.steps import RetryPolicy, StepContext, StepResult
from echo_core.plugin_api.storage import ListObjects, UploadRef

MAX_ATTEMPTS = 1_000_000
"""Ten minutes apart: as good as for ever."""


@dataclass(frozen=True)
class PurgeStep:
    """Removes every object of a tombstoned video, then its row (and with it this very step)."""

    units_of_work: WorkerUnitsOfWork | None

    async def run(self, context: StepContext) -> StepResult:
        """Waits, by failing retryably, until nothing works on the video any more.

        Every failure is one to try again: nobody sees this job, and nobody else would ever remove the objects.
        """
        if self.units_of_work is None:
            raise RuntimeError("a purge step was planned without units of work and cannot run")
        try:
            return await self._purge(context, self.units_of_work)
        except (UnknownEntityError, UnavailableError):
            raise
        except Exception as error:
            context.log.exception("purge.failed")
            raise UnavailableError("The video's objects could not be removed.", code="purge_failed") from error

    async def _purge(self, context: StepContext, units_of_work: WorkerUnitsOfWork) -> StepResult:
        video_id = VideoId(context.video.id)
        async with units_of_work.for_worker() as uow:
            job = await uow.jobs.find_for_video(video_id, JobKind.PROCESS)
            upload = await uow.uploads.get(video_id)
        if job is not None and not job.state.finished:
            raise UnavailableError("Steps of this video are still being stopped.", code="steps_still_running")
        if upload.state is not UploadState.COMPLETED and context.storage.supports_upload_abort:
            await context.storage.abort_upload(UploadRef(key=upload.storage_key, state=upload.backend_state))
        removed = 0
        while (page := await context.storage.list(ListObjects(prefix=video_prefix(video_id)))).objects:
            for stored in page.objects:
                await context.storage.delete(stored.key)
            removed += len(page.objects)
        async with units_of_work.for_worker() as uow:
            await uow.videos.remove(video_id)
        return StepResult(output={"removed": removed})


def purge_steps(units_of_work: WorkerUnitsOfWork | None = None) -> tuple[StepSpec, ...]:
    """The steps of a purge job. Without ``units_of_work`` they can be planned (the API does that), not run."""
    return (
        StepSpec(
            name="purge",
            open=opened(PurgeStep(units_of_work)),
            retry=RetryPolicy(max_attempts=MAX_ATTEMPTS, first_delay_s=0.5, max_delay_s=600.0),
            timeout_s=3600.0,
            optional=False,
        ),
    )
