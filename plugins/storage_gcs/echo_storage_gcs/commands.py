"""``echoctl gcs``: what a bucket has to permit, shown and set."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from echo_core.plugin_api import AuthError, PluginContext, PreconditionFailedError
from echo_storage_gcs.config import GcsConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.auth.credentials import Credentials
    from google.cloud.storage import Bucket

    from echo_storage_gcs.calls import Calls
    from echo_storage_gcs.setting_up import Plan, Rule

ERRORS_AS_JSON = "echo.json"
"""In the context's ``meta``: see ``CommandsSpec``."""
app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def gcs() -> None:
    """Google Cloud Storage: prepare the bucket."""


@app.command()
def setup(
    context: typer.Context,
    apply: Annotated[
        bool, typer.Option("--apply", help="Change the bucket; otherwise only show what is missing.")
    ] = False,
    own_credentials: Annotated[
        bool,
        typer.Option(
            "--own-credentials",
            help="Read and change the bucket as whoever is signed in (gcloud auth application-default login), not as "
            "Echo's account, which need not be allowed to.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what the bucket lacks for Echo, and with --apply give it that.

    CORS, so that browsers may upload to it and play from it; lifecycle rules for what is left over; and, without
    changing them, the permissions of Echo's account. Rules that are there already stay. Ends with 1 when something is
    missing or could not be looked at.

    Example: [bold]echoctl gcs setup[/bold]

    Example: [bold]echoctl gcs setup --apply --own-credentials[/bold]
    """
    context.meta[ERRORS_AS_JSON] = as_json
    found: PluginContext = context.obj
    config = found.config_as(GcsConfig)
    with ExitStack() as stack:
        account, missing = _permissions(stack, config)
        plan, changed = _settings(stack, config, found.page_origins, apply=apply, own_credentials=own_credentials)
    done = plan is not None and (plan.is_done or changed)
    if as_json:
        typer.echo(json.dumps(_as_json(config, found.page_origins, plan, missing, changed=changed), indent=2))
    else:
        _show(config, found.page_origins, plan, changed=changed)
        _show_permissions(config, account, missing)
    if missing or not done:
        raise typer.Exit(1)


def _open(stack: ExitStack, config: GcsConfig, credentials: Credentials) -> tuple[Bucket, Calls]:
    from echo_storage_gcs.calls import Calls
    from echo_storage_gcs.client import open_client, open_session

    session = stack.enter_context(open_session(config, credentials))
    client = stack.enter_context(open_client(config, credentials, session))
    return client.bucket(config.bucket), Calls(config)  # for its patience: nothing here runs in threads


@contextmanager
def _googles_errors() -> Iterator[None]:
    from echo_storage_gcs.errors import from_google

    try:
        yield
    except Exception as error:
        raise from_google(error) from error


def _permissions(stack: ExitStack, config: GcsConfig) -> tuple[str, list[str]]:
    """(Echo's account, what it may not do with objects)."""
    from echo_storage_gcs.client import load_credentials
    from echo_storage_gcs.setting_up import missing_permissions

    credentials = load_credentials(config)
    bucket, calls = _open(stack, config, credentials)
    with _googles_errors():
        missing = missing_permissions(bucket, calls)
    return str(getattr(credentials, "service_account_email", "") or "Echo's account"), missing


def _settings(
    stack: ExitStack, config: GcsConfig, origins: Sequence[str], *, apply: bool, own_credentials: bool
) -> tuple[Plan | None, bool]:
    """(the plan, or None where the settings may not be read; whether it was carried out)."""
    from echo_storage_gcs import setting_up
    from echo_storage_gcs.client import load_credentials, load_own_credentials

    credentials = load_own_credentials() if own_credentials else load_credentials(config)
    bucket, calls = _open(stack, config, credentials)
    try:
        with _googles_errors():
            plan = setting_up.look(bucket, origins, calls)
            changed = apply and not plan.is_done
            if changed:
                setting_up.apply(bucket, plan, calls)
    except PreconditionFailedError as error:
        error.message, error.remedy = "Somebody else changed the bucket's settings meanwhile.", "Run it again."
        raise
    except AuthError as error:
        if not apply and not own_credentials:
            return None, False  # it need not be allowed to
        who = "the one who is signed in" if own_credentials else "Echo's account"
        error.remedy = (
            f"It is {who} that may not do this: run it as somebody who may change the bucket (roles/storage.admin; "
            "gcloud auth application-default login, then --own-credentials), or change the bucket by hand."
        )
        raise
    return plan, changed


def _as_json(
    config: GcsConfig, origins: Sequence[str], plan: Plan | None, missing: list[str], *, changed: bool
) -> dict[str, object]:
    from echo_storage_gcs.setting_up import wanted_cors, wanted_lifecycle

    known: dict[str, object] = {
        "cors": [wanted_cors(origins)],
        "lifecycle": {"rule": wanted_lifecycle()},
        "lacking": None,
    }
    if plan is not None:
        known = {
            "location": plan.location,
            "cors": plan.wanted_cors,
            "lifecycle": {"rule": plan.wanted_lifecycle},
            "lacking": plan.lacking,
            "versioning": plan.versioning,
            "softDeleteDays": plan.soft_delete_days,
            "publicAccessPrevented": not plan.public,
        }
    done = plan is not None and (plan.is_done or changed)
    return {
        "bucket": config.bucket,
        **known,
        "missingPermissions": missing,
        "changed": changed,
        "ok": done and not missing,
    }


def _show(config: GcsConfig, origins: Sequence[str], plan: Plan | None, *, changed: bool) -> None:
    from echo_storage_gcs.setting_up import wanted_cors, wanted_lifecycle

    if plan is None:
        typer.echo(f"Bucket {config.bucket}: Echo's account may not read its settings, and need not.")
        typer.echo("Run this with --own-credentials to see and change them. These rules it should have:")
        _show_rules(config, [wanted_cors(origins)], wanted_lifecycle())
        return
    typer.echo(f"Bucket {config.bucket}{f' in {plan.location}' if plan.location else ''}")
    for words in plan.lacking:
        typer.echo(f"  CORS: {words}")
    if plan.lifecycle != plan.wanted_lifecycle:
        typer.echo("  Lifecycle: the rules for what is left over are missing")
    if plan.versioning:
        typer.echo("  Note: versioning is on; what Echo deletes is kept and costs. Echo never overwrites an object.")
    if plan.soft_delete_days:
        typer.echo(f"  Note: what is deleted is kept, and costs, for {plan.soft_delete_days:g} days (soft delete).")
    if plan.public:
        typer.echo("  Note: public access is not ruled out; Echo needs none (--public-access-prevention).")
    if changed:
        typer.echo("Changed. Browsers may keep the old answer for an hour.")
    elif plan.is_done:
        typer.echo("Nothing has to be changed.")
    else:
        typer.echo("Run this again with --apply, or set these rules by hand:")
        _show_rules(config, plan.wanted_cors, plan.wanted_lifecycle)


def _show_rules(config: GcsConfig, cors: Sequence[Rule], lifecycle: Sequence[Rule]) -> None:
    typer.echo("\ncors.json:")
    typer.echo(json.dumps(cors, indent=2))
    typer.echo("\nlifecycle.json:")
    typer.echo(json.dumps({"rule": lifecycle}, indent=2))
    typer.echo(
        f"\ngcloud storage buckets update gs://{config.bucket} --cors-file=cors.json --lifecycle-file=lifecycle.json\n"
    )


def _show_permissions(config: GcsConfig, account: str, missing: list[str]) -> None:
    from echo_storage_gcs.examining import GRANT

    if not missing:
        typer.echo(f"{account} has the permissions that Echo needs.")
        return
    typer.echo(f"{account} lacks {', '.join(missing)}.")
    typer.echo(f"  {GRANT.format(bucket=config.bucket, account=account)}")
