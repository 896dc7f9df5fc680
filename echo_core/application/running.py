"""One run of a claimed step: its surroundings, its files, its artefacts."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from echo_core.application.admission import step_video
from echo_core.application.job_changes import store_change
from echo_core.application.ports import Claim, UnitOfWork, WorkerUnitsOfWork
from echo_core.application.sources import source_errors
from echo_core.application.storage_watch import WatchedStorage
from echo_core.domain.artefacts import Artefact
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import VideoId, new_artefact_id
from echo_core.domain.jobs import Step
from echo_core.domain.uploads import Upload, artefact_key
from echo_core.domain.videos import Video
from echo_core.plugin_api.errors import EchoError, InsufficientStorageError, RateLimitedError, UnavailableError
from echo_core.plugin_api.json import JsonObject
from echo_core.plugin_api.steps import ArtefactFile, Resource, StepContext, StepVideo, StoredArtefact
from echo_core.plugin_api.storage import FetchFile, ObjectInfo, PutFile, StorageBackend
from echo_core.plugin_api.transcoder import Transcoder

SCRATCH_RESERVE_BYTES = 256 << 20
"""Room that must be left on the scratch disk beside the source, so that one big file cannot fill the disk up."""

step_log = logging.getLogger("echo.step")


class StepRun:
    """The ``StepContext`` of one run. Use ``close`` to remove its scratch directory."""

    def __init__(
        self,
        *,
        claim: Claim,
        video: Video,
        upload: Upload,
        storage: StorageBackend,
        storage_name: str,
        transcoder: Transcoder,
        units_of_work: WorkerUnitsOfWork,
        scratch: Path,
        on_progress: Callable[[float], None],
        scratch_reserve_bytes: int = SCRATCH_RESERVE_BYTES,
    ) -> None:
        self._claim = claim
        self._step = claim.job.step(claim.step_id)
        self._storage = WatchedStorage(storage)
        self._storage_name = storage_name
        self._transcoder = transcoder
        self._units_of_work = units_of_work
        self._scratch = scratch
        self._on_progress = on_progress
        self._scratch_reserve_bytes = scratch_reserve_bytes
        self._source: Path | None = None
        self._fetching = asyncio.Lock()
        self.unrecorded: list[str] = []
        """Keys of objects that this run stored and that no row names yet."""
        self._video = step_video(video, upload, storage_name)
        self.log = logging.LoggerAdapter(
            step_log, {"step": self._step.name, "job_id": str(claim.job.id), "video_id": str(video.id)}
        )

    @property
    def video(self) -> StepVideo:
        """The video."""
        return self._video

    @property
    def step(self) -> Step:
        """The step as it was claimed."""
        return self._step

    @property
    def attempt(self) -> int:
        """1 for the first try."""
        return self._step.attempt

    @property
    def number(self) -> int:
        """Which one it is of several steps of its spec."""
        return self._step.number

    @property
    def inputs(self) -> Mapping[str, JsonObject]:
        """The outputs of earlier steps, by product name."""
        return self._claim.job.products

    @property
    def scratch(self) -> Path:
        """A directory of this run's own."""
        return self._scratch

    @property
    def storage(self) -> StorageBackend:
        """The instance's storage."""
        return self._storage

    @property
    def transcoder(self) -> Transcoder:
        """The instance's transcoder."""
        return self._transcoder

    def storage_was_away(self, error: BaseException) -> UnavailableError | RateLimitedError | None:
        """What the storage raised in this run, if it is why the run failed with ``error``."""
        return self._storage.was_away(error)

    def report_progress(self, fraction: float) -> None:
        """Tell the done fraction, 0.0 to 1.0."""
        self._on_progress(min(1.0, max(0.0, fraction)))

    async def open_scratch(self) -> None:
        """Create the scratch directory, empty."""
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        await asyncio.to_thread(self._scratch.mkdir, parents=True, mode=0o700)

    async def close(self) -> None:
        """Remove what this run leaves and nobody names: its scratch directory and objects."""
        try:
            await self._discard_unrecorded()
        finally:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    async def fetch_source(self) -> Path:
        """The verified source as a local read-only file in a directory of its own."""
        async with self._fetching:
            if self._source is None:
                await asyncio.to_thread(self._require_room)
                # Alone in its directory: whatever a hostile file names as its neighbour is not there.
                directory = self._scratch / "source"
                await asyncio.to_thread(directory.mkdir)
                path = directory / "source"
                video = self._video
                with source_errors():
                    await self._storage.fetch_file(
                        FetchFile(key=video.source_key, path=path, generation=video.source_generation or None)
                    )
                self._source = path
            return self._source

    def _require_room(self) -> None:
        free = shutil.disk_usage(self._scratch).free
        needed = self._storage.fetch_takes_bytes(self._video.size_bytes, self._scratch) + self._scratch_reserve_bytes
        if free < needed:
            raise InsufficientStorageError(
                f"The worker's scratch disk has {free >> 20} MiB left; this video needs {needed >> 20} MiB."
            )

    async def publish(self, artefacts: Sequence[ArtefactFile]) -> None:
        """Store and record artefacts now, under the lease."""
        rows = await self.store(artefacts)
        replaced: list[str] = []
        async with self._units_of_work.for_worker() as uow:
            job = await uow.jobs.get_of_step(self._step.id, for_update=True)
            job.held(self._step.id, self._claim.lease_token)
            replaced.extend(await uow.artefacts.put(rows))
            await store_change(uow, job, job)  # a first rendition makes the video playable
        self.recorded(rows)
        await delete_objects(self._storage, replaced)

    @asynccontextmanager
    async def under_lease(self) -> AsyncGenerator[UnitOfWork]:
        """A unit of work that commits only while this run owns its step; for the kernel's own steps. Raises
        ``LeaseLostError``."""
        async with self._units_of_work.for_worker() as uow:
            job = await uow.jobs.get_of_step(self._step.id, for_update=True)
            job.held(self._step.id, self._claim.lease_token)
            yield uow

    async def stored(self, kind: str) -> Sequence[StoredArtefact]:
        """The video's artefacts of this kind, ordered by name."""
        async with self._units_of_work.for_worker() as uow:
            rows = await uow.artefacts.list_for_video(VideoId(self._video.id), segments=True)
        return [
            StoredArtefact(
                kind=row.kind,
                name=row.name,
                step=row.step,
                key=row.storage_key,
                generation=row.pin(self._storage_name) or "",
                size_bytes=row.size_bytes,
                facts=row.facts,
                init_length_bytes=row.init_length_bytes,
                segments=row.segments,
            )
            for row in rows
            if row.kind == kind
        ]

    async def slots(self, resource: Resource) -> int:
        """How many steps of this class all living workers together can run at once."""
        async with self._units_of_work.for_worker() as uow:
            return await uow.workers.count_slots(resource)

    async def store(self, artefacts: Sequence[ArtefactFile]) -> list[Artefact]:
        """Put files into storage and return their rows, still to be recorded (``recorded``)."""
        return [await self._store(artefact) for artefact in artefacts]

    def recorded(self, rows: Sequence[Artefact]) -> None:
        """These rows are committed."""
        keys = {row.storage_key for row in rows}
        self.unrecorded = [key for key in self.unrecorded if key not in keys]

    async def _discard_unrecorded(self) -> None:
        keys, self.unrecorded = self.unrecorded, []
        if not keys:
            return
        try:
            async with self._units_of_work.for_worker() as uow:
                # A commit whose answer was lost may have recorded them after all; the job's lock waits for its end.
                job = await uow.jobs.get_of_step(self._step.id, for_update=True)
                named = {row.storage_key for row in await uow.artefacts.list_for_video(job.video_id)}
        except UnknownEntityError:
            named = set()
        except EchoError:
            # Rather an object that nobody names than a name without its object; a later run or the purge sweeps.
            step_log.warning("object.kept", extra={"keys": keys}, exc_info=True)
            return
        await delete_objects(self._storage, [key for key in keys if key not in named])

    async def _store(self, artefact: ArtefactFile) -> Artefact:
        token = self._claim.lease_token
        key = artefact_key(VideoId(self._video.id), self._step.name, token, artefact.name)
        self.unrecorded.append(key)
        stored = await self._storage.put_file(PutFile(key=key, path=artefact.path, content_type=artefact.content_type))
        return self._row(artefact, stored)

    def _row(self, artefact: ArtefactFile, stored: ObjectInfo) -> Artefact:
        job = self._claim.job
        return Artefact(
            id=new_artefact_id(),
            video_id=job.video_id,
            owner_id=job.owner_id,
            step=self._step.name,
            lease_token=self._claim.lease_token,
            kind=artefact.kind,
            name=artefact.name,
            storage_key=stored.key,
            content_type=artefact.content_type,
            size_bytes=stored.size_bytes,
            checksum=stored.checksum,
            generation=stored.generation,
            backend=self._storage_name,
            producer=self._step.plugin,
            created_at=stored.created_at,
            facts=artefact.facts,
            init_length_bytes=artefact.init_length_bytes,
            segments=artefact.segments,
        )


def kernel_run(context: StepContext) -> StepRun:
    """The run behind the context of a step of the kernel's own, which may write rows under its lease."""
    if not isinstance(context, StepRun):
        raise TypeError(f"this step runs in a {type(context).__name__}, not in the engine")
    return context


async def delete_objects(storage: StorageBackend, keys: Sequence[str]) -> None:
    """Delete objects that nothing names any more; what fails is left to a sweep (``sweeping.py``) or an audit."""
    for key in keys:
        try:
            await storage.delete(key)
        except Exception:
            step_log.warning("object.delete_failed", extra={"key": key}, exc_info=True)
