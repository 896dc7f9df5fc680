"""What must be true after any sequence of faults, once everything runs again and is quiet."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2

from echo_core.adapters.reservations import LEDGER
from tests.e2e.api import NO_TLS
from tests.faults.cluster import Cluster, wait_for
from tests.faults.people import Person, Submission

QUIET_DEADLINE_S = 120.0
FINISHED = frozenset({"succeeded", "failed", "cancelled"})


def wait_until_quiet(cluster: Cluster) -> None:
    """Until no job goes on, purges included."""

    def quiet() -> bool:
        cluster.hurry()
        rows = cluster.sql("select count(*) from echo.jobs where state in ('queued', 'running')")
        return bool(rows[0][0] == 0)

    try:
        wait_for("lost: every job ends", quiet, QUIET_DEADLINE_S)
    except AssertionError as error:
        stuck = cluster.sql(
            "select j.kind, s.job_id, s.name, s.state, s.attempt, s.worker, s.lease_expires_at - clock_timestamp(), "
            "s.run_at - clock_timestamp() from echo.steps s join echo.jobs j on j.id = s.job_id "
            "where s.state in ('queued', 'running', 'pending') and j.state in ('queued', 'running') limit 20"
        )
        raise AssertionError(f"{error}: {stuck}") from None


def violations(cluster: Cluster, people: Sequence[Person]) -> list[str]:
    """Every broken promise as a sentence."""
    found: list[str] = []
    for person in people:
        found += person.troubles
        found += [f"an answer without a reason: {told}" for told in person.server_errors]
        found += _lost(cluster, person)
        found += _events(cluster, person)
    found += _doubled(cluster)
    found += _storage(cluster)
    found += _leaked(cluster)
    found += [f"died: {death}" for death in cluster.deaths()]
    return found


def leftovers_of(cluster: Cluster, people: Sequence[Person]) -> list[str]:
    """What is still there of people who have deleted everything."""
    owners = [person.api.user_id for person in people]
    found = [
        f"leaked: {number} rows of {table} after everything was deleted"
        for table in ("videos", "uploads", "jobs", "steps", "artefacts")
        if (number := cluster.sql(f"select count(*) from echo.{table} where owner_id = any(%s)", owners)[0][0])  # noqa: S608
    ]
    return found + _storage(cluster) + _leaked(cluster)


def _lost(cluster: Cluster, person: Person) -> list[str]:
    """Every accepted upload ends ready, or failed with a reason, or as its owner wanted."""
    found = []
    for submission in person.submissions:
        rows = cluster.sql(
            "select v.status, v.deleted_at, j.state, (select count(*) from echo.jobs x where x.video_id = v.id and "
            "x.kind = 'process') from echo.videos v join echo.jobs j on j.video_id = v.id and j.kind = 'process' "
            "where v.id = %s",
            submission.video_id,
        )
        if not rows:
            if not submission.deleted:
                found.append(f"lost: {submission.video_id} is gone")
            continue
        status, deleted_at, state, jobs = rows[0]
        if submission.deleted or deleted_at is not None:
            found.append(f"not removed: {submission.video_id} was deleted and is {status}")
        elif jobs != 1:
            found.append(f"doubled: {submission.video_id} has {jobs} jobs")
        elif status == "failed":
            found += _reasons(cluster, submission)
        elif status == "cancelled" and not submission.cancelled:
            found.append(f"{submission.video_id} was cancelled by nobody")
        elif submission.poison and status == "ready":
            found.append(f"{submission.video_id} is no video and yet ready")
        elif status not in {"ready", "cancelled"} or state not in FINISHED:
            found.append(f"lost: stuck, {submission.video_id} is {status}, its job {state}")
        elif status == "ready":
            found += _plays(person, submission)
    return found


def _reasons(cluster: Cluster, submission: Submission) -> list[str]:
    errors = cluster.sql(
        "select s.name, s.error from echo.steps s where s.job_id = %s and s.state = 'failed'", submission.job_id
    )
    if not errors or not all(error and error.get("code") and error.get("message") for _, error in errors):
        return [f"lost: failed without a reason: {submission.video_id}: {errors}"]
    if not submission.poison and any(e["code"] == "internal_error" for _, e in errors):
        return [f"failed for a reason of ours: {submission.video_id}: {errors}"]
    return []


def _plays(person: Person, submission: Submission) -> list[str]:
    details = person.api.http.get(f"/api/v1/videos/{submission.video_id}/details").json()
    url = details.get("playbackUrl")
    if not url:
        return [f"{submission.video_id} is ready and has no address to play"]
    master = httpx2.get(url, verify=NO_TLS)
    if master.status_code != 200 or "#EXTM3U" not in master.text:
        return [f"{submission.video_id}: {master.status_code} instead of a playlist"]
    media = [line for line in master.text.splitlines() if line and not line.startswith("#")]
    playlist = httpx2.get(str(httpx2.URL(url).join(media[0])), verify=NO_TLS)
    files = [line for line in playlist.text.splitlines() if line and not line.startswith("#")]
    if playlist.status_code != 200 or not files:
        return [f"{submission.video_id}: {playlist.status_code} for {media[0]}"]
    bytes_ = httpx2.get(
        str(playlist.url.join(files[0])), headers={"Range": "bytes=0-9"}, follow_redirects=True, verify=NO_TLS
    )
    return [] if bytes_.status_code == 206 else [f"{submission.video_id}: {bytes_.status_code} for its bytes"]


def _events(cluster: Cluster, person: Person) -> list[str]:
    numbers = [
        row[0]
        for row in cluster.sql(
            "select sequence from echo.events where owner_id = %s order by sequence", person.api.user_id
        )
    ]
    if numbers != list(range(1, len(numbers) + 1)):
        return [f"events of a user have gaps: {numbers}"]
    with contextlib.suppress(AssertionError):
        wait_for("the watcher has caught up", lambda: person.last_event >= len(numbers), 30)
    seen = [number for number, _ in person.events]
    return [] if seen == numbers else [f"{len(numbers)} events, but a watcher saw {seen}"]


def _doubled(cluster: Cluster) -> list[str]:
    """A step's results are those of one run."""
    rows = cluster.sql(
        "select a.video_id, a.step, array_agg(distinct a.lease_token), s.lease_token, s.state from echo.artefacts a "
        "join echo.jobs j on j.video_id = a.video_id and j.kind = 'process' "
        "join echo.steps s on s.job_id = j.id and s.name = a.step "
        "group by a.video_id, a.step, s.lease_token, s.state"
    )
    return [
        f"doubled: artefacts of {step} of {video_id} by the runs {tokens}, the last was {token}"
        for video_id, step, tokens, token, state in rows
        if len(tokens) != 1 or (state == "succeeded" and tokens != [token])
    ]


def _storage(cluster: Cluster) -> list[str]:
    """No object without a row, no row without its object."""
    named = dict(cluster.sql("select storage_key, size_bytes from echo.artefacts"))
    named |= dict(cluster.sql("select storage_key, size_bytes from echo.uploads where state = 'completed'"))
    root = cluster.data_dir / "objects" / "objects"
    stored = {str(folder.relative_to(root)).removesuffix("@"): folder for folder in root.rglob("*@")}
    begun = {key for (key,) in cluster.sql("select storage_key from echo.uploads where state = 'open'")}
    found = [f"leaked: the object {key} has no row" for key in stored.keys() - named.keys() - begun]
    for key, size in named.items():
        if key not in stored:
            found.append(f"lost: the row {key} has no object")
        elif (actual := _size(stored[key])) != size:
            found.append(f"{key} has {actual} bytes, its row says {size}")
    for name in ("staging", "trash"):
        found += [f"leaked: {path}" for path in (cluster.data_dir / "objects" / name).iterdir()]
    return found


def _size(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.iterdir() if path.name.startswith("data"))


def _leaked(cluster: Cluster) -> list[str]:
    """No lease, no process, no scratch file."""
    found = [
        f"leaked: {name} is {state} with a lease of {worker}"
        for name, state, worker in cluster.sql("select name, state, worker from echo.steps where state = 'running'")
    ]
    end = time.monotonic() + 10
    while (encoders := cluster.encoders()) and time.monotonic() < end:
        time.sleep(0.1)
    found += [f"leaked: process {encoder}" for encoder in encoders]
    while (scratch := _scratch(cluster)) and time.monotonic() < end:
        time.sleep(0.1)
    return found + scratch


def _scratch(cluster: Cluster) -> list[str]:
    alive = {f"-{worker.pid}-" for worker in cluster.workers if worker.runs}
    found = []
    for path in (cluster.data_dir / "scratch").iterdir():
        if path.name == LEDGER:
            continue
        if not any(pid in path.name for pid in alive):
            found.append(f"leaked: scratch of a dead worker, {path.name}")
        elif path.is_dir():
            found += [f"leaked: scratch file {inner}" for inner in path.rglob("*") if not inner.is_dir()]
    return found
