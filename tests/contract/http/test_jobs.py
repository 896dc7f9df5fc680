from __future__ import annotations

from datetime import timedelta

import pytest

from echo_core.domain.jobs import Job, JobState, StepError
from tests.fakes.api import FakeApi, uploaded


def failed(api: FakeApi, job: Job) -> Job:
    step = job.steps[0]
    running = job.claimed(step.id, worker="w", now=api.clock.now(), lease_s=15)
    error = StepError(code="media_unreadable", message="No video in it.", remedy="Convert it.", log_tail=("line",))
    return running.failed(step.id, 1, now=api.clock.now(), error=error, retry_in_s=None)


@pytest.mark.complaint(4)
async def test_a_job_tells_percent_place_in_the_queue_and_every_step() -> None:
    api = FakeApi()
    async with api.client() as client:
        _, first = await uploaded(api, client)
        _, second = await uploaded(api, client)
        waiting = (await client.get(f"/api/v1/videos/jobs/{second}")).json()
        job = api.database.tables.jobs[first]
        running = job.claimed(job.steps[0].id, worker="w", now=api.clock.now(), lease_s=15)
        api.change_job(running.with_expectations(60, {}))
        busy = (await client.get(f"/api/v1/videos/jobs/{first}")).json()
    assert (waiting["state"], waiting["queuePosition"], waiting["percent"]) == ("queued", 1, 0.0)
    assert (busy["state"], busy["queuePosition"]) == ("running", None)
    assert busy["etaSeconds"] is not None
    assert [s["name"] for s in busy["steps"]] == ["inspect", "encode", "poster"]
    assert busy["steps"][0].keys() >= {"name", "state", "attempt", "percent", "startedAt", "finishedAt", "error"}


@pytest.mark.complaint(5)
async def test_a_failed_job_tells_why_and_what_to_do() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
        api.change_job(failed(api, api.job_of(video_id)))
        body = (await client.get(f"/api/v1/videos/jobs/{job_id}")).json()
    assert body["state"] == "failed"
    expected = {"code": "media_unreadable", "message": "No video in it.", "remedy": "Convert it.", "logTail": ["line"]}
    assert body["error"] == body["steps"][0]["error"] == expected


async def test_cancel_ends_waiting_steps_and_asks_running_ones_and_may_be_said_twice() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
        job = api.job_of(video_id)
        api.change_job(job.claimed(job.steps[0].id, worker="w", now=api.clock.now(), lease_s=15))
        first = await client.post(f"/api/v1/videos/jobs/{job_id}/cancel")
        events = len(api.database.tables.events)
        second = await client.post(f"/api/v1/videos/jobs/{job_id}/cancel")
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["cancelRequested"] is True
    assert [s["state"] for s in first.json()["steps"]] == ["running", "cancelled", "cancelled"]
    assert api.job_of(video_id).steps[0].cancel_requested is True
    assert len(api.database.tables.events) == events


async def test_cancel_of_a_queued_job_ends_it_and_its_video() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
        cancelled = await client.post(f"/api/v1/videos/jobs/{job_id}/cancel")
        again = await client.post(f"/api/v1/videos/jobs/{job_id}/cancel")
        details = (await client.get(f"/api/v1/videos/{video_id}/details")).json()
    assert cancelled.json()["state"] == "cancelled"
    assert (again.status_code, again.json()["code"]) == (409, "job_finished")
    assert details["status"] == "cancelled"
    assert api.database.event_types()[-5:] == [
        "video.updated",
        "step.cancelled",
        "step.cancelled",
        "step.cancelled",
        "job.cancelled",
    ]


async def test_retry_runs_a_failed_job_again_and_rings() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
        api.change_job(failed(api, api.job_of(video_id)))
        api.database.rings.clear()
        response = await client.post(f"/api/v1/videos/jobs/{job_id}/retry")
    assert (response.status_code, response.json()["state"]) == (202, "queued")
    assert [ring[0] for ring in api.database.rings] == [api.job_of(video_id).steps[0].id]


async def test_retry_of_one_step_takes_its_name_and_refuses_unknown_ones() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
        unfinished = await client.post(f"/api/v1/videos/jobs/{job_id}/retry", json={})
        api.change_job(failed(api, api.job_of(video_id)))
        unknown = await client.post(f"/api/v1/videos/jobs/{job_id}/retry", json={"step": "nope"})
        known = await client.post(f"/api/v1/videos/jobs/{job_id}/retry", json={"step": "inspect"})
    assert (unfinished.status_code, unfinished.json()["code"]) == (409, "job_unfinished")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_step")
    assert "inspect" in unknown.json()["remedy"]
    assert known.status_code == 202


async def test_a_requeued_step_that_must_wait_is_left_to_the_reconciler() -> None:
    from echo_core.application.job_changes import store_change

    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
    job = api.job_of(video_id)
    step = job.steps[0]
    running = job.claimed(step.id, worker="w", now=api.clock.now(), lease_s=15)
    api.change_job(running)
    error = StepError(code="x", message="x")
    for retry_in_s, rung in ((60.0, False), (0.0, True)):
        api.database.rings.clear()
        async with api.database.for_worker() as uow:
            again = running.failed(step.id, 1, now=api.clock.now(), error=error, retry_in_s=retry_in_s)
            await store_change(uow, running, again)
        assert bool(api.database.rings) is rung
        api.change_job(running)
    assert api.database.event_types()[-1] == "step.queued"
    assert again.steps[0].run_at == api.clock.now() + timedelta(0)
    assert again.state is JobState.RUNNING
