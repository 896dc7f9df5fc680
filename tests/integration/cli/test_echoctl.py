"""``echoctl`` against a real instance: servers, API and worker as ``echoctl up`` starts them."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from echo_core.entrypoints.cli.round_trip import CLIP, HOPS

pytestmark = pytest.mark.integration

BIG_BYTES = 400 << 20


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Path(shutil.copy(CLIP, tmp_path / "a clip.mp4"))


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """Long enough to be interrupted; no video, so that nothing is encoded."""
    path = tmp_path / "big.mp4"
    with path.open("wb") as file:
        file.write(b"no video")
        file.truncate(BIG_BYTES)
    return path


def test_token_is_all_that_is_printed(instance: Any) -> None:
    ran = instance.echoctl("token", "--email", "someone@example.org", "--expires", "5m")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count(".") == 2
    assert ran.stdout.count("\n") == 1


def test_second_up_is_5_and_names_the_first(instance: Any) -> None:
    ran = instance.echoctl("up")
    assert ran.returncode == 5
    assert "Echo already runs" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_upload_and_watch_give_an_address_that_plays(instance: Any, clip: Path) -> None:
    ran = instance.echoctl("upload", clip, "--watch", "--title", "From the shell")
    assert ran.returncode == 0, ran.stderr
    playlist = httpx2.get(ran.stdout.strip(), trust_env=False)
    assert playlist.text.startswith("#EXTM3U")
    listed = json.loads(instance.echoctl("videos", "--q", "From the shell", "--json").stdout)
    (video,) = listed["items"]
    assert (video["title"], video["status"]) == ("From the shell", "ready")
    job = json.loads(instance.echoctl("jobs", "show", video["videoId"], "--json").stdout)
    assert job["state"] == "succeeded"
    retried = instance.echoctl("jobs", "retry", job["jobId"], "--step", "poster", "--json")
    assert json.loads(retried.stdout)["jobId"] == job["jobId"]


def test_file_that_is_no_video_is_4_with_the_reason(instance: Any, tmp_path: Path) -> None:
    path = tmp_path / "poem.mp4"
    path.write_text("no video " * 100)
    ran = instance.echoctl("upload", path, "--watch", "--json")
    assert ran.returncode == 4, ran.stderr
    (file,) = json.loads(ran.stdout)["files"]
    assert file["error"]["code"] == "media_unreadable"
    assert file["error"]["remedy"]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.complaint(9)
def test_interrupted_upload_is_continued(instance: Any, big: Path, end: signal.Signals) -> None:
    first = instance.start("upload", big)
    first.until(lambda line: "uploaded 25 %" in line)
    first.process.send_signal(end)
    assert first.process.wait(30) == (130 if end is signal.SIGINT else -signal.SIGKILL)
    second = instance.echoctl("upload", big)
    assert second.returncode == 0, second.stderr
    assert "Continuing after" in second.stderr
    details = json.loads(instance.echoctl("jobs", "show", second.stdout.strip(), "--json").stdout)
    assert next(s for s in details["steps"] if s["name"] == "verify")["state"] != "failed"


def test_upload_survives_the_end_of_the_api(instance: Any, big: Path) -> None:
    upload = instance.start("upload", big)
    upload.until(lambda line: "uploaded 25 %" in line)
    instance.kill_api()
    assert upload.process.wait(120) == 0, "".join(upload.lines)


@pytest.mark.complaint(10)
def test_doctor_finds_nothing_wrong_and_leaves_nothing(instance: Any) -> None:
    ran = instance.echoctl("doctor", "--json")
    assert ran.returncode == 0, ran.stderr
    found = {hop["name"]: hop["status"] for hop in json.loads(ran.stdout)["hops"]}
    assert set(found.values()) == {"ok"}
    assert {"configuration", "database", "redis", "storage", "transcoder", *HOPS, "clean-up"} <= set(found)
    assert json.loads(instance.echoctl("videos", "--q", "echo-doctor", "--json").stdout)["items"] == []
