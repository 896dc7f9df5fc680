"""The job aggregate: every legal history keeps its invariants."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from echo_core.application.pipeline import Pipeline, PipelineError, RegisteredStep, ordered
from echo_core.application.processing import process_steps
from echo_core.application.purging import purge_steps
from echo_core.domain.errors import IllegalChangeError, LeaseLostError
from echo_core.domain.ids import UserId, new_video_id
from echo_core.domain.jobs import MOST_WAITING, WORKED, Job, JobKind, JobState, Step, StepError, StepState
from echo_core.domain.progress import Place, Rates, job_eta_s, job_percent

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = StepError(code="media_unreadable", message="The file cannot be read.")


PICTURES = ("subtitles", "preview", "storyboard", "poster")
"""Steps besides those that make something to play."""


def pipeline() -> Pipeline:
    steps = process_steps(max_duration_s=3600, segment_s=4, short_sides=(720, 360))
    return Pipeline.of(
        # Cutting adds steps; it has tests of its own.
        [RegisteredStep(plugin="kernel", spec=s) for s in steps if s.name != "split"],
        purge=tuple(RegisteredStep(plugin="kernel", spec=s) for s in purge_steps()),
    )


def new_job() -> Job:
    return pipeline().new_job(JobKind.PROCESS, video_id=new_video_id(), owner_id=UserId(new_video_id()), now=NOW)


def run(job: Job, name: str, *, now: datetime = NOW, lease_s: float = 15) -> tuple[Job, Step]:
    step = job.step_named(name)
    job = job.claimed(step.id, worker="w", now=now, lease_s=lease_s)
    return job, job.step(step.id)


def succeed(job: Job, *names: str) -> Job:
    for name in names:
        job, step = run(job, name)
        job = job.succeeded(step.id, step.lease_token, now=NOW, output={"done": name})
    return job


def states(job: Job) -> dict[str, str]:
    return {s.name: str(s.state) for s in job.steps}


def test_new_job_queues_only_what_needs_nothing() -> None:
    job = new_job()
    assert job.state is JobState.QUEUED
    assert [s.name for s in job.steps if s.state is StepState.QUEUED] == ["verify"]


def test_ladder_waits_for_package_but_not_for_its_success() -> None:
    job = succeed(new_job(), "verify", "inspect")
    assert states(job)["ladder"] == "pending"
    job, step = run(job, "package")
    job = job.skipped(step.id, step.lease_token, now=NOW, reason="The picture is not H.264.")
    assert states(job)["ladder"] == "queued"


def test_failed_requirement_skips_all_that_needed_it_and_fails_the_job() -> None:
    job, step = run(new_job(), "verify")
    job = job.failed(step.id, step.lease_token, now=NOW, error=ERROR, retry_in_s=None)
    assert job.state is JobState.FAILED
    assert job.first_error == ERROR
    assert set(states(job).values()) == {"failed", "skipped"}
    reasons = {step.name: step.skipped_reason for step in job.steps}
    assert reasons["inspect"] == "It works on what verify makes, and there is nothing."


@pytest.mark.complaint(6)
def test_failed_optional_step_leaves_the_job_succeeded() -> None:
    job = succeed(new_job(), "verify", "inspect", "package", "ladder", "subtitles", "preview", "storyboard")
    job, step = run(job, "poster")
    job = job.failed(step.id, step.lease_token, now=NOW, error=ERROR, retry_in_s=None)
    assert job.state is JobState.SUCCEEDED
    assert job_percent(job) == 100.0


def test_retryable_failure_is_queued_again_until_attempts_are_spent() -> None:
    job = new_job()
    for attempt in (1, 2, 3):
        job, step = run(job, "verify")
        assert step.attempt == attempt
        job = job.failed(step.id, step.lease_token, now=NOW, error=ERROR, retry_in_s=1.0)
    assert states(job)["verify"] == "failed"


def test_release_does_not_count_the_attempt() -> None:
    job = new_job()
    for _ in range(10):
        job, step = run(job, "verify")
        job = job.released(step.id, step.lease_token, now=NOW)
    assert job.step_named("verify").attempt == 0
    assert job.step_named("verify").lease_token == 10


REASON = replace(ERROR, code="waiting_for_storage")


def wait(job: Job, now: datetime) -> Job:
    job, step = run(job, "verify", now=now)
    return job.waited(step.id, step.lease_token, now=now, reason=REASON, error=ERROR, retry_in_s=60.0)


def test_waiting_for_the_storage_does_not_count_the_attempt_and_shows_why() -> None:
    job = new_job()
    for number in range(20):
        job = wait(job, NOW + timedelta(minutes=number))
    step = job.step_named("verify")
    assert (step.state, step.attempt, step.error, step.waiting_since) == (StepState.QUEUED, 0, REASON, NOW)
    assert step.run_at == NOW + timedelta(minutes=20)
    job, step = run(job, "verify")
    assert (step.attempt, step.error) == (1, None)


def test_step_that_has_waited_for_a_day_fails_as_any_other() -> None:
    job = wait(new_job(), NOW)
    job = wait(job, NOW + MOST_WAITING - timedelta(seconds=1))
    assert job.step_named("verify").attempt == 0
    for attempt in (1, 2):
        job = wait(job, NOW + MOST_WAITING)
        assert (job.step_named("verify").attempt, job.step_named("verify").error) == (attempt, ERROR)
    job = wait(job, NOW + MOST_WAITING)
    step = job.step_named("verify")
    assert (step.state, step.error, step.waiting_since) == (StepState.FAILED, ERROR, None)
    assert job.retried(NOW + 2 * MOST_WAITING).step_named("verify").waiting_since is None


@pytest.mark.parametrize("ending", ["waited", "released"])
@pytest.mark.parametrize("worked", [WORKED, WORKED - timedelta(seconds=1)])
def test_long_work_between_two_outages_is_no_waiting(ending: str, worked: timedelta) -> None:
    job, step = run(wait(new_job(), NOW), "verify")
    ends = NOW + worked
    if ending == "waited":
        job = job.waited(step.id, step.lease_token, now=ends, reason=REASON, error=ERROR, retry_in_s=60.0)
    else:
        job = job.released(step.id, step.lease_token, now=ends)
    since = {"waited": ends, "released": None}[ending] if worked >= WORKED else NOW
    assert job.step_named("verify").waiting_since == since
    expired, step = run(wait(new_job(), NOW), "verify")
    assert expired.lease_expired(step.id, now=ends).step_named("verify").waiting_since == (
        None if worked >= WORKED else NOW
    )


def test_what_fails_for_another_reason_waits_no_longer() -> None:
    job, step = run(wait(new_job(), NOW), "verify")
    job = job.failed(step.id, step.lease_token, now=NOW, error=ERROR, retry_in_s=1.0)
    assert job.step_named("verify").waiting_since is None
    assert wait(job, NOW + MOST_WAITING).step_named("verify").attempt == 1


def test_step_that_waited_and_was_cancelled_meanwhile_ends() -> None:
    job, step = run(new_job(), "verify")
    job = job.cancel(NOW).waited(step.id, step.lease_token, now=NOW, reason=REASON, error=ERROR, retry_in_s=1.0)
    assert states(job)["verify"] == "cancelled"


def test_stale_token_is_fenced() -> None:
    job, first = run(new_job(), "verify", lease_s=1)
    job = job.lease_expired(first.id, now=NOW + timedelta(seconds=2))
    job, second = run(job, "verify")
    assert second.lease_token == first.lease_token + 1
    with pytest.raises(LeaseLostError):
        job.succeeded(first.id, first.lease_token, now=NOW, output={})


def test_lease_that_holds_is_not_taken_back() -> None:
    job, step = run(new_job(), "verify")
    with pytest.raises(IllegalChangeError):
        job.lease_expired(step.id, now=NOW + timedelta(seconds=14))


def test_cancel_ends_waiting_steps_and_asks_running_ones() -> None:
    job, step = run(succeed(new_job(), "verify", "inspect"), "package")
    job = job.cancel(NOW)
    assert job.step(step.id).cancel_requested
    assert job.state is JobState.RUNNING
    job = job.cancelled(step.id, step.lease_token, now=NOW)
    assert job.state is JobState.CANCELLED
    with pytest.raises(IllegalChangeError, match="already cancelled"):
        job.cancel(NOW)


@pytest.mark.complaint(6)
def test_retry_of_one_step_runs_its_dependants_again_and_nothing_else() -> None:
    job = succeed(new_job(), "verify", "inspect", "package", "ladder", *PICTURES)
    job = job.retried(NOW, step_name="inspect")
    assert states(job)["verify"] == "succeeded"
    assert states(job)["inspect"] == "queued"
    assert {states(job)[n] for n in ("package", "ladder", *PICTURES)} == {"pending"}


def test_retry_of_a_job_without_failures_runs_everything() -> None:
    job = succeed(new_job(), "verify", "inspect", "package", "ladder", *PICTURES).retried(NOW)
    assert job.state is JobState.QUEUED
    assert states(job)["verify"] == "queued"


def test_retry_of_an_unfinished_job_is_refused() -> None:
    with pytest.raises(IllegalChangeError, match="still running"):
        new_job().retried(NOW)


def test_percent_never_reaches_100_before_the_end() -> None:
    job = succeed(new_job(), "verify", "inspect", "package", *PICTURES).with_expectations(60, {})
    job, _ = run(job, "ladder")
    assert 0 < job_percent(job) < 100
    assert job_eta_s(job, NOW + timedelta(seconds=8)) == 70.0


def place(work_before_s: float, *, slots: int = 1) -> Place:
    return Place(steps_before=None, work_before_s=work_before_s, slots=slots)


def test_remaining_time_includes_the_work_before_each_step_shared_by_the_slots_of_its_class() -> None:
    job = succeed(new_job(), "verify", "inspect", "package", *PICTURES).with_expectations(60, {"ladder": 2})
    ladder = job.step_named("ladder").id
    assert job_eta_s(job, NOW, {ladder: place(0.0)}) == 120.0
    assert job_eta_s(job, NOW, {ladder: place(300.0)}) == 420.0
    assert job_eta_s(job, NOW, {ladder: place(300.0, slots=3)}) == 220.0
    assert job_eta_s(job, NOW, {ladder: place(300.0, slots=3).after(50)}) == 170.0


def test_remaining_time_does_not_count_twice_what_is_waited_for_at_the_same_time() -> None:
    job = succeed(new_job(), "verify").with_expectations(10, {"inspect": 1, "package": 1, "ladder": 1, "poster": 0.1})
    steps = {step.name: step.id for step in job.steps}
    places = {steps["ladder"]: place(15.0), **{steps[n]: place(0.0) for n in ("inspect", "package", "poster")}}
    # The ladder waits for inspect and package, 20 s; the encodes before it are done after 15 of them.
    assert job_eta_s(job, NOW, places) == 30.0
    assert job_eta_s(job, NOW, {**places, steps["ladder"]: place(100.0)}) == 110.0


def test_remaining_time_is_unknown_while_no_worker_serves_a_class() -> None:
    job = succeed(new_job(), "verify", "inspect", "package", *PICTURES).with_expectations(60, {})
    assert job_eta_s(job, NOW, {job.step_named("ladder").id: place(0.0, slots=0)}) is None


def test_nothing_remains_of_a_job_whose_steps_have_all_ended() -> None:
    job = succeed(new_job(), *(step.name for step in new_job().steps))
    assert job_eta_s(replace(job, state=JobState.RUNNING), NOW) == 0.0


def test_remaining_time_includes_the_pause_before_another_attempt() -> None:
    job = succeed(new_job(), "verify", "inspect", "package", *PICTURES).with_expectations(10, {"ladder": 1})
    job, step = run(job, "ladder")
    job = job.failed(step.id, step.lease_token, now=NOW, error=ERROR, retry_in_s=40.0)
    assert job_eta_s(job, NOW, {step.id: place(5.0)}) == 50.0


def test_what_to_expect_of_an_unseen_file_comes_from_its_size() -> None:
    rates = Rates(work_per_media_s={"ladder": 2.0}, bytes_per_media_s=1000.0)
    assert rates.likely(new_job(), 30_000).step_named("ladder").expected_s == 60.0
    assert rates.likely(new_job(), 30_000).step_named("inspect").expected_s == pytest.approx(0.3)
    unseen = new_job()
    assert Rates().likely(unseen, 30_000) is unseen


def test_step_that_was_given_back_or_taken_back_keeps_its_place_among_its_owners() -> None:
    later = NOW + timedelta(seconds=20)
    for end in ("release", "expire", "retry"):
        job, step = run(new_job(), "verify")
        match end:
            case "release":
                job = job.released(step.id, step.lease_token, now=later)
            case "expire":
                job = job.lease_expired(step.id, now=later)
            case _:
                job = job.failed(step.id, step.lease_token, now=later, error=ERROR, retry_in_s=0.0)
        assert job.step(step.id).run_at == NOW


def test_remaining_time_is_unknown_before_the_length_of_the_media_is() -> None:
    job, _ = run(new_job(), "verify")
    assert job_eta_s(job, NOW + timedelta(seconds=1)) is None


def test_job_that_did_not_succeed_tells_how_far_it_came() -> None:
    job, step = run(new_job(), "verify")
    assert job_percent(job.failed(step.id, step.lease_token, now=NOW, error=ERROR, retry_in_s=None)) == 0.0
    half = succeed(new_job(), "verify", "inspect", "package").cancel(NOW)
    assert 0 < job_percent(half) < 10


def test_cancel_that_came_too_late_leaves_a_succeeded_job_at_100() -> None:
    job = succeed(new_job(), "verify", "inspect", "package", *PICTURES)
    job, step = run(job, "ladder")
    job = job.cancel(NOW).succeeded(step.id, step.lease_token, now=NOW, output={})
    assert job.state is JobState.SUCCEEDED
    assert job_percent(job) == 100.0


def test_retry_of_an_optional_step_does_not_make_a_cancelled_job_succeed() -> None:
    job = succeed(new_job(), "verify", "inspect").cancel(NOW).retried(NOW, step_name="poster")
    job = succeed(job, "poster")
    assert states(job)["ladder"] == "cancelled"
    assert job.state is JobState.CANCELLED


def test_retry_of_a_step_takes_along_those_that_never_made_its_inputs() -> None:
    job, verify = run(new_job(), "verify")
    job = job.failed(verify.id, verify.lease_token, now=NOW, error=ERROR, retry_in_s=None)
    assert states(job)["poster"] == "skipped"
    job = job.retried(NOW, step_name="poster")
    assert {states(job)[n] for n in ("verify", "inspect", "poster")} == {"queued", "pending"}
    job = succeed(job, "verify", "inspect", "poster")
    assert states(job)["poster"] == "succeeded"


def test_retry_of_a_step_leaves_alone_what_made_its_inputs() -> None:
    job = succeed(new_job(), "verify", "inspect", "package", "ladder", *PICTURES)
    job = job.retried(NOW, step_name="poster")
    assert {n for n, state in states(job).items() if state != "succeeded"} == {"poster"}


def test_retry_of_the_required_steps_makes_a_cancelled_job_succeed() -> None:
    job = succeed(new_job(), "verify", "inspect", "package").cancel(NOW).retried(NOW, step_name="ladder")
    job = succeed(job, "ladder")
    assert states(job)["poster"] == "cancelled"
    assert job.state is JobState.SUCCEEDED


def test_two_plugins_with_one_step_name_are_both_named() -> None:
    steps = [RegisteredStep(plugin=p, spec=purge_steps()[0]) for p in ("first", "second")]
    with pytest.raises(PipelineError, match=r"'first' and 'second'"):
        ordered(tuple(steps))


class JobMachine(RuleBasedStateMachine):
    """Workers, the reconciler and the owner do whatever they like; the aggregate stays sound."""

    @initialize()
    def begin(self) -> None:
        self.job = new_job()
        self.now = NOW
        self.tokens: dict[object, int] = {}

    def _pick(self, data: st.DataObject, state: StepState) -> Step | None:
        steps = [s for s in self.job.steps if s.state is state]
        return data.draw(st.sampled_from(steps)) if steps else None

    @rule(data=st.data(), lease_s=st.sampled_from([1, 15]))
    def claim(self, data: st.DataObject, lease_s: int) -> None:
        if (step := self._pick(data, StepState.QUEUED)) is not None:
            self.job = self.job.claimed(step.id, worker="w", now=self.now, lease_s=lease_s)

    @rule(data=st.data(), outcome=st.sampled_from(["succeed", "skip", "fail", "retry", "wait", "release", "cancelled"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        step = self._pick(data, StepState.RUNNING)
        if step is None:
            return
        token, now = step.lease_token, self.now
        match outcome:
            case "succeed":
                self.job = self.job.succeeded(step.id, token, now=now, output={})
            case "skip":
                self.job = self.job.skipped(step.id, token, now=now, reason="nothing to do")
            case "fail":
                self.job = self.job.failed(step.id, token, now=now, error=ERROR, retry_in_s=None)
            case "retry":
                self.job = self.job.failed(step.id, token, now=now, error=ERROR, retry_in_s=1.0)
            case "wait":
                self.job = self.job.waited(step.id, token, now=now, reason=ERROR, error=ERROR, retry_in_s=1.0)
            case "release":
                self.job = self.job.released(step.id, token, now=now)
            case _:
                self.job = self.job.cancelled(step.id, token, now=now)

    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        step = self._pick(data, StepState.RUNNING)
        self.now += timedelta(seconds=2)
        if step is not None and step.lease_expires_at is not None and step.lease_expires_at <= self.now:
            self.job = self.job.lease_expired(step.id, now=self.now)

    @precondition(lambda self: not self.job.state.finished)
    @rule()
    def cancel(self) -> None:
        self.job = self.job.cancel(self.now)

    @precondition(lambda self: self.job.state.finished)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        name = data.draw(st.none() | st.sampled_from([s.name for s in self.job.steps]))
        self.job = self.job.retried(self.now, step_name=name)

    @invariant()
    def an_unfinished_job_can_always_go_on(self) -> None:
        if not self.job.state.finished:
            assert any(s.state in {StepState.QUEUED, StepState.RUNNING} for s in self.job.steps)

    @invariant()
    def tokens_only_grow(self) -> None:
        for step in self.job.steps:
            assert step.lease_token >= self.tokens.get(step.id, 0)
            self.tokens[step.id] = step.lease_token

    @invariant()
    def nothing_runs_before_its_inputs_exist(self) -> None:
        products = {p for s in self.job.steps if s.state is StepState.SUCCEEDED for p in s.produces} | {"source"}
        for step in self.job.steps:
            if step.state in {StepState.QUEUED, StepState.RUNNING}:
                assert set(step.consumes) <= products

    @invariant()
    def a_lease_is_held_exactly_while_running(self) -> None:
        for step in self.job.steps:
            assert (step.lease_expires_at is not None) == (step.state is StepState.RUNNING)

    @invariant()
    def only_what_has_met_an_outage_waits_for_the_storage(self) -> None:
        for step in self.job.steps:
            if step.waiting_since is not None:
                assert step.state in {StepState.QUEUED, StepState.RUNNING}
                assert step.lease_token > 0

    @invariant()
    def a_succeeded_job_has_done_all_that_is_required(self) -> None:
        if self.job.state is JobState.SUCCEEDED:
            assert not [s for s in self.job.steps if not s.optional and s.state in {"failed", "cancelled"}]

    @invariant()
    def percent_is_in_range(self) -> None:
        assert 0.0 <= job_percent(self.job) <= 100.0


TestJobMachine = JobMachine.TestCase


@pytest.mark.parametrize(("elapsed_s", "remaining_s"), [(4, 16), (19.5, 2), (60, 40)])
def test_a_step_that_takes_longer_than_expected_is_not_about_to_end_for_ever(elapsed_s: float, remaining_s: float):
    job, step = run(new_job(), "verify")
    steps = tuple(replace(s, expected_s=20.0 if s.id == step.id else 0.01) for s in job.steps)
    eta_s = job_eta_s(replace(job, steps=steps), step.started_at + timedelta(seconds=elapsed_s))
    assert eta_s == pytest.approx(remaining_s, abs=0.5)
