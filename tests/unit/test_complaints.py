"""What users of such systems suffer (docs/complaints.md): each complaint has tests that are named for it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_core.domain.errors import IllegalChangeError
from echo_core.domain.jobs import Job, StepState
from tests.unit.marks import ROOT, listed, marked
from tests.unit.test_jobs import ERROR, NOW, new_job, run

TABLE = ROOT / "docs" / "complaints.md"
COMPLAINTS = {*range(1, 14), *range(20, 26), 30}


def test_each_complaint_has_a_test_named_for_it() -> None:
    assert set(marked("complaint")) == COMPLAINTS


def test_the_table_lists_these_tests_and_no_others() -> None:
    assert listed(TABLE) == marked("complaint")


# --- 1: stuck for ever --------------------------------------------------------------------------------------------

OUTCOMES = ("succeed", "skip", "fail", "fail for now", "release", "lose the worker", "nobody can", "cancel")


def _happen(job: Job, choice: int, outcome: str) -> Job:
    """One thing that becomes of one step."""
    queued = [step.name for step in job.steps if step.state is StepState.QUEUED]
    if outcome == "cancel" or not queued:
        return job if job.state.finished else job.cancel(NOW)
    name = queued[choice % len(queued)]
    if outcome == "nobody can":
        return job.unprovided(job.step_named(name).id, now=NOW)
    job, step = run(job, name)
    match outcome:
        case "succeed":
            return job.succeeded(step.id, step.lease_token, now=NOW, output={})
        case "skip":
            return job.skipped(step.id, step.lease_token, now=NOW, reason="nothing to do")
        case "fail":
            return job.failed(step.id, step.lease_token, now=NOW, error=ERROR, retry_in_s=None)
        case "fail for now":
            return job.failed(step.id, step.lease_token, now=NOW, error=ERROR, retry_in_s=1.0)
        case "release":
            return job.released(step.id, step.lease_token, now=NOW)
        case _:
            return job.lease_expired(step.id, now=NOW + timedelta(hours=1))


@pytest.mark.complaint(1)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(OUTCOMES)), max_size=30))
def test_whatever_became_of_a_job_it_can_be_made_to_go_on(history: list[tuple[int, str]]) -> None:
    """By its owner, with what the API has; nobody ever needs SQL."""
    job = new_job()
    for choice, outcome in history:
        job = _happen(job, choice, outcome)
    if not job.state.finished:
        assert any(step.state in {StepState.QUEUED, StepState.RUNNING} for step in job.steps), "nothing can move it"
        with pytest.raises(IllegalChangeError):
            job.retried(NOW)
        job = job.cancel(NOW)
    assert job.state.finished
    again = job.retried(NOW)
    assert any(step.state is StepState.QUEUED for step in again.steps)
    while queued := [step.name for step in again.steps if step.state is StepState.QUEUED]:
        again, step = run(again, queued[0])
        again = again.succeeded(step.id, step.lease_token, now=NOW, output={})
    assert again.state == "succeeded"
