"""What steps do to the world, and the world to steps: rows of the fault matrix about providers, storage, clocks,
clients and owners who change their minds."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
import psutil
import pytest
from websockets.sync.client import connect

from tests.faults.cluster import wait_for
from tests.faults.conftest import Scene
from tests.faults.people import COMPLETE, UPLOAD_URL
from tests.faults.test_processes import completion, revive, wanted
from tests.faults.trouble import Fault, lose_rings, ring_again, shuffle_rings

pytestmark = [pytest.mark.integration, pytest.mark.faults]

NOW = Fault(kind="", wait_s=0, hold_s=0, pick=0.3)
HOUR = 3600


@pytest.mark.matrix(2)
def test_worker_killed_between_delivery_and_record_delivers_once(scene: Scene) -> None:
    (scene.cluster.control / "die-after-delivery").touch()
    video_id, job_id = scene.upload()
    wait_for("a worker dies after it has delivered", lambda: not all(w.runs for w in scene.cluster.workers))
    revive(scene)
    assert scene.finished(job_id)["state"] == "succeeded"
    assert scene.attempts(job_id)["deliver"] == 2
    assert scene.provider.deliveries[f"/{video_id}"] == 1
    assert scene.provider.asked[f"/{video_id}"] == 2


@pytest.mark.matrix(3)
def test_worker_killed_after_a_providers_answer_asks_once_more_and_keeps_one_answer(scene: Scene) -> None:
    scene.crash("deliver", "after-put")
    video_id, job_id = scene.upload()
    wait_for("a worker dies with the answer", lambda: not all(w.runs for w in scene.cluster.workers))
    revive(scene)
    assert scene.finished(job_id)["state"] == "succeeded"
    assert scene.provider.asked[f"/{video_id}"] == 2
    rows = scene.cluster.sql(
        "select lease_token, storage_key from echo.artefacts where video_id = %s and step = 'deliver'", video_id
    )
    assert [token for token, _ in rows] == [2]
    output = scene.cluster.sql("select output from echo.steps where job_id = %s and name = 'deliver'", job_id)[0][0]
    assert output == {"attempt": 2}


@pytest.mark.matrix(10)
@pytest.mark.parametrize("how", ["error:3", "slow:3", "half:2"])
def test_storage_that_fails_is_asked_again_and_nothing_half_is_published(scene: Scene, how: str) -> None:
    (scene.cluster.control / "storage").write_text(how)
    _, job_id = scene.upload()
    job = scene.finished(job_id)
    assert job["state"] == "succeeded", job
    assert not (scene.cluster.control / "storage").exists()


@pytest.mark.matrix(13)
def test_clients_that_break_off_leave_the_api_as_it_was(scene: Scene) -> None:
    video_id, job_id = scene.upload()
    scene.finished(job_id)
    api = psutil.Process(scene.cluster.api.pid)
    settle(api)
    before = api.num_fds()
    begun = scene.person.call("POST", UPLOAD_URL, json=wanted(bytes(1 << 20))).json()
    for _ in range(10):
        break_off(scene, upload_request(begun["uploadUrl"]) + bytes(64 << 10))
    address = f"{scene.cluster.url.replace('http', 'ws', 1)}/ws/jobs/status/{scene.person.api.user_id}"
    for _ in range(5):
        socket_ = connect(address, legacy=True)
        socket_.send(json.dumps({"type": "auth", "token": scene.person.api.token}))
        socket_.recv(timeout=10)
        reset(socket_.socket)
        socket_.close_socket()
    details = scene.person.call("GET", f"/api/v1/videos/{video_id}/details").json()
    for _ in range(5):
        break_off(scene, get_request(details["posterUrl"] or details["playbackUrl"]), read=1)
    wait_for("all that was open is closed", lambda: api.num_fds() <= before + 2, 30)
    resumed = scene.person.call("POST", f"/api/v1/videos/{begun['videoId']}/upload/resume").json()
    assert 0 <= resumed["offsetBytes"] <= 64 << 10


@pytest.mark.matrix(14)
@pytest.mark.parametrize("offset_s", [HOUR, -HOUR])
def test_workers_clock_is_of_no_importance_to_leases(scene: Scene, offset_s: int) -> None:
    scene.cluster.set_clock(scene.cluster.workers[0], offset_s)
    time.sleep(1.5)  # the worker reads its clock's file once a second, and nobody can see when
    jobs = [scene.upload()[1] for _ in range(2)]
    for job_id in jobs:
        assert scene.finished(job_id)["state"] == "succeeded"
        assert set(scene.attempts(job_id).values()) == {1}


@pytest.mark.matrix(14)
def test_apis_clock_may_be_off_by_the_leeway_and_no_more(scene: Scene) -> None:
    statuses = {}
    for offset_s in (25, -25, 5 * 60, -5 * 60):
        scene.cluster.set_clock(scene.cluster.api, offset_s)
        wait_for("the API lives in another time", lambda o=offset_s: abs(clock_of_api(scene) - o) < 5)
        token = scene.cluster.token(scene.person.api.user_id, issued_ago_s=0, lifetime_s=60)
        answer = httpx2.get(f"{scene.cluster.url}/api/v1/videos", headers={"Authorization": f"Bearer {token}"})
        statuses[offset_s] = answer.status_code
    scene.cluster.set_clock(scene.cluster.api, 0)
    wait_for("the API is back in our time", lambda: abs(clock_of_api(scene)) < 5)
    assert statuses == {25: 200, -25: 200, 300: 401, -300: 401}


@pytest.mark.matrix(15)
def test_rings_that_are_doubled_lost_or_shuffled_start_every_step_once(scene: Scene) -> None:
    jobs = []
    for trouble in (ring_again, lose_rings, shuffle_rings, ring_again):
        jobs.append(scene.upload()[1])
        trouble(scene.cluster, NOW)
    for job_id in jobs:
        assert scene.finished(job_id)["state"] == "succeeded"
        assert set(scene.attempts(job_id).values()) == {1}


@pytest.mark.matrix(11)
def test_upload_completed_by_twenty_calls_at_once_has_one_job_and_one_answer(scene: Scene) -> None:
    content = scene.media.clips[0].read_bytes()
    begun = scene.person.call("POST", UPLOAD_URL, json=wanted(content)).json()
    httpx2.put(begun["uploadUrl"], content=content, headers={"Content-Type": "video/mp4"}).raise_for_status()
    with ThreadPoolExecutor(20) as callers:
        answers = list(
            callers.map(lambda _: scene.person.api.http.post(COMPLETE, json=completion(begun, content)), range(20))
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({(answer.json()["videoId"], answer.json()["jobId"]) for answer in answers}) == 1
    jobs = scene.cluster.sql("select count(*) from echo.jobs where video_id = %s", begun["videoId"])
    assert jobs == [(1,)]


@pytest.mark.matrix(17)
def test_cancel_stops_the_encoder_and_leaves_nothing_of_its_step(scene: Scene) -> None:
    video_id, job_id = scene.upload(scene.media.long)
    wait_for("an encoder runs", lambda: scene.step(job_id, "ladder")["state"] == "running" and scene.cluster.encoders())
    cancelled = [scene.person.api.http.post(f"/api/v1/videos/jobs/{job_id}/cancel").status_code for _ in range(2)]
    assert set(cancelled) <= {200, 202}
    wait_for("the encoder has ended", lambda: not scene.cluster.encoders(), 15)
    job = scene.finished(job_id)
    assert job["state"] == "cancelled"
    assert scene.cluster.sql(
        "select count(*) from echo.artefacts where video_id = %s and step = 'ladder'", video_id
    ) == [(0,)]
    late = scene.person.api.http.post(f"/api/v1/videos/jobs/{job_id}/cancel")
    assert (late.status_code, late.json()["code"]) == (409, "job_finished")
    scene.person.submissions[-1].cancelled = True


@pytest.mark.matrix(18)
def test_video_deleted_while_it_is_encoded_is_gone_with_everything(scene: Scene) -> None:
    video_id, job_id = scene.upload(scene.media.long)
    wait_for("an encoder runs", lambda: scene.step(job_id, "ladder")["state"] == "running" and scene.cluster.encoders())
    assert scene.person.call("DELETE", f"/api/v1/videos/{video_id}").status_code == 204
    scene.person.submissions[-1].deleted = True
    assert scene.person.api.http.get(f"/api/v1/videos/{video_id}/details").status_code == 404

    def gone() -> bool:
        scene.cluster.hurry()
        return not scene.cluster.sql("select 1 from echo.videos where id = %s", video_id)

    wait_for("its rows are gone", gone)
    assert not scene.cluster.encoders()
    assert not list((scene.cluster.data_dir / "objects" / "objects").rglob(f"*{video_id}*"))


@pytest.mark.matrix(20)
@pytest.mark.parametrize(("how", "code"), [("raise", "internal_error"), ("hang", "step_timeout"), ("junk", None)])
def test_plugins_step_that_misbehaves_fails_alone_and_is_named(scene: Scene, how: str, code: str | None) -> None:
    (scene.cluster.control / "misbehave").write_text(how)
    video_id, job_id = scene.upload()
    job = scene.finished(job_id)
    step = scene.step(job_id, "misbehave")
    assert (job["state"], step["state"]) == ("succeeded", "failed"), job
    error = step["error"]
    assert isinstance(error, dict)
    assert error["code"] == (code or "internal_error")
    if how != "hang":
        assert "fault_plugin" in error["message"]
    assert scene.person.call("GET", f"/api/v1/videos/{video_id}/details").json()["status"] == "ready"
    assert all(worker.runs for worker in scene.cluster.workers)


def clock_of_api(scene: Scene) -> float:
    """How far the API's clock is off, seconds, by the date on its answers."""
    date = httpx2.get(f"{scene.cluster.url}/healthz").headers["date"]
    return parsedate_to_datetime(date).timestamp() - time.time()


def settle(process: psutil.Process) -> None:
    """Wait until pools have closed what they keep open for a moment only."""
    seen = [process.num_fds()]
    end = time.monotonic() + 5
    while time.monotonic() < end and len(seen) < 10:
        time.sleep(0.1)
        seen = [*seen, process.num_fds()] if process.num_fds() == seen[-1] else [process.num_fds()]


def upload_request(url: str) -> bytes:
    parsed = httpx2.URL(url)
    lines = [f"PUT {parsed.raw_path.decode()} HTTP/1.1", f"Host: {parsed.host}:{parsed.port}"]
    lines += ["Content-Type: video/mp4", f"Content-Length: {1 << 20}", "", ""]
    return "\r\n".join(lines).encode()


def get_request(url: str) -> bytes:
    parsed = httpx2.URL(url)
    return f"GET {parsed.raw_path.decode()} HTTP/1.1\r\nHost: {parsed.host}:{parsed.port}\r\n\r\n".encode()


def break_off(scene: Scene, request: bytes, *, read: int = 0) -> None:
    """Send a part of a request, or read a part of its answer, then reset the connection."""
    connection = socket.create_connection(("127.0.0.1", scene.cluster.api_port), timeout=10)
    connection.sendall(request)
    if read:
        connection.recv(read)
    reset(connection)
    connection.close()


def reset(connection: socket.socket) -> None:
    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.mark.matrix(9)
def test_disk_that_fills_up_fails_what_needs_room_and_recovers(scene: Scene) -> None:
    if not scene.cluster.has_disk:
        pytest.skip("only root can give the cluster a disk of its own")
    content = scene.media.long.read_bytes()
    begun = scene.person.call("POST", UPLOAD_URL, json=wanted(content)).json()
    scene.cluster.fill_disk(leave_bytes=256 << 10)
    refused = httpx2.put(begun["uploadUrl"], content=content, headers={"Content-Type": "video/mp4"})
    assert refused.status_code == 507, refused.text
    assert httpx2.get(f"{scene.cluster.url}/healthz").status_code == 200
    Path(os.fspath(scene.cluster.data_dir / "filler")).unlink()
    resumed = scene.person.call("POST", f"/api/v1/videos/{begun['videoId']}/upload/resume").json()
    offset = resumed["offsetBytes"]
    rest = {"Content-Type": "video/mp4"}
    if offset:
        rest["Content-Range"] = f"bytes {offset}-{len(content) - 1}/{len(content)}"
    sent = httpx2.put(resumed["uploadUrl"], content=content[offset:], headers=rest)
    assert sent.status_code in {200, 201}, sent.text
    completed = scene.person.call("POST", COMPLETE, json=completion(begun, content))
    assert scene.finished(completed.json()["jobId"])["state"] == "succeeded"
