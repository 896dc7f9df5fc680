"""Forgotten uploads over a real PostgreSQL: many that begin one again at once."""

from __future__ import annotations

import asyncio
import itertools
from uuid import UUID

import pytest

from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork
from echo_core.domain.ids import VideoId
from echo_core.plugin_api import ResumeUpload, UploadTicket
from tests.fakes.api import FakeApi, begin
from tests.fakes.moving_storage import MovingStorage

pytestmark = pytest.mark.integration


async def test_forgotten_upload_that_many_resume_at_once_has_one_session(
    api: FakeApi, worker: PostgresWorkerUnitsOfWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = 5
    begin_upload, together = api.storage.begin_upload, asyncio.Barrier(callers)
    async with api.client() as client:
        begun = await begin(client)
        api.storage.uploads.clear()

        async def at_once(request):
            ticket = await begin_upload(request)
            await together.wait()
            return ticket

        monkeypatch.setattr(api.storage, "begin_upload", at_once)
        url = f"/api/v1/videos/{begun['videoId']}/upload/resume"
        answers = await asyncio.gather(*(client.post(url) for _ in range(callers)))
    assert {(a.status_code, a.json()["offsetBytes"]) for a in answers} == {(200, 0)}
    ((state, upload),) = api.storage.uploads.items()
    async with worker.for_worker() as uow:
        assert (await uow.uploads.get(VideoId(UUID(begun["videoId"])))).backend_state == state
    subjects = {api.storage.grants[a.json()["uploadUrl"].rpartition("token=")[2]].subject for a in answers}
    assert subjects == {state}
    assert upload.key == begun["storagePath"]


async def test_resumes_at_once_of_a_storage_that_opens_another_upload_each_time_leave_one(
    api: FakeApi, worker: PostgresWorkerUnitsOfWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = 4
    api.storage = MovingStorage(clock=api.clock)
    together = asyncio.Barrier(callers)
    resume_upload = api.storage.resume_upload
    calls = itertools.count()

    async def at_once(request: ResumeUpload) -> UploadTicket:
        ticket = await resume_upload(request)
        if next(calls) < callers:
            await together.wait()
        return ticket

    async with api.client() as client:
        begun = await begin(client)
        monkeypatch.setattr(api.storage, "resume_upload", at_once)
        url = f"/api/v1/videos/{begun['videoId']}/upload/resume"
        answers = await asyncio.gather(*(client.post(url) for _ in range(callers)))
    assert {a.status_code for a in answers} == {200}
    (state,) = api.storage.uploads
    async with worker.for_worker() as uow:
        assert (await uow.uploads.get(VideoId(UUID(begun["videoId"])))).backend_state == state
    subjects = [api.storage.grants[a.json()["uploadUrl"].rpartition("token=")[2]].subject for a in answers]
    assert subjects.count(state) == 1
