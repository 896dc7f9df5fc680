"""Moving from one storage to another over a real PostgreSQL, with storage_local on a real disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from echo_storage_local.backend import LocalStorage, open_local_storage
from echo_storage_local.config import LocalStorageConfig

from echo_core.adapters.clock import SystemClock
from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork
from echo_core.application import playback
from echo_core.application.services import ApiServices
from echo_core.application.storage_audit import YOUNGEST, Disagreement, StorageAudit, StorageAuditor
from echo_core.application.storage_copy import NamedStorage, Outcome, StorageCopier, StorageCopy
from echo_core.application.videos import bury_video
from echo_core.domain.jobs import Job, JobState
from echo_core.domain.users import User
from echo_core.plugin_api.context import PluginContext
from echo_core.plugin_api.errors import PreconditionFailedError
from echo_core.plugin_api.storage import FetchFile, ListObjects, PutFile, StorageBackend
from echo_core.testing.fake_storage import FakeStorage
from tests.fakes.api import LIMITS, SEAL, FakeTokens
from tests.fakes.hooked_storage import HookedStorage, nothing
from tests.fakes.scratch import fresh, is_empty
from tests.integration.conftest import Database
from tests.integration.engine.conftest import OWNER, Farm

pytestmark = pytest.mark.integration

USER = User(id=OWNER, email="owner@example.org")


@dataclass
class House:
    """``old`` is the local disk on which videos were processed; ``new`` where they go."""

    farm: Farm
    old: LocalStorage
    new: HookedStorage
    services: ApiServices
    scratch: Path
    selected: str = "local"

    async def copy(self, *, dry_run: bool = False) -> StorageCopy:
        scratch = fresh(self.scratch)
        copier = StorageCopier(
            units_of_work=self.farm.units_of_work,
            source=NamedStorage(name="local", backend=self.old),
            target=NamedStorage(name="new", backend=self.new),
            selected=self.selected,
            scratch=scratch,
            dry_run=dry_run,
        )
        result = await copier.run()
        assert is_empty(scratch)
        return result

    async def audit(self, *, fix: bool = False) -> StorageAudit:
        here: StorageBackend = self.new if self.selected == "new" else self.old
        return await StorageAuditor(
            units_of_work=self.farm.units_of_work,
            storage=here,
            storage_name=self.selected,
            fix=fix,
            older_than=-YOUNGEST,
        ).run()

    def switch(self) -> None:
        """The operator has changed storage.backend and restarted."""
        self.selected = "new"
        self.farm.storage, self.farm.storage_name = self.new, "new"
        self.services = replace(self.services, storage=self.new, storage_name="new")

    async def video(self) -> Job:
        """A processed video whose objects all lie on the local disk."""
        job = await self.farm.submit()
        async with self.farm.worker():
            job = await self.farm.finished(job.id)
        assert job.state is JobState.SUCCEEDED
        assert isinstance(self.farm.storage, FakeStorage)
        for key, stored in list(self.farm.storage.objects.items()):
            path = self.scratch / "seed"
            path.write_bytes(stored.data)
            info = await self.old.put_file(PutFile(key=key, path=path, content_type=stored.info.content_type))
            path.unlink(missing_ok=True)
            await self.farm.storage.delete(key)
            async with self.farm.units_of_work.for_worker() as uow:
                upload = await uow.uploads.get(job.video_id, for_update=True)
                now = {"backend": "local", "generation": info.generation, "checksum": info.checksum}
                if upload.storage_key == key:
                    await uow.uploads.save(replace(upload, **now))
                made = await uow.artefacts.list_for_video(job.video_id, segments=True)
                await uow.artefacts.put([replace(a, **now) for a in made if a.storage_key == key])
        return job

    async def rows(self, job: Job) -> dict[str, tuple[str, str]]:
        async with self.farm.units_of_work.for_worker() as uow:
            video = await uow.inventory.find(job.video_id)
        assert video is not None
        return {row.key: (row.backend, row.generation) for row in video.rows}

    async def keys(self, storage: StorageBackend) -> set[str]:
        return {stored.key for stored in (await storage.list(ListObjects(prefix="videos/"))).objects}


@pytest.fixture
async def house(farm: Farm, database: Database, tmp_path: Path) -> AsyncIterator[House]:
    context = PluginContext(
        plugin="storage_local",
        config=LocalStorageConfig(min_free_bytes=0),
        data_dir=tmp_path,
        routes_url="http://127.0.0.1:1/plugins/storage_local",
        clock=SystemClock(),
        derive_key=lambda label: hashlib.sha256(label.encode()).digest(),
    )
    scratch = tmp_path / "copying"
    scratch.mkdir()
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(open_local_storage(context))
        api = await stack.enter_async_context(open_engine(database.api_url))

        async def committed(events: object, rings: object) -> None:
            return

        services = ApiServices(
            units_of_work=PostgresUserUnitsOfWork(api, committed, SEAL),
            storage=old,
            storage_name="local",
            tokens=FakeTokens(),
            pipeline=farm.pipeline,
            limits=LIMITS,
            clock=SystemClock(),
        )
        yield House(farm=farm, old=old, new=HookedStorage(clock=SystemClock()), services=services, scratch=scratch)


async def test_a_house_is_moved_while_people_watch(house: House) -> None:
    """The documented way: copy, let jobs end, switch, copy again."""
    first = await house.video()
    await house.farm.begin()
    before = await house.copy()
    rows = await house.rows(first)
    assert (before.counts[Outcome.COPIED], before.failures, before.repinned) == (len(rows), [], 0)
    assert before.totals.unfinished == 1
    assert await house.rows(first) == rows  # the old storage is still read from
    late = await house.video()
    house.switch()

    # Between the restart and the second copy: what was copied can be watched, unpinned.
    signed = await playback.get_poster_url(house.services, USER, first.video_id)
    assert house.new.grants[signed.url.rpartition("=")[2]].generation is None
    assert "WEBVTT" in await playback.get_storyboard_index(house.services, USER, first.video_id, "t")

    second = await house.copy()
    late_rows = await house.rows(late)
    assert second.counts[Outcome.COPIED] == len(late_rows)
    assert second.counts[Outcome.PRESENT] == len(rows)
    assert (second.repinned, second.failures) == (len(rows) + len(late_rows), [])
    for job in (first, late):
        for key, (backend, generation) in (await house.rows(job)).items():
            assert (backend, generation) == ("new", house.new.objects[key].info.generation)
        signed = await playback.get_source_url(house.services, USER, job.video_id, download=False)
        assert house.new.grants[signed.url.rpartition("=")[2]].generation is not None
    third = await house.copy()
    assert (third.counts[Outcome.PRESENT], third.repinned) == (third.objects, 0)
    assert (await house.audit()).findings == []


@pytest.mark.parametrize("repinned", [False, True])
async def test_workers_read_sources_from_the_new_storage(house: House, repinned: bool) -> None:
    job = await house.video()
    await house.copy()
    house.switch()
    if repinned:
        await house.copy()
    async with house.farm.units_of_work.for_worker() as uow:
        now = await uow.jobs.now()
    # With all that depends on it: everything is made anew.
    await house.farm.change(job.id, lambda before: before.retried(now, step_name="verify"))
    async with house.farm.worker():
        assert (await house.farm.finished(job.id)).state is JobState.SUCCEEDED
    made = {key: backend for key, (backend, _) in (await house.rows(job)).items()}
    assert {backend for key, backend in made.items() if "/poster/" in key} == {"new"}
    assert set(made.values()) == ({"new"} if repinned else {"new", "local"})
    assert (await house.audit()).unmended == 0


async def test_a_pin_of_the_old_storage_would_have_failed(house: House) -> None:
    """What re-pinning and unpinned reads are for: the new storage refuses the generations of the old one."""
    job = await house.video()
    await house.copy()
    key, (_, generation) = next(iter((await house.rows(job)).items()))
    with pytest.raises(PreconditionFailedError):
        await house.new.fetch_file(FetchFile(key=key, path=house.scratch / "x", generation=generation))


async def test_an_interrupted_copy_is_resumed(house: House) -> None:
    job = await house.video()
    stored, forever = asyncio.Event(), asyncio.Event()

    async def stop_somewhere(key: str) -> None:
        if len(house.new.objects) >= 2:
            stored.set()
            await forever.wait()

    house.new.before_put = stop_somewhere
    copying = asyncio.create_task(house.copy())
    await stored.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    done = len(house.new.objects)
    house.new.before_put = nothing
    result = await house.copy()
    assert result.counts[Outcome.PRESENT] + result.counts[Outcome.COPIED] == len(await house.rows(job))
    assert done <= result.counts[Outcome.PRESENT] + 4
    assert await house.keys(house.new) == set(await house.rows(job)) == await house.keys(house.old)


def damage(root: Path, key: str) -> None:
    """Other bytes of the same length, behind the storage's back."""
    folder = f"{Path(key).name}@"
    (file,) = [path for path in root.rglob("data") if path.parent.name == folder]
    file.chmod(0o600)
    file.write_bytes(b"?" * file.stat().st_size)


async def test_a_damaged_source_and_a_foreign_target_are_told_and_all_else_is_copied(
    house: House, tmp_path: Path
) -> None:
    job = await house.video()
    damaged, foreign, *rest = sorted(await house.rows(job))
    damage(tmp_path / "objects", damaged)
    house.new.store(foreign, b"of somebody else")
    result = await house.copy()
    assert {f.key: f.code for f in result.failures} == {damaged: "source_damaged", foreign: "object_exists"}
    assert await house.keys(house.new) == {foreign, *rest}
    assert house.new.objects[foreign].data == b"of somebody else"


async def test_what_is_deleted_while_it_is_copied_leavesnothing(house: House) -> None:
    job = await house.video()
    stays = await house.video()

    async def delete(key: str) -> None:
        house.new.before_put = nothing
        async with house.farm.units_of_work.for_worker() as uow:
            await bury_video(uow, house.farm.pipeline, job.video_id)

    house.new.before_put = delete
    result = await house.copy()
    assert result.failures == []
    assert set(await house.rows(stays)) <= set(house.new.objects)
    # What had been copied before its video was deleted is an orphan there, which the audit of the new storage removes.
    house.switch()
    house.selected = "new"
    await house.copy()
    assert {key for key in house.new.objects if str(stays.video_id) not in key} <= set(await house.rows(job))


# --- the audit of a house that is being moved -----------------------------------------------------------------


async def test_the_audit_says_copy_it_and_makesnothing_anew(house: House) -> None:
    job = await house.video()
    rows = await house.rows(job)
    house.switch()
    for fix in (False, True):
        result = await house.audit(fix=fix)
        assert {f.key: (f.kind, f.mended) for f in result.findings} == dict.fromkeys(rows, (Disagreement.MISSING, ""))
        assert {"--from local --to new" in f.remedy for f in result.findings} == {True}
    assert await house.rows(job) == rows
    assert (await house.farm.job(job.id)).state is JobState.SUCCEEDED
    await house.copy()
    assert (await house.audit()).findings == []


async def test_the_audit_of_the_new_storage_keeps_another_object_that_has_the_key(house: House) -> None:
    job = await house.video()
    key = next(key for key in await house.rows(job) if "/poster/" in key)
    house.new.store(key, b"another")
    house.switch()
    await house.copy()
    result = await house.audit(fix=True)
    assert [(f.kind, f.key, f.mended) for f in result.findings] == [(Disagreement.DAMAGED, key, "")]
    assert "--from local --to new" in result.findings[0].remedy
    assert house.new.objects[key].data == b"another"


async def test_the_audit_of_the_old_storage_compares_checksums(house: House) -> None:
    job = await house.video()
    key = next(key for key in await house.rows(job) if "/poster/" in key)
    size_bytes = (await house.old.stat(key)).size_bytes
    assert (await house.audit()).findings == []
    await house.old.delete(key)
    path = house.scratch / "other"
    path.write_bytes(b"?" * size_bytes)
    await house.old.put_file(PutFile(key=key, path=path, content_type="image/jpeg"))
    path.unlink(missing_ok=True)
    result = await house.audit()
    assert [(f.kind, f.key) for f in result.findings] == [(Disagreement.DAMAGED, key)]
