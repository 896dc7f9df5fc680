"""One cluster for all rows of the fault matrix. Each test gets it whole and must leave every promise kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, running_cluster
from tests.faults.invariants import violations, wait_until_quiet
from tests.faults.people import Person
from tests.faults.places import POINTS
from tests.faults.provider import Provider
from tests.faults.schedule import Media


@dataclass
class Scene:
    """A healthy cluster and one user of it, who watches."""

    cluster: Cluster
    media: Media
    person: Person
    provider: Provider
    crashes: list[str] = field(default_factory=list)

    def crash(self, name: str, point: str) -> None:
        """Whoever comes to this place of that step (or of the ``api``) first dies there."""
        assert point in {*POINTS, "committing", "committed"}
        self.crashes.append(f"{name}:{point}")
        path = self.cluster.control / f"crash-{len(self.crashes)}"
        path.write_text(self.crashes[-1])

    def upload(self, clip: Path | None = None) -> tuple[str, str]:
        """(video id, job id) of an accepted upload."""
        submission = self.person.upload(clip or self.media.clips[0])
        return submission.video_id, submission.job_id

    def step(self, job_id: str, name: str) -> dict[str, object]:
        """A step as its owner sees it."""
        steps = self.person.call("GET", f"/api/v1/videos/jobs/{job_id}").json()["steps"]
        found: dict[str, object] = next(step for step in steps if step["name"] == name)
        return found

    def attempts(self, job_id: str) -> dict[str, int]:
        """Attempts of each step that ran."""
        rows = self.cluster.sql("select name, attempt from echo.steps where job_id = %s", job_id)
        return {name: attempt for name, attempt in rows if attempt}

    def finished(self, job_id: str, deadline_s: float = 90) -> dict[str, object]:
        """The job once it has ended, without waiting out pauses before retries."""
        from tests.faults.cluster import wait_for

        def ended() -> bool:
            self.cluster.hurry()
            state = self.cluster.sql("select state from echo.jobs where id = %s", job_id)[0][0]
            return state in {"succeeded", "failed", "cancelled"}

        wait_for(f"job {job_id} ends", ended, deadline_s)
        found: dict[str, object] = self.person.call("GET", f"/api/v1/videos/jobs/{job_id}").json()
        return found


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    return Media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("cluster")
    with running_cluster(home, ECHO_PLUGINS__FAULT_PLUGIN__PROVIDER=provider.url) as cluster:
        yield cluster


Enter = Callable[[], Scene]


@pytest.fixture
def scene(shared_cluster: Cluster, media: Media, provider: Provider, request: pytest.FixtureRequest) -> Iterator[Scene]:
    cluster = shared_cluster
    cluster.heal()
    person = Person(cluster.user(request.node.name), media.clips, media.poison, random.Random(1), at_once=1)  # noqa: S311
    person.watch()
    try:
        yield Scene(cluster, media, person, provider)
        cluster.heal()
        wait_until_quiet(cluster)
        assert violations(cluster, [person]) == []
    finally:
        person.stop_watching()
