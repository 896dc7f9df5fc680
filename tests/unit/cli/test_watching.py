"""Following a job: live where the WebSocket works, by asking where it does not."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from echo_core.entrypoints.cli.api import ApiClient, open_http
from echo_core.entrypoints.cli.backoff import Backoff
from echo_core.entrypoints.cli.contract import Job
from echo_core.entrypoints.cli.instance import FixedToken, Target
from echo_core.entrypoints.cli.problems import ApiError
from echo_core.entrypoints.cli.watching import Watcher, WatchPace

JOB_ID = "0190a6f2-0000-7000-8000-00000000000a"
NEVER_S = 3600.0


class Seen:
    def __init__(self) -> None:
        self.jobs: list[tuple[str, float, bool]] = []
        self.notes: list[str] = []
        self.steps: dict[tuple[str, float], str] = {}

    def job(self, job: Job, *, live: bool) -> None:
        self.steps |= {(step.name, step.percent): step.state for step in job.steps}
        self.jobs.append((job.state, job.percent, live))

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def running(echo: Any) -> Any:
    """A server with one job; its state is what tests put into ``jobs``."""
    from types import SimpleNamespace

    echo.videos["v"] = SimpleNamespace(id="0190a6f2-0000-7000-8000-00000000000b", job_id=JOB_ID)
    return echo


def facts(state: str, percent: float = 0.0, **more: Any) -> dict[str, Any]:
    steps = [{"name": "ladder", "state": "running" if state == "running" else state, "percent": percent}]
    return {"state": state, "percent": percent, "steps": steps, **more}


async def watch(
    echo: Any, *, polling_s: float = NEVER_S, live_s: float = NEVER_S, tokens: Any = None
) -> tuple[Job, Seen]:
    seen = Seen()

    async def at_once(_: float) -> None:
        return None

    pace = WatchPace(polling_s=polling_s, live_s=live_s, reconnect=Backoff(sleep=at_once), away=Backoff(sleep=at_once))
    async with open_http(echo.url) as client:
        api = ApiClient(Target(echo.url, tokens or FixedToken(next(iter(echo.tokens)))), client)
        return await Watcher(api, JOB_ID, seen, pace=pace).run(), seen


async def test_finished_job_is_told_once(running: Any) -> None:
    running.jobs[0] = facts("succeeded", 100.0)
    job, seen = await watch(running)
    assert job.state == "succeeded"
    assert len(seen.jobs) == 1


async def test_event_makes_the_job_be_read_again(running: Any) -> None:
    """Nothing but the WebSocket can end this: the next poll is an hour away."""
    running.jobs[0] = facts("running")
    running.frames += [{"id": 7, "type": "step.succeeded", "jobId": JOB_ID}, running.finish_job]
    running.frames += [{"id": 8, "type": "job.succeeded", "jobId": JOB_ID}]
    job, _ = await watch(running)
    assert job.state == "succeeded"


async def test_reconnect_says_what_was_seen_last(running: Any) -> None:
    running.jobs[0] = facts("running")

    def finish_on_the_second() -> None:
        if len(running.hellos) > 1:
            running.finish_job()

    running.frames += [{"id": 41, "type": "step.running", "jobId": "another"}, finish_on_the_second]
    running.frames += [{"id": 42, "type": "job.succeeded", "jobId": JOB_ID}]
    running.closes.append(4008)
    await watch(running)
    assert "lastEventId" not in running.hellos[0]
    assert running.hellos[1]["lastEventId"] == 42


async def test_progress_is_shown_without_asking(running: Any) -> None:
    running.jobs[0] = facts("running", 10.0)
    progress = {"type": "job.progress", "jobId": JOB_ID, "step": "ladder", "progress": 30.0, "stepProgress": 31.0}
    running.frames += [running.second_read.wait, {**progress, "etaSeconds": 5.0}, running.finish_job]
    running.frames += [{"id": 3, "type": "job.succeeded", "jobId": JOB_ID}]
    _, seen = await watch(running)
    assert ("running", 30.0, True) in seen.jobs
    assert seen.steps[("ladder", 31.0)] == "running"


async def test_without_a_websocket_the_job_is_polled(running: Any) -> None:
    running.jobs.clear()
    running.jobs.extend([facts("queued", queuePosition=2), facts("running", 50.0), facts("succeeded", 100.0)])
    running.closes.append(4403)
    job, _seen = await watch(running, polling_s=0.01, live_s=0.01)
    assert job.state == "succeeded"


async def test_server_that_restarts_for_two_minutes_is_waited_for(running: Any) -> None:
    running.away = Backoff().max_tries - 1
    job, _seen = await watch(running)
    assert job.state == "succeeded"


async def test_server_that_does_not_come_back_ends_the_watch(running: Any) -> None:
    running.away = Backoff().max_tries
    with pytest.raises(ApiError) as raised:
        await watch(running)
    assert raised.value.code == "database_unavailable"


async def test_refused_websocket_is_not_tried_again(running: Any) -> None:
    good = next(iter(running.tokens))
    running.jobs = deque([facts("running")] * 8 + [facts("succeeded")])

    class ForHttpOnly:
        """A token that the WebSocket refuses and that cannot be renewed."""

        async def current(self) -> str:
            return good

        async def renew(self) -> bool:
            return False

    running.closes.extend([4401] * 50)
    _, seen = await watch(running, polling_s=0.01, live_s=0.01, tokens=ForHttpOnly())
    assert len(running.hellos) == 1
    assert any("refused" in note for note in seen.notes)


async def test_expired_token_is_renewed_for_the_websocket(running: Any) -> None:
    good = next(iter(running.tokens))

    class Renewable:
        def __init__(self) -> None:
            self.token = good[:-1] + "old"

        async def current(self) -> str:
            return self.token

        async def renew(self) -> bool:
            self.token = good
            return True

    running.jobs.clear()
    running.jobs.extend([facts("running"), facts("succeeded")])
    tokens = Renewable()
    job, _ = await watch(running, polling_s=0.05, live_s=0.05, tokens=tokens)
    assert job.state == "succeeded"
    assert tokens.token == good
