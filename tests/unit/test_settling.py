"""What a step may leave behind in the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from echo_core.application import settling
from echo_core.application.settling import Failed, bounded, failure, waiting
from echo_core.domain.ids import UserId, VideoId, new_video_id
from echo_core.domain.jobs import JobKind, Step
from echo_core.plugin_api.errors import InvalidRequestError, ProviderError, RateLimitedError, UnavailableError
from echo_core.plugin_api.steps import ArtefactFile, StepResult
from tests.fakes.api import PIPELINE

LONG = "x" * 100_000


def step() -> Step:
    job = PIPELINE.new_job(
        JobKind.PROCESS,
        video_id=VideoId(new_video_id()),
        owner_id=UserId(new_video_id()),
        now=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return job.steps[0]


def test_sentences_and_log_lines_of_a_failure_are_cut() -> None:
    error = ProviderError(LONG, code=LONG, remedy=LONG, log_tail=[LONG] * 500)
    outcome = failure(step(), error)
    assert isinstance(outcome, Failed)
    told = outcome.error
    assert len(told.message) == len(told.remedy) == settling.MAX_SENTENCE_CHARS
    assert len(told.code) == settling.MAX_CODE_CHARS
    assert len(told.log_tail) == settling.LOG_TAIL_LINES
    assert {len(line) for line in told.log_tail} == {settling.MAX_LINE_CHARS}


def waited_for(seconds: float) -> Step:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return replace(step(), started_at=now, waiting_since=now - timedelta(seconds=seconds))


@pytest.mark.parametrize(("waited_s", "least_s", "most_s"), [(0, 10, 12), (300, 30, 36), (1e5, 50, 60)])
def test_the_longer_the_storage_is_away_the_rarer_it_is_asked(waited_s: float, least_s: float, most_s: float) -> None:
    away = UnavailableError("The bucket does not answer.", code="bucket_away")
    for _ in range(20):
        outcome = waiting(waited_for(waited_s), away, away)
        assert least_s <= outcome.retry_in_s <= most_s
    assert outcome.error.code == "bucket_away"
    assert outcome.reason.code == "waiting_for_storage"
    assert "The bucket does not answer." in outcome.reason.message


def test_storage_that_says_when_is_not_asked_earlier() -> None:
    away = RateLimitedError("Too many requests.", retry_after_s=120.0)
    assert waiting(step(), away, away).retry_in_s == 120.0


def test_warnings_are_cut_and_counted() -> None:
    result = bounded(StepResult(warnings=[LONG] * 100, skipped_reason=LONG))
    assert len(result.warnings) == settling.MAX_WARNINGS
    assert {len(warning) for warning in result.warnings} == {settling.MAX_SENTENCE_CHARS}
    assert len(result.skipped_reason) == settling.MAX_SENTENCE_CHARS


def test_output_over_its_bound_fails_the_step() -> None:
    fits = {"text": "x" * (settling.MAX_OUTPUT_BYTES - 20)}
    assert bounded(StepResult(output=fits)).output == fits
    with pytest.raises(InvalidRequestError) as refused:
        bounded(StepResult(output={"text": "x" * settling.MAX_OUTPUT_BYTES}))
    assert refused.value.code == "step_output_too_large"
    assert not refused.value.retryable


def test_artefacts_are_counted() -> None:
    one = ArtefactFile(kind="k", name="n", path=Path("/none"), content_type="a/b")
    many = [replace(one, name=str(number)) for number in range(settling.MAX_ARTEFACTS + 1)]
    assert len(bounded(StepResult(artefacts=many[:-1])).artefacts) == settling.MAX_ARTEFACTS
    with pytest.raises(InvalidRequestError):
        bounded(StepResult(artefacts=many))
