"""Processes die, stand still and come back: rows of the fault matrix about workers, the API, Valkey and PostgreSQL."""

from __future__ import annotations

import signal
from uuid import uuid4

import httpx2
import pytest

from tests.faults.cluster import LEASE_S, RECONCILE_S, wait_for
from tests.faults.conftest import Scene
from tests.faults.people import COMPLETE, UPLOAD_URL
from tests.faults.places import POINTS
from tests.faults.trouble import Fault, fill_valkey, pause_postgres, pause_valkey

pytestmark = [pytest.mark.integration, pytest.mark.faults]

STEPS = ("verify", "inspect", "package", "ladder", "poster", "storyboard")
NOW = Fault(kind="", wait_s=0, hold_s=0, pick=0)


def revive(scene: Scene) -> None:
    for worker in scene.cluster.workers:
        if not worker.runs:
            worker.start()


def checksums(scene: Scene, video_id: str) -> set[tuple[str, str, str]]:
    """Of all that does not tell by which attempt it was made."""
    made = "select kind, name, checksum from echo.artefacts where kind <> 'receipt' and video_id = %s"
    rows = scene.cluster.sql(made, video_id)
    return {tuple(row) for row in rows}


@pytest.mark.matrix(1)
def test_worker_killed_at_every_step_leaves_the_result_of_an_undisturbed_run(scene: Scene) -> None:
    undisturbed, job_id = scene.upload()
    assert scene.finished(job_id)["state"] == "succeeded"
    points = iter(POINTS * 2)
    for step in STEPS:
        scene.crash(step, next(points))
    videos = [scene.upload() for _ in range(3)]
    # Those that die are started again, as a supervisor would, until each place has killed one.
    wait_for("every place has killed a worker", lambda: (revive(scene), not _crashes(scene))[1], 90)
    for video_id, job_id in videos:
        wait_for("workers run", lambda: (revive(scene), all(w.runs for w in scene.cluster.workers))[1])
        job = scene.finished(job_id)
        assert job["state"] == "succeeded", job
        assert checksums(scene, video_id) == checksums(scene, undisturbed)


def _crashes(scene: Scene) -> list[object]:
    return list(scene.cluster.control.glob("crash*"))


@pytest.mark.matrix(1)
def test_killed_workers_step_goes_on_elsewhere_within_lease_and_reconcile(scene: Scene) -> None:
    _, job_id = scene.upload(scene.media.long)
    wait_for("the ladder runs", lambda: scene.step(job_id, "ladder")["state"] == "running")
    name = scene.cluster.sql("select worker from echo.steps where job_id = %s and name = 'ladder'", job_id)[0][0]
    worker = next(w for w in scene.cluster.workers if f"-{w.pid}-" in name)
    encoders = [p for p in worker.children() if p.name().startswith("ff")]
    worker.end(signal.SIGKILL)
    killed_at = scene.cluster.sql("select clock_timestamp()")[0][0]
    wait_for("its ffmpeg dies with it", lambda: not any(p.is_running() for p in encoders), 5)
    wait_for("somebody else goes on", lambda: scene.attempts(job_id)["ladder"] == 2)
    started_at = scene.cluster.sql("select started_at from echo.steps where job_id = %s and name = 'ladder'", job_id)
    waited_s = (started_at[0][0] - killed_at).total_seconds()
    # The lease, a round of the reconciler, and as much again for a machine that others use too.
    assert waited_s < 2 * (LEASE_S + 2 * RECONCILE_S) + 2
    assert scene.finished(job_id)["state"] == "succeeded"
    assert set(scene.attempts(job_id).values()) == {1, 2}


@pytest.mark.matrix(4)
def test_api_killed_between_commit_and_ring_loses_no_job(scene: Scene) -> None:
    scene.crash("api", "committed")
    content = scene.media.clips[0].read_bytes()
    begun = scene.person.call("POST", UPLOAD_URL, json=wanted(content)).json()
    httpx2.put(begun["uploadUrl"], content=content, headers={"Content-Type": "video/mp4"}).raise_for_status()
    with pytest.raises(httpx2.TransportError):
        scene.person.api.http.post(COMPLETE, json=completion(begun, content))
    jobs = scene.cluster.sql("select id, state from echo.jobs where video_id = %s", begun["videoId"])
    assert len(jobs) == 1
    wait_for("the job ends although nobody rang", lambda: job_state(scene, begun["videoId"]) == "succeeded")


@pytest.mark.matrix(5)
def test_api_killed_before_commit_leaves_nothing_and_a_repeated_call_makes_one_video(scene: Scene) -> None:
    scene.crash("api", "committing")
    key = {"Idempotency-Key": str(uuid4())}
    with pytest.raises(httpx2.TransportError):
        scene.person.api.http.post(UPLOAD_URL, json=wanted(b"1234"), headers=key)
    assert videos_of(scene) == 0
    scene.cluster.heal()
    early = scene.person.api.http.post(UPLOAD_URL, json=wanted(b"1234"), headers=key)
    if early.status_code != 201:  # the key is held for a minute by the request that died
        assert (early.status_code, early.json()["code"]) == (409, "idempotency_in_progress")
        assert "retry-after" in early.headers
        scene.cluster.sql("update echo.idempotency_keys set created_at = created_at - interval '2 minutes'")
    again = [scene.person.api.http.post(UPLOAD_URL, json=wanted(b"1234"), headers=key) for _ in range(2)]
    assert [answer.status_code for answer in again] == [201, 201]
    assert again[0].json()["videoId"] == again[1].json()["videoId"]
    assert videos_of(scene) == 1


@pytest.mark.matrix(6)
@pytest.mark.parametrize("trouble", ["emptied", "killed", "paused", "full"])
def test_trouble_of_valkey_loses_and_doubles_nothing(scene: Scene, trouble: str) -> None:
    _, before = scene.upload()
    end = {
        "emptied": lambda: scene.cluster.redis().flushall() and None,
        "killed": lambda: scene.cluster.valkey.end(signal.SIGKILL),
        "paused": lambda: pause_valkey(scene.cluster, NOW),
        "full": lambda: fill_valkey(scene.cluster, NOW),
    }[trouble]()
    _, during = scene.upload()  # answered with 2xx all the while, see Person.server_errors
    assert scene.person.server_errors == []
    if trouble == "killed":
        ready = httpx2.get(f"{scene.cluster.url}/readyz")
        checks = {check["name"]: check for check in ready.json()["checks"]}
        assert (ready.status_code, checks["redis"]["ok"]) == (200, False), ready.text
        scene.cluster.valkey.start()
    elif end is not None:
        end()
    for job_id in (before, during):
        assert scene.finished(job_id)["state"] == "succeeded"
        assert set(scene.attempts(job_id).values()) == {1}
    assert all(worker.runs for worker in scene.cluster.workers)


@pytest.mark.matrix(7)
def test_postgres_restarts_at_once_and_stays_away_for_a_while(scene: Scene) -> None:
    _, job_id = scene.upload(scene.media.clips[1])
    wait_for("work has begun", lambda: scene.attempts(job_id))
    scene.cluster.end_postgres()
    away = [scene.person.api.http.get("/api/v1/videos") for _ in range(10)]
    scene.cluster.start_postgres()
    assert {answer.status_code for answer in away} == {503}
    assert all("retry-after" in answer.headers for answer in away)
    assert scene.finished(job_id)["state"] == "succeeded"
    assert all(worker.runs for worker in scene.cluster.workers)


@pytest.mark.matrix(8)
def test_worker_whose_database_stands_still_for_a_lease_ends_its_encoder(scene: Scene) -> None:
    _, job_id = scene.upload(scene.media.long)
    wait_for("an encoder runs", lambda: scene.step(job_id, "ladder")["state"] == "running" and scene.cluster.encoders())
    wake = pause_postgres(scene.cluster, NOW)
    try:
        wait_for("the encoder is ended", lambda: not scene.cluster.encoders(), LEASE_S + 20)
        answer = scene.person.api.http.get("/api/v1/videos")
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    finally:
        wake()
    assert scene.finished(job_id)["state"] == "succeeded"


@pytest.mark.matrix(15)
def test_worker_that_was_stopped_past_its_lease_publishes_nothing(scene: Scene) -> None:
    _, job_id = scene.upload(scene.media.long)
    wait_for("the ladder runs", lambda: scene.step(job_id, "ladder")["state"] == "running")
    name = scene.cluster.sql("select worker from echo.steps where job_id = %s and name = 'ladder'", job_id)[0][0]
    zombie = next(w for w in scene.cluster.workers if f"-{w.pid}-" in name)
    zombie.send(signal.SIGSTOP)
    # More than once, should the frozen one hold a lock for so long that the next one could not renew its lease.
    wait_for("somebody else took the step", lambda: scene.attempts(job_id)["ladder"] >= 2)
    zombie.send(signal.SIGCONT)
    assert scene.finished(job_id)["state"] == "succeeded"
    token = scene.cluster.sql("select lease_token from echo.steps where job_id = %s and name = 'ladder'", job_id)[0]
    tokens = scene.cluster.sql("select distinct lease_token from echo.artefacts where step = 'ladder'")
    assert token in tokens
    assert zombie.runs


@pytest.mark.matrix(19)
def test_deploys_one_after_another_cost_no_attempt(scene: Scene) -> None:
    _, job_id = scene.upload(scene.media.long)
    for number in range(6):
        worker = scene.cluster.workers[number % len(scene.cluster.workers)]
        starts = starts_of(scene, worker.name)
        worker.end(signal.SIGTERM)
        worker.start()
        wait_for("it works again", lambda n=worker.name, s=starts: starts_of(scene, n) > s)
    assert scene.finished(job_id)["state"] == "succeeded"
    assert set(scene.attempts(job_id).values()) == {1}


def starts_of(scene: Scene, name: str) -> int:
    return scene.cluster.tail(name, 10**7).count("worker.started")


def wanted(content: bytes) -> dict[str, object]:
    return {"filename": "clip.mp4", "contentType": "video/mp4", "sizeBytes": len(content)}


def completion(begun: dict[str, object], content: bytes) -> dict[str, object]:
    return {
        "videoId": begun["videoId"],
        "originalFilename": "clip.mp4",
        "storagePath": begun["storagePath"],
        "contentType": "video/mp4",
        "sizeBytes": len(content),
    }


def job_state(scene: Scene, video_id: object) -> str:
    state: str = scene.cluster.sql("select state from echo.jobs where video_id = %s", video_id)[0][0]
    return state


def videos_of(scene: Scene) -> int:
    owner = scene.person.api.user_id
    number: int = scene.cluster.sql("select count(*) from echo.videos where owner_id = %s", owner)[0][0]
    return number
