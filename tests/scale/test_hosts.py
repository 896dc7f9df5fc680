"""Several APIs and workers on hosts of their own: what one begins another ends, and what is cut off harms nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.sync.client import ClientConnection

from tests.e2e.api import Api, frames
from tests.faults.cluster import wait_for
from tests.scale.installation import LEASE_S, Installation, at

pytestmark = pytest.mark.integration

CHUNK = 256 << 10
VIDEOS = "/api/v1/videos"


def begin(api: Api, clip: Path) -> dict[str, str]:
    wanted = {"filename": clip.name, "contentType": "video/mp4", "sizeBytes": clip.stat().st_size}
    return api.call("POST", f"{VIDEOS}/signed-upload-url", expect=201, json=wanted)  # type: ignore[return-value]


def complete(api: Api, begun: dict[str, str], clip: Path) -> str:
    said = {"videoId": begun["videoId"], "originalFilename": clip.name, "storagePath": begun["storagePath"]}
    said |= {"contentType": "video/mp4", "sizeBytes": clip.stat().st_size}  # type: ignore[dict-item]
    return str(api.call("POST", f"{VIDEOS}/upload-complete", expect=202, json=said)["jobId"])


def send(api: Api, url: str, content: bytes, *, start: int, end: int) -> httpx2.Response:
    headers = {"Content-Type": "video/mp4", "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
    return httpx2.put(at(api, url), content=content[start:end], headers=headers, timeout=30)


def submit(api: Api, clip: Path) -> str:
    """Upload in one piece; the job's id."""
    begun = begin(api, clip)
    content = clip.read_bytes()
    assert send(api, begun["uploadUrl"], content, start=0, end=len(content)).status_code in {200, 201}
    return complete(api, begun, clip)


def steps_of(installation: Installation, jobs: list[str]) -> list[tuple[str]]:
    """The workers of these jobs' steps."""
    return installation.sql("select distinct worker from echo.steps where job_id = any(%s) and worker <> ''", jobs)


def events_until_job_ends(socket: ClientConnection, job_id: str) -> list[dict[str, object]]:
    """Numbered frames up to the job's end."""
    seen = []
    for frame in frames(socket):
        if "id" in frame and frame["type"] != "snapshot":
            seen.append(frame)
        if frame.get("jobId") == job_id and frame["type"] in {"job.succeeded", "job.failed", "job.cancelled"}:
            return seen
    raise AssertionError("unreachable")


def assert_gapless(events: list[dict[str, object]]) -> None:
    numbers = [int(str(event["id"])) for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@contextmanager
def in_the_midst_of_a_ladder(installation: Installation, job_id: str) -> Iterator[int]:
    """The number of the worker whose encoder of this job was caught; the encoder stands still until the block's end."""

    caught: list[int] = []

    def look() -> bool:
        for number, worker in enumerate(installation.workers):
            if (running := installation.encoder(worker)) is not None:
                running.suspend()
                caught.append(number)
        return bool(caught)

    wait_for("an encoder runs", look)
    encoder = installation.encoder(installation.workers[caught[0]])
    assert encoder is not None
    try:
        yield caught[0]
    finally:
        if encoder.is_running():
            encoder.resume()


def test_an_upload_begun_at_one_api_ends_at_another_whose_socket_tells_of_workers_elsewhere(
    installation: Installation, clip: Path
) -> None:
    one, two = installation.user("ann", at="api1"), installation.user("ann", at="api2")
    content = clip.read_bytes() + b"\0" * CHUNK  # a tail that players ignore: more than one chunk
    padded = clip.with_name("padded.mp4")
    padded.write_bytes(content)
    with two.watch() as socket:
        begun = begin(one, padded)
        assert send(one, begun["uploadUrl"], content, start=0, end=CHUNK).status_code == 308
        resumed = two.call("POST", f"{VIDEOS}/{begun['videoId']}/upload/resume", expect=200)
        assert resumed["offsetBytes"] == CHUNK
        sent = send(two, str(resumed["uploadUrl"]), content, start=CHUNK, end=len(content))
        assert sent.status_code in {200, 201}, sent.text
        job_id = complete(two, begun, padded)
        assert complete(one, begun, padded) == job_id, "said again, elsewhere"
        events = events_until_job_ends(socket, job_id)
    assert events[-1]["type"] == "job.succeeded"
    assert {"ladder", "poster"} <= {event.get("step") for event in events}
    assert_gapless(events)
    master = httpx2.get(at(one, str(two.details(begun["videoId"])["playbackUrl"])))
    assert "#EXTM3U" in master.text


def test_work_is_spread_over_the_hosts(installation: Installation, clip: Path) -> None:
    apis = [installation.user("ben", at="api1"), installation.user("ben", at="api2")]
    jobs = [submit(api, clip) for _ in range(3) for api in apis]
    for job_id in jobs:
        assert apis[0].wait_for_job(job_id)["state"] == "succeeded"
    assert {installation.number(row[0]) for row in steps_of(installation, jobs)} == {0, 1}


@pytest.mark.complaint(3)
def test_a_worker_that_is_cut_off_gives_its_step_up_and_another_takes_it(
    installation: Installation, long_clip: Path, clip: Path
) -> None:
    api = installation.user("cleo")
    job_id = submit(api, long_clip)
    with in_the_midst_of_a_ladder(installation, job_id) as lost:
        worker = installation.workers[lost]
        before = installation.step(job_id, "ladder")
        assert installation.runner(job_id, "ladder") == lost
        encoder = installation.encoder(worker)
        assert encoder is not None
        installation.network.pull(installation.hosts[worker.name])
        wait_for("the other worker takes the step", lambda: installation.runner(job_id, "ladder") == 1 - lost)
    try:
        wait_for("the encoder of the cut-off worker is gone", lambda: not encoder.is_running(), 4 * LEASE_S)
        assert worker.runs, "it ended its step, not itself"
        assert api.wait_for_job(job_id)["state"] == "succeeded"
    finally:
        installation.network.plug_in(installation.hosts[worker.name])
    done = installation.step(job_id, "ladder")
    assert done["state"] == "succeeded"
    assert done["lease_token"] > before["lease_token"]
    assert installation.runner(job_id, "ladder") == 1 - lost

    def works_again() -> bool:
        again = submit(api, clip)
        assert api.wait_for_job(again)["state"] == "succeeded"
        return lost in {installation.number(row[0]) for row in steps_of(installation, [again])}

    wait_for("the worker works again", works_again)


@pytest.mark.complaint(22)
def test_what_a_worker_finished_while_it_was_cut_off_is_refused(installation: Installation, long_clip: Path) -> None:
    """The late writer of a lease: it is done, holds the result, and comes back after another run has begun."""
    api = installation.user("dora")
    job_id = submit(api, long_clip)
    with in_the_midst_of_a_ladder(installation, job_id) as late:
        worker = installation.workers[late]
        installation.network.pull(installation.hosts[worker.name])
        # The encoder goes on now, and may end before the worker gives up: then the outcome waits for the database.
    try:
        wait_for("the other worker takes the step", lambda: installation.runner(job_id, "ladder") == 1 - late)
        assert api.wait_for_job(job_id)["state"] == "succeeded"
    finally:
        installation.network.plug_in(installation.hosts[worker.name])

    def ended() -> bool:
        lines = [json.loads(line) for line in installation.log(worker.name).splitlines() if line.startswith("{")]
        mine = [line for line in lines if (line.get("job_id"), line.get("step")) == (job_id, "ladder")]
        return "lost" in {line.get("outcome") for line in mine}

    wait_for("the late run ends as lost", ended)
    tokens = installation.sql(
        "select distinct a.lease_token from echo.artefacts a join echo.jobs j on j.video_id = a.video_id "
        "where j.id = %s and a.step = 'ladder'",
        job_id,
    )
    newest = installation.step(job_id, "ladder")["lease_token"]
    assert tokens == [(newest,)]
    video_id = str(api.job(job_id)["videoId"])

    def kept() -> set[str]:
        return {
            path.parent.name for path in (installation.shared / "objects" / "videos" / video_id / "ladder").rglob("*@")
        }

    wait_for("no object of the late run is left", lambda: kept() == {str(newest)})


def test_an_api_that_is_cut_off_from_postgresql_says_so_and_recovers(installation: Installation) -> None:
    hosts, api = installation.hosts, installation.user("emil", at="api2")
    assert api.http.get(VIDEOS).status_code == 200
    with installation.network.mute(hosts["postgres"], hosts["api2"]):
        refused = api.http.get(VIDEOS)
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.json()["code"] == "database_unavailable"
        assert api.http.get("/readyz").status_code == 503
        assert api.http.get("/healthz").status_code == 200
        assert installation.user("emil", at="api1").http.get(VIDEOS).status_code == 200
    wait_for("the API answers again", lambda: api.http.get(VIDEOS).status_code == 200)
    wait_for("it is ready again", lambda: api.http.get("/readyz").status_code == 200)


@pytest.mark.complaint(30)
def test_an_api_that_is_cut_off_from_valkey_serves_on_and_its_sockets_catch_up(
    installation: Installation, clip: Path
) -> None:
    hosts = installation.hosts
    one, two = installation.user("fay", at="api1"), installation.user("fay", at="api2")
    with two.watch() as socket:
        assert json.loads(socket.recv(timeout=20))["type"] == "ready"
        with installation.network.mute(hosts["valkey"], hosts["api2"]):
            assert two.http.get(VIDEOS).status_code == 200
            assert two.http.get("/readyz").status_code == 200, "Valkey is no reason not to serve"
            elsewhere = events_until_job_ends(socket, submit(one, clip))
            here = events_until_job_ends(socket, submit(two, clip))
        after = events_until_job_ends(socket, submit(one, clip))
    assert_gapless(elsewhere + here + after)


def test_processes_of_an_old_version_stop_on_a_schema_that_they_cannot_work_with(installation: Installation) -> None:
    """Row 23 of the fault matrix, with real processes. The last test: nothing works here afterwards."""
    installation.sql(
        "create or replace function echo.schema_revision() returns table (revision text, needs_code text) "
        "language sql immutable as $$ select '9999', '9999' $$"
    )
    for worker in installation.workers:
        wait_for(f"{worker.name} stops", lambda worker=worker: not worker.runs)
        assert worker.process is not None
        assert worker.process.returncode == 1
        assert "database_newer" in installation.log(worker.name)
        assert "Traceback" not in installation.log(worker.name)
    ready = installation.user("gus").http.get("/readyz")
    assert ready.status_code == 503
    assert "9999" in ready.text
    api = installation.apis[0]
    api.end()
    with installation.hosts[api.name].inside():
        api.start()
    wait_for("the API refuses to start", lambda: not api.runs)
    assert api.process is not None
    assert api.process.returncode == 1
    assert "database_newer" in installation.log(api.name)
