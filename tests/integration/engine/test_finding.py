"""Uploads whose "complete" never came: who looks, when, and what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from echo_core.application import finding
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import Job, JobKind
from echo_core.domain.uploads import Upload, UploadState
from echo_core.plugin_api.errors import AuthError, NotFoundError, ProviderError, RateLimitedError, UnavailableError
from echo_core.plugin_api.steps import StepContext, StepResult
from echo_core.plugin_api.storage import ObjectInfo
from tests.integration.engine.conftest import DEADLINE_S, Farm, single

pytestmark = pytest.mark.integration

FILE = b"the bytes of a video"
Stat = Callable[[str], Awaitable[ObjectInfo]]


async def nothing(context: StepContext) -> StepResult:
    return StepResult(output={})


async def due(farm: Farm, *uploads: Upload, age: timedelta = timedelta(0)) -> None:
    """The time to look for these has come, the first one first."""
    async with farm.units_of_work.for_worker() as uow:
        for number, upload in enumerate(uploads):
            await uow.uploads._tx.execute(
                sa.text(
                    "update echo.uploads set created_at = created_at - cast(:age as interval), "
                    "check_at = clock_timestamp() - cast(:late as interval) where video_id = :id"
                ),
                {"id": upload.video_id, "age": age, "late": timedelta(seconds=100 - number)},
            )


async def waits_for(farm: Farm, upload: Upload) -> timedelta:
    """How long until somebody looks for its object."""
    async with farm.units_of_work.for_worker() as uow:
        found = await uow.uploads._tx.execute(
            sa.text("select check_at - clock_timestamp() from echo.uploads where video_id = :id"),
            {"id": upload.video_id},
        )
        return found.scalar_one()


async def expired(farm: Farm, upload: Upload) -> Upload:
    """Its time is up."""
    async with farm.units_of_work.for_worker() as uow:
        latest = await uow.uploads.get(upload.video_id, for_update=True)
        latest = replace(latest, expires_at=await uow.jobs.now() - timedelta(seconds=1))
        await uow.uploads.save(latest)
        return latest


async def outcome(farm: Farm, video_id: VideoId) -> tuple[Upload, Job | None]:
    async with farm.units_of_work.for_worker() as uow:
        return await uow.uploads.get(video_id), await uow.jobs.find_for_video(video_id, JobKind.PROCESS)


@pytest.fixture(autouse=True)
def _pipeline(farm: Farm) -> None:
    farm.use(single(nothing))


async def test_whole_object_that_nobody_told_of_becomes_a_video(farm: Farm) -> None:
    upload = await farm.begin()
    stored = farm.storage.store(upload.storage_key, FILE, "video/mp4")
    await due(farm, upload)
    async with farm.worker():
        async with asyncio.timeout(DEADLINE_S):
            while (job := (await outcome(farm, upload.video_id))[1]) is None:
                await asyncio.sleep(0.02)
        job = await farm.finished(job.id)
    found, _ = await outcome(farm, upload.video_id)
    video = await farm.video(upload.video_id)
    assert job.state == "succeeded"
    assert found.completed_at is not None
    assert found == replace(
        upload,
        state=UploadState.COMPLETED,
        completed_at=found.completed_at,
        size_bytes=len(FILE),
        generation=stored.generation,
        checksum=stored.checksum,
    )
    assert (video.size_bytes, video.filename) == (len(FILE), upload.filename)
    types = [e.type for e in farm.events if e.video_id == upload.video_id]
    assert types[:3] == ["video.created", "job.queued", "step.queued"]


async def test_object_that_was_found_and_is_not_what_was_announced_is_quarantined(farm: Farm) -> None:
    upload = await farm.begin()
    farm.storage.store(upload.storage_key, FILE, "text/html")
    await due(farm, upload)
    await farm.upload_finder().look()
    found, job = await outcome(farm, upload.video_id)
    assert (found.state, found.quarantine_code, job) == (UploadState.QUARANTINED, "upload_content_type_mismatch", None)


async def test_object_over_the_limit_is_found_and_stays_an_upload(farm: Farm) -> None:
    farm.limits = replace(farm.limits, max_upload_bytes=len(FILE) - 1)
    upload = await farm.begin()
    farm.storage.store(upload.storage_key, FILE, "video/mp4")
    await due(farm, upload)
    await farm.upload_finder().look()
    found, job = await outcome(farm, upload.video_id)
    assert (found.state, job) == (UploadState.OPEN, None)


async def test_upload_whose_time_is_up_is_looked_at_once_more(farm: Farm) -> None:
    upload = await farm.begin()
    farm.storage.store(upload.storage_key, FILE, "video/mp4")
    assert await farm.upload_finder().last_look(await expired(farm, upload)) is None
    found, job = await outcome(farm, upload.video_id)
    assert found.state is UploadState.COMPLETED
    assert job is not None


async def test_upload_whose_time_is_up_and_that_is_not_whole_is_thrown_away(farm: Farm) -> None:
    upload = await expired(farm, await farm.begin())
    assert await farm.upload_finder().last_look(upload) == upload


async def test_whole_upload_that_cannot_be_completed_is_thrown_away(farm: Farm) -> None:
    farm.limits = replace(farm.limits, max_upload_bytes=len(FILE) - 1)
    upload = await farm.begin()
    farm.storage.store(upload.storage_key, FILE, "video/mp4")
    left = await farm.upload_finder().last_look(await expired(farm, upload))
    assert left is not None
    assert left == (await outcome(farm, upload.video_id))[0]


async def test_nothing_is_thrown_away_while_the_storage_is_away(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(key: str) -> ObjectInfo:
        raise UnavailableError("The bucket does not answer.")

    upload = await expired(farm, await farm.begin())
    monkeypatch.setattr(farm.storage, "stat", away)
    with pytest.raises(UnavailableError):
        await farm.upload_finder().last_look(upload)


@pytest.mark.parametrize(
    ("age", "least", "most"),
    [
        (timedelta(0), timedelta(seconds=115), timedelta(seconds=120)),
        (timedelta(minutes=40), timedelta(minutes=9), timedelta(minutes=11)),
        (timedelta(hours=20), timedelta(minutes=59), timedelta(minutes=60)),
    ],
)
async def test_the_longer_an_upload_takes_the_rarer_it_is_looked_at(
    farm: Farm, age: timedelta, least: timedelta, most: timedelta
) -> None:
    upload = await farm.begin()
    await due(farm, upload, age=age)
    await farm.upload_finder().look()
    assert least < await waits_for(farm, upload) <= most
    assert (await outcome(farm, upload.video_id))[0].state is UploadState.OPEN


async def test_only_uploads_are_looked_at_whose_time_has_come_and_that_are_in_this_storage(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, elsewhere, expired, closed, right = [await farm.begin() for _ in range(5)]
    await due(farm, elsewhere, expired, closed, right)
    async with farm.units_of_work.for_worker() as uow:
        now = await uow.jobs.now()
        await uow.uploads.save(replace(elsewhere, backend="other"))
        await uow.uploads.save(replace(expired, expires_at=now))
        await uow.uploads.save(replace(closed, state=UploadState.QUARANTINED))
    asked: list[str] = []
    stat = farm.storage.stat

    async def noted(key: str) -> ObjectInfo:
        asked.append(key)
        return await stat(key)

    monkeypatch.setattr(farm.storage, "stat", noted)
    await farm.upload_finder().look()
    assert asked == [right.storage_key]
    assert timedelta(seconds=110) < await waits_for(farm, early) <= timedelta(minutes=2)


@pytest.mark.parametrize("trouble", [AuthError("The bucket does not let us in."), ZeroDivisionError("a defect")])
async def test_storage_trouble_with_one_upload_does_not_keep_the_others(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    bad, good = await farm.begin(), await farm.begin()
    farm.storage.store(good.storage_key, FILE, "video/mp4")
    await due(farm, bad, good)
    stat = farm.storage.stat

    async def refuses_one(key: str) -> ObjectInfo:
        if key == bad.storage_key:
            raise trouble
        return await stat(key)

    monkeypatch.setattr(farm.storage, "stat", refuses_one)
    await farm.upload_finder().look()
    assert (await outcome(farm, bad.video_id))[0].state is UploadState.OPEN
    assert (await outcome(farm, good.video_id))[0].state is UploadState.COMPLETED


@pytest.mark.parametrize("error", [UnavailableError("The bucket does not answer."), RateLimitedError("Too many.")])
async def test_outage_ends_the_round_and_puts_nothing_off(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, error: ProviderError
) -> None:
    asked: list[str] = []

    async def away(key: str) -> ObjectInfo:
        asked.append(key)
        raise error

    uploads = [await farm.begin() for _ in range(4)]
    await due(farm, *uploads, age=timedelta(hours=20))
    with monkeypatch.context() as outage:
        outage.setattr(farm.storage, "stat", away)
        for _ in range(2):
            with pytest.raises(type(error)):
                await farm.upload_finder().look()
    assert asked == [upload.storage_key for upload in uploads[:2]]
    waits = [await waits_for(farm, upload) for upload in uploads]
    assert all(timedelta(0) < wait <= finding.CLAIMED_FOR for wait in waits[:2])
    assert all(wait < timedelta(0) for wait in waits[2:])
    for upload in uploads:
        farm.storage.store(upload.storage_key, FILE, "video/mp4")
    await farm.upload_finder().look()
    states = [(await outcome(farm, upload.video_id))[0].state for upload in uploads]
    assert states == [UploadState.OPEN] * 2 + [UploadState.COMPLETED] * 2


async def test_round_that_is_cut_short_keeps_what_it_did_not_come_to(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking, forever = asyncio.Event(), asyncio.Event()

    async def hangs(key: str) -> ObjectInfo:
        asking.set()
        await forever.wait()
        raise AssertionError

    uploads = [await farm.begin() for _ in range(3)]
    await due(farm, *uploads, age=timedelta(hours=20))
    monkeypatch.setattr(farm.storage, "stat", hangs)
    look = asyncio.create_task(farm.upload_finder().look())
    await asking.wait()
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look
    waits = [await waits_for(farm, upload) for upload in uploads]
    assert timedelta(0) < waits[0] <= finding.CLAIMED_FOR
    assert all(wait < timedelta(0) for wait in waits[1:])


async def test_hint_outlives_an_outage_and_one_that_comes_while_somebody_looks(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    met, looked_at = await farm.begin(), await farm.begin()

    async def meets_an_outage(key: str) -> ObjectInfo:
        raise UnavailableError("The bucket does not answer.")

    async def is_hinted_at(key: str) -> ObjectInfo:
        await due(farm, looked_at)
        raise NotFoundError("There is no such object.")

    await due(farm, met)
    with monkeypatch.context() as outage:
        outage.setattr(farm.storage, "stat", meets_an_outage)
        with pytest.raises(UnavailableError):
            await farm.upload_finder().look()
    assert timedelta(0) < await waits_for(farm, met) <= finding.CLAIMED_FOR
    await due(farm, looked_at)
    with monkeypatch.context() as late:
        late.setattr(farm.storage, "stat", once(is_hinted_at, farm.storage.stat))
        farm.storage.store(looked_at.storage_key, FILE, "video/mp4")
        await farm.upload_finder().look()
    assert (await outcome(farm, looked_at.video_id))[0].state is UploadState.COMPLETED


def once(first: Stat, then: Stat) -> Stat:
    calls = iter([first])

    async def stat(key: str) -> ObjectInfo:
        return await next(calls, then)(key)

    return stat


async def test_several_workers_share_what_is_due(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = [await farm.begin() for _ in range(8)]
    for upload in uploads:
        farm.storage.store(upload.storage_key, FILE, "video/mp4")
    await due(farm, *uploads)
    asked: list[str] = []
    stat = farm.storage.stat

    async def noted(key: str) -> ObjectInfo:
        asked.append(key)
        return await stat(key)

    monkeypatch.setattr(farm.storage, "stat", noted)
    await asyncio.gather(*(farm.upload_finder().look() for _ in range(4)))
    assert sorted(asked) == sorted(upload.storage_key for upload in uploads)
