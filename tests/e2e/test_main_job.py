"""One command, a real video in, playable and streaming out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest

from tests.e2e.api import frames
from tests.e2e.conftest import PLAYBACK_URL, Browse, Clips, Instance, wait_for

pytestmark = pytest.mark.e2e


def test_upload_watch_prints_a_url_that_ffprobe_accepts_and_chromium_plays(
    instance: Instance, clips: Clips, pages: str, browse: Browse
) -> None:
    clip = clips.make("h264.mp4", seconds=8)
    done = instance.echoctl("upload", str(clip), "--watch")
    match = PLAYBACK_URL.search(done.stdout)
    assert match, done.stdout + done.stderr
    for step in ("verify", "inspect", "package", "ladder", "poster", "preview", "storyboard"):
        assert step in done.stderr + done.stdout
    probed = json.loads(
        subprocess.run(
            ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", match[0]],
            capture_output=True,
            check=True,
        ).stdout
    )
    assert {s["codec_name"] for s in probed["streams"]} == {"h264", "aac"}
    assert abs(float(probed["format"]["duration"]) - 8) < 0.3

    played = browse(f"{pages}/play.html?{urlencode({'src': match[0], 'until': 3})}")
    assert float(str(played["time"])) > 3
    assert played["levels"] == [240, 360]
    assert played["errors"] == []


def test_source_that_cannot_be_remuxed_plays_too(instance: Instance, clips: Clips, pages: str, browse: Browse) -> None:
    clip = clips.make("mpeg4.mp4", seconds=6, codec="mpeg4")
    api = instance.api()
    video_id, job_id = api.upload(clip)
    job = api.wait_for_job(job_id)
    assert job["state"] == "succeeded", job
    assert {s["name"]: s["state"] for s in job["steps"]}["package"] == "skipped"  # type: ignore[index, union-attr, attr-defined]
    played = browse(f"{pages}/play.html?{urlencode({'src': api.details(video_id)['playbackUrl'], 'until': 3})}")
    assert played["errors"] == []


def test_poster_storyboard_and_progressive_file_open_without_headers(instance: Instance, clips: Clips) -> None:
    api = instance.api()
    video_id, job_id = api.upload(clips.make("h264.mp4", seconds=8))
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    details = api.details(video_id)
    assert details["status"] == "ready"
    poster = httpx2.get(str(details["posterUrl"]), follow_redirects=True)
    assert poster.headers["content-type"] == "image/jpeg"
    assert poster.content[:2] == b"\xff\xd8"
    board = httpx2.get(str(details["storyboardUrl"]), follow_redirects=True)
    assert board.text.startswith("WEBVTT")
    sheet = next(line for line in board.text.splitlines() if "xywh" in line).partition("#")[0]
    picture = httpx2.get(str(httpx2.URL(str(board.url)).join(sheet)), follow_redirects=True)
    assert picture.content[:2] == b"\xff\xd8"
    part = api.http.get(f"/api/v1/stream/video/{video_id}", headers={"Range": "bytes=0-99"}, follow_redirects=True)
    assert part.status_code == 206
    assert len(part.content) == 100


@pytest.mark.complaint(10)
def test_unmodified_upchunk_uploads_from_another_origin(
    instance: Instance, clips: Clips, pages: str, browse: Browse
) -> None:
    clip = clips.make("upchunk.mp4", seconds=8, size="960x540")
    api = instance.api()
    query = {"api": instance.url, "token": api.token, "file": f"{pages}/clips/{clip.name}"}
    outcome = browse(f"{pages}/upchunk.html?{urlencode(query)}", deadline_s=90)
    assert outcome["sizeBytes"] == clip.stat().st_size
    assert int(str(outcome["progressEvents"])) > 1
    assert api.wait_for_job(str(outcome["jobId"]))["state"] == "succeeded"
    stored = api.http.get(f"/api/v1/stream/video/{outcome['videoId']}", follow_redirects=True)
    assert stored.content == clip.read_bytes()


@pytest.mark.complaint(30)
def test_websocket_tells_every_state_in_order_and_resumes_exactly(instance: Instance, clips: Clips) -> None:
    api = instance.api("watcher@example.org")
    with api.watch() as socket:
        seen = frames(socket)
        assert next(seen)["type"] == "ready"
        snapshot = next(seen)
        assert snapshot["type"] == "snapshot"
        _, job_id = api.upload(clips.make("h264.mp4", seconds=8))
        events: list[dict[str, object]] = []
        for frame in seen:
            if isinstance(frame.get("id"), int) and frame["type"] not in {"snapshot", "ready"}:
                events.append(frame)
            if frame["type"] == "job.succeeded" and frame["jobId"] == job_id:
                break
    ids = [int(str(e["id"])) for e in events]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    told = [e["type"] for e in events if e.get("step") == "ladder"]
    assert told == ["step.queued", "step.running", "step.succeeded"]
    for frame in events:
        assert frame["videoId"]

    middle = ids[len(ids) // 2]
    with api.watch(last_event_id=middle) as socket:
        seen = frames(socket)
        assert next(seen)["type"] == "ready"
        missed = [next(seen) for _ in ids[len(ids) // 2 + 1 :]]
    assert [m["id"] for m in missed] == ids[len(ids) // 2 + 1 :]
    assert [m["type"] for m in missed] == [e["type"] for e in events[len(ids) // 2 + 1 :]]


@pytest.mark.complaint(5)
def test_bad_file_fails_with_a_code_a_sentence_and_a_remedy(instance: Instance, clips: Clips) -> None:
    text = clips.make("h264.mp4", seconds=8).parent / "text.mp4"
    text.write_text("This is not a video.\n" * 100)
    api = instance.api()
    _, job_id = api.upload(text)
    job = api.wait_for_job(job_id)
    assert job["state"] == "failed"
    assert job["error"]["code"] == "media_unreadable"  # type: ignore[index]
    assert job["error"]["message"]  # type: ignore[index]
    assert job["error"]["remedy"]  # type: ignore[index]
    done = instance.echoctl("upload", str(text), "--watch", check=False)
    assert done.returncode != 0
    assert "not a video" in done.stderr


def test_foreign_video_is_unknown(instance: Instance, clips: Clips) -> None:
    owner, stranger = instance.api("owner@example.org"), instance.api("stranger@example.org")
    video_id, job_id = owner.upload(clips.make("h264.mp4", seconds=8))
    stranger.call("GET", f"/api/v1/videos/{video_id}/details", expect=404)
    stranger.call("GET", f"/api/v1/videos/jobs/{job_id}", expect=404)
    stranger.call("DELETE", f"/api/v1/videos/{video_id}", expect=404)
    assert owner.wait_for_job(job_id)["state"] == "succeeded"


def left_of(root: Path, name: str) -> list[str]:
    """Folders and files with that in their names; what vanishes while one looks is gone."""
    return [found for _, folders, files in os.walk(root) for found in (*folders, *files) if name in found]


ObjectsOf = Callable[[str], list[str]]


@pytest.fixture
def objects_of(instance: Instance) -> ObjectsOf:
    """What the storage has of a video."""
    return lambda video_id: left_of(instance.data_dir / "objects", video_id)


@pytest.mark.complaint(7)
def test_deleting_removes_every_object(instance: Instance, clips: Clips, objects_of: ObjectsOf) -> None:
    api = instance.api()
    video_id, job_id = api.upload(clips.make("h264.mp4", seconds=8))
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    assert objects_of(video_id)
    api.call("DELETE", f"/api/v1/videos/{video_id}", expect=204)
    api.call("GET", f"/api/v1/videos/{video_id}/details", expect=404)
    wait_for("its objects are gone", lambda: not objects_of(video_id))
    wait_for("nothing else is left of it", lambda: not left_of(instance.data_dir, video_id))


@pytest.mark.parametrize(("codec", "highest"), [("libx264", 540), ("mpeg4", 480)])
def test_changing_the_level_while_playing_shows_each_and_never_stalls(
    instance: Instance, clips: Clips, pages: str, browse: Browse, codec: str, highest: int
) -> None:
    """With the source copied as the highest level, and with all levels encoded; in both, a seek on the way."""
    api = instance.api()
    video_id, job_id = api.upload(clips.make(f"switching-{codec}.mp4", seconds=13, size="960x540", codec=codec))
    job = api.wait_for_job(job_id)
    assert job["state"] == "succeeded", job
    query = urlencode({"src": api.details(video_id)["playbackUrl"], "until": 11, "seek": 2.5})
    played = browse(f"{pages}/switch.html?{query}")
    levels = played["levels"]
    assert levels == [240, 360, highest], played
    assert sorted(played["shown"]) == levels, played  # type: ignore[call-overload]
    assert len(played["asked"]) > 7, played  # type: ignore[arg-type]
    assert (played["errors"], played["stalls"], played["gaps"], played["silent"]) == ([], [], [], 0), played
