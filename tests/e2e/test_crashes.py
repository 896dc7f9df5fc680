"""What dies in the middle of a job comes back, and the job ends by itself. (The fault matrix has its own suite.)"""

from __future__ import annotations

import signal

import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Clips, Instance, wait_for

pytestmark = pytest.mark.e2e


def ladder_runs(api: Api, job_id: str) -> bool:
    steps = {s["name"]: s for s in api.job(job_id)["steps"]}  # type: ignore[union-attr, attr-defined]
    return steps["ladder"]["state"] == "running"


@pytest.mark.complaint(3)
def test_worker_killed_in_the_middle_of_the_ladder(fragile_instance: Instance, clips: Clips) -> None:
    api = fragile_instance.api()
    _, job_id = api.upload(clips.make("long.mp4", seconds=16, size="1280x720"))
    wait_for("the ladder runs", lambda: ladder_runs(api, job_id) and fragile_instance.find("libx264") is not None)
    worker = fragile_instance.find("cli", "worker")
    encoder = fragile_instance.find("libx264")
    assert worker is not None
    assert encoder is not None
    worker.send_signal(signal.SIGKILL)
    wait_for("the encoder of the dead worker is gone", lambda: not encoder.is_running(), 5)
    job = api.wait_for_job(job_id, deadline_s=180)
    assert job["state"] == "succeeded", job
    ladder = next(s for s in job["steps"] if s["name"] == "ladder")  # type: ignore[union-attr, attr-defined]
    assert ladder["attempt"] == 2
    assert any("restart" in line for line in fragile_instance.output), "".join(fragile_instance.output)


@pytest.mark.complaint(2)
def test_valkey_killed_and_emptied_in_the_middle_of_a_job(fragile_instance: Instance, clips: Clips) -> None:
    api = fragile_instance.api()
    _, job_id = api.upload(clips.make("long.mp4", seconds=16, size="1280x720"))
    wait_for("the ladder runs", lambda: ladder_runs(api, job_id))
    worker = fragile_instance.find("cli", "worker")
    valkey = fragile_instance.find("valkey-server") or fragile_instance.find("valkey")
    assert worker is not None
    assert valkey is not None
    for dump in (fragile_instance.data_dir / "valkey").rglob("*.rdb"):
        dump.unlink()
    valkey.send_signal(signal.SIGKILL)
    second, second_job = api.upload(clips.make("h264.mp4", seconds=8))
    assert second
    for waited in (job_id, second_job):
        job = api.wait_for_job(waited, deadline_s=180)
        assert job["state"] == "succeeded", job
        assert {s["attempt"] for s in job["steps"]} == {1}, job  # type: ignore[union-attr, attr-defined]
    assert worker.is_running(), "the worker did not outlive its Redis"


def test_killed_supervisor_leaves_no_process_and_starts_again(fragile_instance: Instance, clips: Clips) -> None:
    api = fragile_instance.api()
    _, job_id = api.upload(clips.make("h264.mp4", seconds=8))
    family = fragile_instance.family()
    fragile_instance.process.kill()
    fragile_instance.process.wait(10)
    wait_for("everything ended with it", lambda: not any(p.is_running() and p.status() != "zombie" for p in family), 30)
    from tests.e2e.conftest import start_instance, stop_instance

    again = start_instance(fragile_instance.data_dir)
    try:
        assert again.api().wait_for_job(job_id, deadline_s=120)["state"] == "succeeded"
        second = again.echoctl("up", check=False)
        assert second.returncode != 0
        assert str(again.process.pid) in second.stderr + second.stdout
    finally:
        stop_instance(again)
