"""What rows name, and which storage they say keeps it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from echo_core.adapters.postgres.transaction import BEGIN_AS_SERVICE, transaction
from echo_core.application.ports import StoredTotals
from echo_core.domain.ids import new_artefact_id
from echo_core.domain.uploads import UploadState
from tests.integration.postgres.test_small_repositories import upload_of

pytestmark = pytest.mark.integration


@pytest.fixture
def named(worker, api, alice, stored, new_artefact):
    """A video with a source and a rendition; returns both rows by what they are."""

    async def make(**changes):
        video, _ = await stored(alice, job=False, **changes)
        source = upload_of(video, state=UploadState.COMPLETED, size_bytes=9, generation="7", checksum="crc32c:09")
        async with api.for_user(alice) as uow:
            await uow.uploads.add(source)
        async with worker.for_worker() as uow:
            await uow.artefacts.put([new_artefact(video)])
            found = await uow.inventory.find(video.id)
        return video, {row.step: row for row in found.rows}

    return make


async def test_rows_come_with_all_that_a_copy_needs(named):
    _, rows = await named()
    source, made = rows[None], rows["ladder"]
    assert (source.size_bytes, source.checksum, source.content_type) == (9, "crc32c:09", "video/mp4")
    assert (source.backend, source.generation, made.backend, made.generation) == ("local", "7", "local", "1")


async def test_totals_leave_out_what_is_deleted_and_what_never_came(worker, api, alice, named, stored):
    async with worker.for_worker() as uow:
        before = await uow.inventory.totals()
    await named()
    gone, _ = await named()
    unfinished, _ = await stored(alice, job=False)
    async with api.for_user(alice) as uow:
        await uow.uploads.add(upload_of(unfinished))
        await uow.videos.save(replace(gone, deleted_at=gone.created_at))
    async with worker.for_worker() as uow:
        totals = await uow.inventory.totals()
    assert totals == StoredTotals(
        objects=before.objects + 2, size_bytes=before.size_bytes + 1009, unfinished=before.unfinished + 1
    )


@pytest.mark.parametrize("step", [None, "ladder"])
async def test_a_row_is_repinned_as_long_as_it_is_the_one_that_was_read(worker, named, step):
    video, rows = await named()
    row = rows[step]
    async with worker.for_worker() as uow:
        for change in (
            {"generation": "another"},
            {"backend": "another"},
            {"checksum": "another"},
            {"size_bytes": 1},
            {"key": "another"},
        ):
            assert not await uow.inventory.repin(video.id, replace(row, **change), backend="gcs", generation="17")
        assert await uow.inventory.repin(video.id, row, backend="gcs", generation="17")
        assert not await uow.inventory.repin(video.id, row, backend="gcs", generation="18")
        found = {r.step: r for r in (await uow.inventory.find(video.id)).rows}
    assert found == {**rows, step: replace(row, backend="gcs", generation="17")}


async def test_a_row_of_a_deleted_video_is_not_repinned(worker, api, alice, named):
    video, rows = await named()
    async with api.for_user(alice) as uow:
        await uow.videos.save(replace(video, deleted_at=video.created_at))
    async with worker.for_worker() as uow:
        for row in rows.values():
            assert not await uow.inventory.repin(video.id, row, backend="gcs", generation="17")


async def test_what_the_version_before_adds_is_kept_by_the_storage_that_it_knew(
    worker, worker_engine, alice, stored, new_artefact
):
    """It knows nothing of the column."""
    video, _ = await stored(alice, job=False)
    made = new_artefact(video, backend="of-no-concern")
    statement = sa.text(
        """
        insert into echo.artefacts (id, video_id, owner_id, step, lease_token, kind, name, storage_key, content_type,
            size_bytes, checksum, generation, producer)
        values (:id, :video_id, :owner_id, 'ladder', 1, 'rendition', '720p', 'k', 'video/mp4', 1, '', '1', 'before')
        """
    ).bindparams(*(sa.bindparam(name, type_=sa.Uuid) for name in ("id", "video_id", "owner_id")))
    async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
        await tx.execute(statement, {"id": new_artefact_id(), "video_id": made.video_id, "owner_id": made.owner_id})
    async with worker.for_worker() as uow:
        (found,) = await uow.artefacts.list_for_video(video.id)
    assert found.pin("local") == "1"
