"""The main job again, with the videos in a bucket: nothing about it may depend on where they are."""

from __future__ import annotations

import io
from collections.abc import Iterator
from urllib.parse import urlsplit

import google_crc32c
import httpx2
import pytest
import requests
from google.resumable_media.requests import ResumableUpload

from tests.e2e.api import Api
from tests.e2e.conftest import BUCKET, PLAYBACK_URL, PUSH_AUDIENCE, Clips, Instance, wait_for
from tests.e2e.test_main_job import (  # noqa: F401 - on the instance below
    test_deleting_removes_every_object,
    test_poster_storyboard_and_progressive_file_open_without_headers,
    test_unmodified_upchunk_uploads_from_another_origin,
    test_upload_watch_prints_a_url_that_ffprobe_accepts_and_chromium_plays,
)
from tests.fakes.gcs.server import FakeGcs

pytestmark = pytest.mark.e2e

CHUNK = 256 * 1024


@pytest.fixture
def instance(gcs_instance: Instance, gcs: FakeGcs) -> Iterator[Instance]:
    """Whatever a test broke of the bucket is mended after it."""
    yield gcs_instance
    gcs.faults.clear()


@pytest.fixture
def objects_of(gcs: FakeGcs):
    return lambda video_id: [name for name in gcs.objects(BUCKET) if video_id in name]


def test_not_a_byte_of_a_video_passes_the_api(instance: Instance, gcs: FakeGcs, clips: Clips) -> None:
    clip = clips.make("h264.mp4", seconds=8)
    done = instance.echoctl("upload", str(clip), "--watch")
    match = PLAYBACK_URL.search(done.stdout)
    assert match
    master = httpx2.get(match[0]).text
    media = next(line for line in master.splitlines() if line and not line.startswith("#"))
    playlist = httpx2.get(str(httpx2.URL(match[0]).join(media))).text
    address = next(line for line in playlist.splitlines() if line and not line.startswith("#"))
    assert urlsplit(address).netloc == urlsplit(gcs.url).netloc
    assert "generation=" in address
    assert list(instance.data_dir.glob("objects/**/*.mp4")) == []


def test_google_client_uploads_with_the_session_it_is_given(instance: Instance, clips: Clips) -> None:
    api = instance.api()
    clip = clips.make("h264.mp4", seconds=8)
    data = clip.read_bytes()
    begun = api.call(
        "POST",
        "/api/v1/videos/signed-upload-url",
        expect=201,
        json={"filename": clip.name, "contentType": "video/mp4", "sizeBytes": len(data)},
    )
    upload = ResumableUpload(str(begun["uploadUrl"]), CHUNK)
    upload._resumable_url = str(begun["uploadUrl"])  # it is open already
    upload._stream, upload._total_bytes, upload._content_type = io.BytesIO(data), len(data), "video/mp4"
    with requests.Session() as session:
        while not upload.finished:
            upload.transmit_next_chunk(session)
    completed = api.call(
        "POST",
        "/api/v1/videos/upload-complete",
        expect=202,
        json={
            "videoId": begun["videoId"],
            "originalFilename": clip.name,
            "storagePath": begun["storagePath"],
            "contentType": "video/mp4",
            "sizeBytes": len(data),
        },
    )
    assert api.wait_for_job(str(completed["jobId"]))["state"] == "succeeded"


def test_upload_goes_on_where_it_was_in_the_same_session(instance: Instance, gcs: FakeGcs, clips: Clips) -> None:
    api = instance.api()
    data = clips.make("h264.mp4", seconds=8).read_bytes() + bytes(2 * CHUNK)  # what follows the last box is not read
    begun = api.call(
        "POST",
        "/api/v1/videos/signed-upload-url",
        expect=201,
        json={"filename": "resumed.mp4", "contentType": "video/mp4", "sizeBytes": len(data)},
    )
    headers = {"Content-Range": f"bytes 0-{CHUNK - 1}/{len(data)}"}
    assert httpx2.put(str(begun["uploadUrl"]), content=data[:CHUNK], headers=headers).status_code == 308
    for _ in range(2):  # after a reload, and after another
        resumed = api.call("POST", f"/api/v1/videos/{begun['videoId']}/upload/resume", expect=200)
        assert (resumed["offsetBytes"], resumed["uploadUrl"]) == (CHUNK, begun["uploadUrl"])
    headers = {"Content-Range": f"bytes {CHUNK}-{len(data) - 1}/{len(data)}"}
    assert httpx2.put(str(begun["uploadUrl"]), content=data[CHUNK:], headers=headers).status_code == 200
    (stored,) = [one for name, one in gcs.objects(BUCKET).items() if name == begun["storagePath"]]
    assert stored.read() == data


def test_doctor_goes_all_the_way_and_audit_finds_nothing(instance: Instance) -> None:
    done = instance.echoctl("doctor")
    assert "FAILED" not in done.stdout, done.stdout
    audited = instance.echoctl("storage", "audit", "--older-than", "0s")
    assert "0 disagreements" in audited.stderr, audited.stderr


@pytest.mark.matrix(26)
def test_object_that_is_deleted_before_it_is_processed_is_a_clear_failure(
    instance: Instance, gcs: FakeGcs, clips: Clips
) -> None:
    api = instance.api()
    clip = clips.make("h264.mp4", seconds=8)
    gcs.faults.add(method="GET", path="alt=media", delay_s=1.5, times=1)  # the worker's first look
    video_id, job_id = api.upload(clip)
    (source,) = [name for name in gcs.objects(BUCKET) if video_id in name]
    gcs.delete_object(BUCKET, source)
    job = api.wait_for_job(job_id)
    assert job["state"] == "failed"
    assert job["error"]["code"] in {"object_not_found", "source_missing", "source_changed"}, job  # type: ignore[index]
    assert job["error"]["remedy"]  # type: ignore[index]


def begun_and_sent(api: Api, data: bytes) -> dict[str, object]:
    begun = api.call(
        "POST",
        "/api/v1/videos/signed-upload-url",
        expect=201,
        json={"filename": "left.mp4", "contentType": "video/mp4", "sizeBytes": len(data)},
    )
    assert httpx2.put(str(begun["uploadUrl"]), content=data).status_code == 200
    return begun


def test_notification_finds_a_video_whose_browser_was_closed_too_early(
    instance: Instance, gcs: FakeGcs, clips: Clips
) -> None:
    api = instance.api()
    begun = begun_and_sent(api, clips.make("h264.mp4", seconds=8).read_bytes())
    where = f"{instance.url}/plugins/storage_gcs/notifications"
    stranger = gcs.push_notification(where, BUCKET, str(begun["storagePath"]), audience="https://other.example")
    assert stranger.send().status_code == 401
    assert api.details(str(begun["videoId"]))["status"] == "awaiting_upload"
    for _ in range(2):  # it comes at least once
        push = gcs.push_notification(where, BUCKET, str(begun["storagePath"]), audience=PUSH_AUDIENCE)
        assert push.send().status_code == 204
    wait_for("it is ready", lambda: api.details(str(begun["videoId"]))["status"] == "ready", 60)


@pytest.mark.matrix(26)
def test_object_that_is_not_what_was_sent_is_put_in_quarantine(instance: Instance, gcs: FakeGcs, clips: Clips) -> None:
    api = instance.api()
    data = clips.make("h264.mp4", seconds=8).read_bytes()
    begun = begun_and_sent(api, data)
    gcs.put_object(BUCKET, str(begun["storagePath"]), bytes(len(data)))  # somebody else writes to the bucket
    completion = {
        "videoId": begun["videoId"],
        "originalFilename": "left.mp4",
        "storagePath": begun["storagePath"],
        "contentType": "video/mp4",
        "sizeBytes": len(data),
        "checksum": f"crc32c:{google_crc32c.value(data):08x}",
    }
    for _ in range(2):
        problem = api.call("POST", "/api/v1/videos/upload-complete", expect=409, json=completion)
        assert problem["code"] == "upload_checksum_mismatch"
    assert api.details(str(begun["videoId"]))["job"] is None
    api.call("DELETE", f"/api/v1/videos/{begun['videoId']}", expect=204)
    wait_for("its object is gone", lambda: str(begun["storagePath"]) not in gcs.objects(BUCKET))


@pytest.mark.matrix(25)
def test_bucket_that_is_away_fails_requests_quickly_and_no_job(instance: Instance, gcs: FakeGcs, clips: Clips) -> None:
    api = instance.api()
    video_id, job_id = api.upload(clips.make("outage.mp4", seconds=4))
    outage = gcs.faults.add(status=503, times=1_000_000)
    try:
        wait_for("the worker has met the outage", lambda: outage.fired > 5)
        answer = api.http.post(
            "/api/v1/videos/signed-upload-url",
            json={"filename": "a.mp4", "contentType": "video/mp4", "sizeBytes": 10},
        )
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert answer.headers["retry-after"]
    finally:
        gcs.faults.clear()
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    assert api.details(video_id)["status"] == "ready"
