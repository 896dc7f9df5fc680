"""What a video's status is while its job goes on, and after it."""

from __future__ import annotations

from echo_core.domain.jobs import StepState
from echo_core.domain.statuses import video_status
from echo_core.domain.videos import VideoStatus
from tests.unit.test_jobs import NOW, new_job, run, succeed

REQUIRED = ("verify", "inspect", "package", "ladder")


def test_a_job_that_is_cancelled_before_all_that_is_required_is_done_leaves_a_cancelled_video() -> None:
    job = succeed(new_job(), "verify", "inspect").cancel(NOW)
    assert video_status(job, has_rendition=True) is VideoStatus.CANCELLED


def test_cancelling_what_was_optional_does_not_take_a_complete_video_back() -> None:
    job = succeed(new_job(), *REQUIRED)
    job, step = run(job, "poster")
    job = job.cancel(NOW).cancelled(step.id, step.lease_token, now=NOW)
    assert job.step_named("poster").state is StepState.CANCELLED
    assert video_status(job, has_rendition=True) is VideoStatus.READY
