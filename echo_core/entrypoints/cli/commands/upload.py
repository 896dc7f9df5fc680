"""``echoctl upload``: files to any instance, over its public contract alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import Connection, Target, resolve_target, subject_of
from echo_core.entrypoints.cli.options import (
    DEFAULT_EMAIL,
    EmailOption,
    JsonOption,
    TokenFileOption,
    TokenOption,
    UrlOption,
)
from echo_core.entrypoints.cli.output import console, say, say_problem, write, write_json
from echo_core.entrypoints.cli.problems import CliError, explained
from echo_core.entrypoints.cli.sources import SourceFile, source_file

if TYPE_CHECKING:
    import httpx2

    from echo_core.entrypoints.cli.api import ApiClient
    from echo_core.entrypoints.cli.contract import CompletedUpload, Job
    from echo_core.entrypoints.cli.records import OpenRecord, RecordStore
    from echo_core.entrypoints.cli.views import View

PANEL = "Videos"
STATE_HOME = Path("~/.local/state")
"""XDG Base Directory Specification: where state lies when ``XDG_STATE_HOME`` says nothing."""
FATAL_CODES = frozenset({"cannot_connect", "token_required", "token_invalid", "token_missing", "token_expired"})
"""With these every further file would fail the same way."""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(rich_help_panel=PANEL)(upload)


@dataclass
class Outcome:
    """How one file went."""

    path: Path
    video_id: str = ""
    job_id: str = ""
    status: str = ""
    playback_url: str | None = None
    error: CliError | None = None
    job_failed: bool = False

    def as_json(self) -> dict[str, object]:
        """The documented form."""
        return {
            "path": str(self.path),
            "ok": self.error is None,
            "videoId": self.video_id or None,
            "jobId": self.job_id or None,
            "status": self.status or None,
            "playbackUrl": self.playback_url,
            "error": self.error.as_json() if self.error is not None else None,
        }


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one command is to do."""

    target: Target
    records: RecordStore
    view: View
    watch: bool
    title: str | None
    outcomes: list[Outcome] = field(default_factory=list)


def upload(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Video or audio files.", show_default=False)],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the processing to its end.")] = False,
    title: Annotated[str | None, typer.Option("--title", help="Title of the video; only with one file.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    email: EmailOption = DEFAULT_EMAIL,
    state_dir: Annotated[
        Path,
        typer.Option(
            "--state-dir", envvar="XDG_STATE_HOME", metavar="DIR", help="Where interrupted uploads are remembered."
        ),
    ] = STATE_HOME,
    as_json: JsonOption = False,
) -> None:
    """Upload files, one after another.

    After Ctrl-C, a crash or a lost network, run the same command again: it continues where it stopped. Prints the
    video's id, or with --watch the address to play it. Ends with 4 when the processing of a file failed.

    Example: [bold]echoctl upload holiday.mp4 --watch[/bold]

    Example: [bold]echoctl upload *.mov --url https://video.example --token-file ~/.echo-token --json[/bold]
    """
    if title is not None and len(files) > 1:
        raise CliError("--title is for one file.", code="usage", exit_code=ExitCode.USAGE)
    outcomes = [_looked_at(path) for path in files]
    sources = [o for o in outcomes if isinstance(o, SourceFile)]
    refused = [o for o in outcomes if isinstance(o, Outcome)]
    if sources:
        done = _upload_all(context, Connection(url, token, token_file, email), sources, watch, title, state_dir)
        _tell(refused + done, as_json=as_json)
    else:
        _tell(refused, as_json=as_json)


def _looked_at(path: Path) -> SourceFile | Outcome:
    try:
        return source_file(path)
    except CliError as error:
        say_problem(error)
        return Outcome(path, error=error)


def _upload_all(
    context: typer.Context,
    connection: Connection,
    sources: Sequence[SourceFile],
    watch: bool,
    title: str | None,
    state_dir: Path,
) -> list[Outcome]:
    from echo_core.entrypoints.cli.records import RecordStore
    from echo_core.entrypoints.cli.views import open_view

    target = resolve_target(context, connection)
    records = RecordStore(state_dir.expanduser() / "echo" / "uploads")
    try:
        with open_view(console()) as view:
            batch = Batch(target=target, records=records, view=view, watch=watch, title=title)
            asyncio.run(_run(batch, sources))
    except KeyboardInterrupt:
        say("Stopped. Run the same command again to continue; nothing that was sent is lost.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    return batch.outcomes


async def _run(batch: Batch, sources: Sequence[SourceFile]) -> None:
    from echo_core.entrypoints.cli.api import ApiClient, open_http

    async with open_http(batch.target.url) as http:
        api = ApiClient(batch.target, http)
        for source in sources:
            outcome = await _one(batch, api, http, source)
            batch.outcomes.append(outcome)
            if outcome.error is not None and outcome.error.code in FATAL_CODES:
                batch.outcomes.extend(Outcome(s.path, error=outcome.error) for s in sources[len(batch.outcomes) :])
                return


async def _one(batch: Batch, api: ApiClient, http: httpx2.AsyncClient, source: SourceFile) -> Outcome:
    from echo_core.entrypoints.cli.records import UploadIdentity

    outcome = Outcome(source.path)
    batch.view.begin(source.path, source.size_bytes)
    try:
        account = subject_of(await batch.target.tokens.current())
        with batch.records.open(UploadIdentity(source=source, url=batch.target.url, account=account)) as remembered:
            completed = await _sent(batch, api, http, source, remembered)
            outcome.video_id, outcome.job_id, outcome.status = completed.video_id, completed.job_id, completed.status
            if batch.watch:
                await _watched(batch, api, outcome)
            remembered.remove()
    except Exception as error:
        problem = explained(error)
        if problem is None:
            raise
        outcome.error = problem
    batch.view.end()
    if outcome.error is not None:
        say_problem(outcome.error)
    return outcome


async def _sent(
    batch: Batch, api: ApiClient, http: httpx2.AsyncClient, source: SourceFile, remembered: OpenRecord
) -> CompletedUpload:
    from echo_core.entrypoints.cli.uploading import Uploader

    uploader = Uploader(api=api, http=http, source=source, remembered=remembered, view=batch.view, title=batch.title)
    return await uploader.run()


async def _watched(batch: Batch, api: ApiClient, outcome: Outcome) -> None:
    from echo_core.entrypoints.cli.contract import VideoDetails
    from echo_core.entrypoints.cli.watching import Watcher

    job = await Watcher(api, outcome.job_id, batch.view).run()
    details = await api.call(VideoDetails, "GET", f"/videos/{outcome.video_id}/details")
    outcome.status = details.status
    outcome.playback_url = api.absolute(details.playback_url) if details.playback_url else None
    if job.state != "succeeded":
        outcome.job_failed = True
        outcome.error = failure_of(job)


def failure_of(job: Job) -> CliError:
    """Why a finished job is not a success, with what to do."""
    if job.state == "cancelled":
        return CliError(
            "The processing was cancelled.",
            code="job_cancelled",
            remedy=f"Start it again with: echoctl jobs retry {job.job_id}",
            exit_code=ExitCode.JOB_FAILED,
        )
    reason = job.reason
    step = next((s.name for s in job.steps if s.state == "failed" and not s.optional), "")
    message = reason.message if reason is not None else "The processing failed."
    remedy = " ".join(
        part for part in ((reason.remedy if reason else ""), f"Try again with: echoctl jobs retry {job.job_id}") if part
    )
    return CliError(
        f"{step}: {message}" if step else message,
        code=reason.code if reason is not None else "job_failed",
        remedy=remedy,
        exit_code=ExitCode.JOB_FAILED,
    )


def _tell(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    failed = [o.error for o in outcomes if o.error is not None]
    succeeded = len(outcomes) - len(failed)
    if as_json:
        files = [outcome.as_json() for outcome in outcomes]
        write_json({"files": files, "succeeded": succeeded, "failed": len(failed)})
    else:
        for outcome in outcomes:
            if outcome.error is None:
                write(outcome.playback_url or outcome.video_id)
    if len(outcomes) > 1:
        say(f"{succeeded} ok, {len(failed)} failed.")
    if failed:
        codes = {error.exit_code for error in failed}
        raise typer.Exit(codes.pop() if len(codes) == 1 else ExitCode.FAILED)
