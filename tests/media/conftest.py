"""One Echo that gets the whole corpus at once; each test waits for its clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Instance, start_instance, stop_instance
from tests.media.corpus import CLIPS, make_all

DEADLINE_S = 300.0


@dataclass(frozen=True)
class Processed:
    """What became of a clip."""

    video_id: str
    job: dict[str, object]
    details: dict[str, object]

    def step(self, name: str) -> dict[str, object]:
        """One step of the job."""
        steps: list[dict[str, object]] = self.job["steps"]  # type: ignore[assignment]
        return next(step for step in steps if step["name"] == name)

    @property
    def warnings(self) -> list[str]:
        """Of all steps."""
        steps: list[dict[str, object]] = self.job["steps"]  # type: ignore[assignment]
        return [str(warning) for step in steps for warning in step.get("warnings") or ()]  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def media_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    running = start_instance(
        tmp_path_factory.mktemp("echo-media"),
        ECHO_WORKER__CPU_SLOTS="2",
        ECHO_TRANSCODER__SHORT_SIDES="[144, 72]",
    )
    yield running
    stop_instance(running)


@pytest.fixture(scope="session")
def media_api(media_instance: Instance) -> Api:
    return media_instance.api("corpus@example.org")


@pytest.fixture(scope="session")
def processed(media_api: Api, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Processed]:
    """Ask for a clip by name."""
    paths: dict[str, Path] = make_all(tmp_path_factory.mktemp("corpus"))
    sent = {}
    for clip in CLIPS:
        path = paths[clip.name]
        sent[clip.name] = media_api.upload(path, filename=clip.filename or clip.name)

    def ask(name: str) -> Processed:
        video_id, job_id = sent[name]
        job = media_api.wait_for_job(job_id, deadline_s=DEADLINE_S)
        return Processed(video_id, job, media_api.details(video_id))

    return ask
