"""Recording how a run of a step ended: one fenced transaction, repeated until the database has it."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
import structlog

from echo_core.application.job_changes import store_change
from echo_core.application.pipeline import Pipeline
from echo_core.application.ports import Claim, UnitOfWork, UnsweptStep, WorkerUnitsOfWork
from echo_core.application.running import StepRun, delete_objects
from echo_core.application.sweeping import Sweeper, unswept
from echo_core.application.transcoding import MEDIA
from echo_core.domain.artefacts import Artefact
from echo_core.domain.errors import LeaseLostError, UnknownEntityError
from echo_core.domain.jobs import Job, Step, StepError, StepState
from echo_core.plugin_api.errors import (
    EchoError,
    InsufficientStorageError,
    InvalidRequestError,
    RateLimitedError,
    UnavailableError,
)
from echo_core.plugin_api.steps import Resource, StepResult
from echo_core.plugin_api.storage import StorageBackend

log = structlog.get_logger("echo.engine")

SETTLE_TRIES = 60
SETTLE_MAX_DELAY_S = 2.0
"""Two minutes of an absent database; after that the lease has long run out and the step is done again."""
LOG_TAIL_LINES = 50
MAX_LINE_CHARS = 1000
MAX_SENTENCE_CHARS = 2000
MAX_WARNINGS = 20
MAX_ARTEFACTS = 1000
MAX_OUTPUT_BYTES = 1 << 20
"""Of a step's output as JSON: it is read with its job, every time. Segment times of six hours have 100 KiB."""
MAX_FURTHER = 100
"""Steps that one step may add: all of a job's are read with it, every time."""
MAX_CODE_CHARS = 64
WAITING_FOR_STORAGE = "waiting_for_storage"
WAITING_MIN_DELAY_S, WAITING_MAX_DELAY_S = 10.0, 50.0
"""Before a step asks again whether the storage is back, without the jitter that keeps many from asking at once."""
WAITING_SHARE = 0.1
"""Of the time for which it has waited already."""
MAX_DOUBLINGS = 30
"""Of the first delay. Every sensible ``max_delay_s`` lies far below, and a float does not bear much more than 1000."""


class StepTimeoutError(EchoError):
    """The step ran into its time limit."""

    default_code = "step_timeout"
    default_remedy = "Retry it when the machine is less busy, or give the worker more processors."


class StepMetrics(Protocol):
    """Counts what became of runs."""

    async def step_ended(self, *, step: str, resource: Resource, outcome: str, code: str, seconds: float) -> None:
        """``outcome``: a step state, or ``retried``, ``waiting``, ``released``, ``lost``, ``gone``. Never raises."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned; ``rows`` are stored and not yet recorded."""

    result: StepResult
    rows: Sequence[Artefact]


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised. ``retry_in_s`` None: never again by itself."""

    error: StepError
    retry_in_s: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The storage was away: nothing is wrong with the step. ``reason`` is shown meanwhile; ``error`` is what it fails
    with when it has waited for too long."""

    reason: StepError
    error: StepError
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The owner did not want it any more."""


@dataclass(frozen=True, slots=True)
class Released:
    """This worker shuts down."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Another worker owns the step, or may: nothing is written."""


Outcome = Succeeded | Failed | Waiting | Cancelled | Released | Lost


def failure(step: Step, error: Exception) -> Failed:
    """What an exception of a handler means for its step."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        error = InsufficientStorageError("The worker's scratch disk is full.")
    if not isinstance(error, EchoError):
        log.error("step.crashed", exc_info=error)
        return Failed(
            StepError(
                code="internal_error",
                message=f"The step {step.name} ({step.plugin}) failed unexpectedly: {type(error).__name__}.",
                remedy="Look at the worker's log; it has the details under this job's id.",
            ),
            None,
        )
    log.warning("step.failed", code=error.code, error=error.message)
    described = StepError(
        code=error.code[:MAX_CODE_CHARS],
        message=shortened(error.message, MAX_SENTENCE_CHARS),
        remedy=shortened(error.remedy, MAX_SENTENCE_CHARS),
        log_tail=tuple(shortened(line, MAX_LINE_CHARS) for line in error.log_tail[-LOG_TAIL_LINES:]),
    )
    return Failed(described, retry_delay_s(step, error) if error.retryable else None)


def waiting(step: Step, error: Exception, away: UnavailableError | RateLimitedError) -> Waiting:
    """What it means for a step that it has failed with ``error`` because the storage was ``away``."""
    failed = failure(step, error)
    waited = step.started_at - step.waiting_since if step.started_at and step.waiting_since else timedelta(0)
    delay_s = min(WAITING_MAX_DELAY_S, max(WAITING_MIN_DELAY_S, waited.total_seconds() * WAITING_SHARE))
    delay_s *= random.uniform(1.0, 1.2)  # noqa: S311 - jitter, not a secret
    if isinstance(away, RateLimitedError) and away.retry_after_s is not None:
        delay_s = max(delay_s, min(away.retry_after_s, step.max_delay_s))
    reason = StepError(
        code=WAITING_FOR_STORAGE,
        message=shortened(f"Waits for the storage: {away.message}", MAX_SENTENCE_CHARS),
        remedy="It goes on by itself when the storage is back; no attempt is counted.",
    )
    return Waiting(reason, failed.error, delay_s)


def bounded(result: StepResult) -> StepResult:
    """What a step leaves, its sentences cut to a length. Raises ``InvalidRequestError`` (``step_output_too_large``) for
    what cannot be cut."""
    size_bytes = len(msgspec.json.encode(result.output, enc_hook=str))
    if len(result.further) > MAX_FURTHER:
        raise InvalidRequestError(
            f"The step wants to add {len(result.further)} steps; {MAX_FURTHER} are the most.",
            code="step_output_too_large",
            remedy="Its plugin should make fewer and larger ones; tell its author.",
        )
    if size_bytes > MAX_OUTPUT_BYTES or len(result.artefacts) > MAX_ARTEFACTS:
        raise InvalidRequestError(
            f"The step returned {size_bytes} bytes of output and {len(result.artefacts)} artefacts; "
            f"{MAX_OUTPUT_BYTES} and {MAX_ARTEFACTS} are the most.",
            code="step_output_too_large",
            remedy="Its plugin should store large results as artefacts; tell its author.",
        )
    return replace(
        result,
        skipped_reason=shortened(result.skipped_reason, MAX_SENTENCE_CHARS),
        warnings=tuple(shortened(warning, MAX_SENTENCE_CHARS) for warning in result.warnings[:MAX_WARNINGS]),
    )


def shortened(text: str, max_chars: int) -> str:
    """The text, at most so long."""
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"


def retry_delay_s(step: Step, error: EchoError) -> float:
    """Exponential with full jitter, or what the provider asked for."""
    if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
        return min(error.retry_after_s, step.max_delay_s)
    ceiling = min(step.max_delay_s, step.first_delay_s * 2.0 ** min(step.attempt - 1, MAX_DOUBLINGS))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


class Settler:
    """Writes outcomes."""

    def __init__(
        self,
        *,
        units_of_work: WorkerUnitsOfWork,
        storage: StorageBackend,
        metrics: StepMetrics,
        sweeper: Sweeper,
        pipeline: Pipeline,
    ) -> None:
        self._units_of_work = units_of_work
        self._storage = storage
        self._metrics = metrics
        self._sweeper = sweeper
        self._pipeline = pipeline

    async def settle(self, claim: Claim, outcome: Outcome, run: StepRun | None, *, seconds: float) -> Job | None:
        """Record an outcome; the job as it is then, or None: a lost lease records nothing and is no error."""
        step = claim.job.step(claim.step_id)
        name, code = "lost", ""
        job: Job | None = None
        if not isinstance(outcome, Lost):
            try:
                job = await self._record(claim, outcome, _leaves_objects(outcome, run))
            except LeaseLostError:
                log.warning("step.outcome_refused")
            except UnknownEntityError:
                # The video is gone: removed by its owner, or by this very run, when it was the purge.
                name = "succeeded" if isinstance(outcome, Succeeded) else "gone"
            except UnavailableError:
                raise
            except Exception as error:
                if not isinstance(outcome, Succeeded):
                    raise
                # What the step returned cannot be stored, and could not be after another run either.
                return await self.settle(claim, failure(step, error), run, seconds=seconds)
            else:
                ended = job.step(claim.step_id)
                name, code = _outcome_name(outcome, ended), ended.error.code if ended.error else ""
                if isinstance(outcome, Succeeded) and run is not None:
                    run.recorded(outcome.rows)
                if (left := unswept(job, claim.step_id)) is not None:
                    await self._sweep(left)
        log.info("step.ended", outcome=name, code=code or None, seconds=round(seconds, 3))
        await self._metrics.step_ended(step=step.spec, resource=step.resource, outcome=name, code=code, seconds=seconds)
        return job

    async def _sweep(self, left: UnsweptStep) -> None:
        try:
            await self._sweeper.sweep(left)
        except Exception:
            # The outcome stands, whatever the storage says; a reconciler sweeps later.
            log.warning("storage.sweep_delayed", exc_info=True)

    async def _record(self, claim: Claim, outcome: Outcome, leaves_objects: bool) -> Job:
        delay_s = 0.05
        for _ in range(SETTLE_TRIES):
            try:
                return await self._record_once(claim, outcome, leaves_objects)
            except UnavailableError as error:
                log.warning("step.settle_delayed", error=error.message)
                await asyncio.sleep(delay_s)
                delay_s = min(SETTLE_MAX_DELAY_S, delay_s * 2)
        return await self._record_once(claim, outcome, leaves_objects)

    async def _record_once(self, claim: Claim, outcome: Outcome, leaves_objects: bool) -> Job:
        obsolete: list[str] = []
        async with self._units_of_work.for_worker() as uow:
            before = await uow.jobs.get_of_step(claim.step_id, for_update=True)
            if _is_recorded(before.step(claim.step_id), claim, outcome):
                return before
            now = await uow.jobs.now()
            grown = await self._with_further(uow, before, outcome)
            after = _changed(grown, claim, outcome, now, leaves_objects)
            if isinstance(outcome, Succeeded):
                step = before.step(claim.step_id)
                obsolete += await uow.artefacts.put(outcome.rows)
                obsolete += await uow.artefacts.remove_of_step(
                    before.video_id, step.name, except_token=claim.lease_token
                )
                if outcome.result.discards:
                    made_by = await uow.artefacts.remove_kinds(before.video_id, outcome.result.discards)
                    after = after.discarded(made_by)
                if MEDIA in step.produces and not outcome.result.skipped_reason:
                    after = await _with_media_facts(uow, after, outcome.result)
            after = await store_change(uow, before, after)
        if isinstance(outcome, Succeeded):
            await delete_objects(self._storage, obsolete)
        return after

    async def _with_further(self, uow: UnitOfWork, job: Job, outcome: Outcome) -> Job:
        if not isinstance(outcome, Succeeded) or not outcome.result.further:
            return job
        steps = self._pipeline.further_steps(outcome.result.further, position=max(s.position for s in job.steps) + 1)
        video = await uow.videos.get(job.video_id, deleted=True)
        return job.with_further(steps, media_duration_s=video.duration_s or 0.0)


def _is_recorded(step: Step, claim: Claim, outcome: Outcome) -> bool:
    """Whether an earlier try was committed and only its answer was lost."""
    done = step.state in {StepState.SUCCEEDED, StepState.SKIPPED}
    return isinstance(outcome, Succeeded) and done and step.lease_token == claim.lease_token


def _leaves_objects(outcome: Outcome, run: StepRun | None) -> bool:
    """Whether objects of this run would stay without a name if its worker died right after the commit."""
    if run is None or not isinstance(outcome, Succeeded):
        return False
    return not {row.storage_key for row in outcome.rows}.issuperset(run.unrecorded)


def _changed(job: Job, claim: Claim, outcome: Outcome, now: datetime, leaves_objects: bool) -> Job:
    step_id, token = claim.step_id, claim.lease_token
    match outcome:
        case Succeeded(result=result) if result.skipped_reason:
            return job.skipped(step_id, token, now=now, reason=result.skipped_reason, leaves_objects=leaves_objects)
        case Succeeded(result=result):
            return job.succeeded(
                step_id,
                token,
                now=now,
                output=result.output,
                warnings=tuple(result.warnings),
                leaves_objects=leaves_objects,
            )
        case Failed(error=error, retry_in_s=retry_in_s):
            return job.failed(step_id, token, now=now, error=error, retry_in_s=retry_in_s)
        case Waiting(reason=reason, error=error, retry_in_s=retry_in_s):
            return job.waited(step_id, token, now=now, reason=reason, error=error, retry_in_s=retry_in_s)
        case Cancelled():
            return job.cancelled(step_id, token, now=now)
        case Released():
            return job.released(step_id, token, now=now)
        case Lost():
            raise LeaseLostError("The lease was lost.")


async def _with_media_facts(uow: UnitOfWork, job: Job, result: StepResult) -> Job:
    """Let the video know its duration and size, and the job what to expect of its steps."""
    facts = result.output
    duration_s = float(str(facts.get("duration_s") or 0.0))
    picture = facts.get("video")
    width = height = None
    if isinstance(picture, dict):
        width, height = int(picture["width"]), int(picture["height"])
    video = await uow.videos.get(job.video_id, for_update=True, deleted=True)
    await uow.videos.save(replace(video, duration_s=duration_s, width=width, height=height))
    return job.with_expectations(duration_s, (await uow.jobs.learned_rates()).work_per_media_s)


def _outcome_name(outcome: Outcome, ended: Step) -> str:
    if isinstance(outcome, Released):
        return "released"
    if ended.state is not StepState.QUEUED:
        return str(ended.state)
    is_waiting = ended.error is not None and ended.error.code == WAITING_FOR_STORAGE
    return "waiting" if is_waiting else "retried"
