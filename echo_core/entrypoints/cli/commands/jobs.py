"""``echoctl jobs``: how far processing is, stopping it, and doing it again."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_core.entrypoints.cli.calls import ask, checked_id
from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import Connection
from echo_core.entrypoints.cli.options import (
    DEFAULT_EMAIL,
    EmailOption,
    JsonOption,
    TokenFileOption,
    TokenOption,
    UrlOption,
)
from echo_core.entrypoints.cli.output import console, plain, say, write_json
from echo_core.entrypoints.cli.problems import ApiError, CliError

if TYPE_CHECKING:
    from echo_core.entrypoints.cli.api import ApiClient

LOG_LINES = 15
"""Of a failed step's own log; the whole tail is in the JSON."""

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or its video's.", show_default=False)]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


def register(root: typer.Typer) -> None:
    """Mount the commands."""
    root.add_typer(app, name="jobs", help="Show, cancel and retry the processing of videos.", rich_help_panel="Videos")


@app.command()
def show(
    context: typer.Context,
    job: JobArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    email: EmailOption = DEFAULT_EMAIL,
    as_json: JsonOption = False,
) -> None:
    """Show a job with its steps, and why what failed has failed. Ends with 4 when the job has failed.

    Example: [bold]echoctl jobs show 0190a6f2-7c1e-7f54-8d2a-3b9d6c1f0e55[/bold]
    """
    found = ask(context, Connection(url, token, token_file, email), lambda api: _find(api, job))
    _tell(found, as_json=as_json)
    if found["state"] == "failed":
        raise typer.Exit(ExitCode.JOB_FAILED)


@app.command()
def cancel(
    context: typer.Context,
    job: JobArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    email: EmailOption = DEFAULT_EMAIL,
    as_json: JsonOption = False,
) -> None:
    """Stop a job: what waits ends at once, what runs within about a second.

    Example: [bold]echoctl jobs cancel 0190a6f2-7c1e-7f54-8d2a-3b9d6c1f0e55[/bold]
    """

    async def question(api: ApiClient) -> dict[str, Any]:
        return await _post(api, (await _find(api, job))["jobId"], "cancel", None)

    _tell(ask(context, Connection(url, token, token_file, email), question), as_json=as_json)


@app.command()
def retry(
    context: typer.Context,
    job: JobArgument,
    step: Annotated[
        str | None, typer.Option("--step", metavar="NAME", help="Only this step, and all that depends on it.")
    ] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    email: EmailOption = DEFAULT_EMAIL,
    as_json: JsonOption = False,
) -> None:
    """Run a finished job again: what failed or was cancelled; everything, if nothing did.

    Example: [bold]echoctl jobs retry 0190a6f2-7c1e-7f54-8d2a-3b9d6c1f0e55 --step ladder[/bold]
    """

    async def question(api: ApiClient) -> dict[str, Any]:
        return await _post(api, (await _find(api, job))["jobId"], "retry", {"step": step} if step else {})

    _tell(ask(context, Connection(url, token, token_file, email), question), as_json=as_json)


async def _find(api: ApiClient, text: str) -> dict[str, Any]:
    """The job of that id or, when there is none, of the video of that id."""
    wanted = checked_id(text)
    try:
        return await api.call(dict[str, Any], "GET", f"/videos/jobs/{wanted}")
    except ApiError as error:
        if error.status != 404:
            raise
    try:
        details = await api.call(dict[str, Any], "GET", f"/videos/{wanted}/details")
    except ApiError as error:
        if error.status != 404:
            raise
        raise CliError(
            "You have neither a job nor a video of that id.",
            code="not_found",
            remedy="'echoctl videos' lists your videos.",
            request_id=error.request_id,
        ) from error
    found = details.get("job")
    if not isinstance(found, dict):
        raise CliError(
            "This video has no job yet: its upload is not complete.",
            code="upload_incomplete",
            remedy="Run the upload again; it continues where it stopped.",
        )
    return found


async def _post(api: ApiClient, job_id: str, action: str, body: dict[str, object] | None) -> dict[str, Any]:
    return await api.call(
        dict[str, Any], "POST", f"/videos/jobs/{job_id}/{action}", body=body, idempotency_key=uuid.uuid4().hex
    )


def _tell(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(found)
        return
    import msgspec

    from echo_core.entrypoints.cli.contract import Job
    from echo_core.entrypoints.cli.views import job_table

    job = msgspec.convert(found, Job)
    out = console(stderr=False)
    out.print(job_table(job))
    for step in job.steps:
        if step.state == "failed" and step.error is not None and step.error.log_tail:
            say(f"\nThe end of the log of {plain(step.name)}:")
            for line in step.error.log_tail[-LOG_LINES:]:
                say(f"  {plain(line)}")
