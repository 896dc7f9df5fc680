"""``echoctl gcs``: what a bucket has to permit, shown and set."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_core.plugin_api import AuthError, PluginContext
from echo_storage_gcs.config import GcsConfig

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

    from echo_storage_gcs.calls import Calls
    from echo_storage_gcs.setting_up import Plan

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
            help="Act as whoever is signed in (gcloud auth application-default login), not as Echo's account, which "
            "need not be allowed to change buckets.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what the bucket lacks for Echo, and with --apply give it that.

    CORS, so that browsers may upload to it and play from it; lifecycle rules for what is left over; and, without
    changing them, the permissions of the account. Rules that are there already stay. Ends with 1 when something is
    missing.

    Example: [bold]echoctl gcs setup[/bold]

    Example: [bold]echoctl gcs setup --apply --own-credentials[/bold]
    """
    found: PluginContext = context.obj
    config = found.config_as(GcsConfig)
    with ExitStack() as stack:
        bucket, calls = _open(stack, config, own_credentials=own_credentials)
        plan, missing, account = _look(bucket, calls, found)
        changed = apply and not plan.is_done
        if changed:
            _apply(bucket, plan, calls)
    if as_json:
        typer.echo(json.dumps(_as_json(config, plan, missing, changed=changed), indent=2))
    else:
        _show(config, plan, missing, account, changed=changed, own=own_credentials)
    if missing or not (plan.is_done or changed):
        raise typer.Exit(1)


def _open(stack: ExitStack, config: GcsConfig, *, own_credentials: bool) -> tuple[Bucket, Calls]:
    from pydantic import SecretStr

    from echo_storage_gcs.calls import Calls
    from echo_storage_gcs.client import load_credentials, open_client, open_session

    who = config.model_copy(update={"credentials": SecretStr("")}) if own_credentials else config
    credentials = load_credentials(who)
    calls = Calls(config)  # for its patience; nothing here runs in threads
    session = stack.enter_context(open_session(config, credentials))
    client = stack.enter_context(open_client(config, credentials, session))
    return client.bucket(config.bucket), calls


def _look(bucket: Bucket, calls: Calls, context: PluginContext) -> tuple[Plan, list[str], str]:
    from echo_storage_gcs import setting_up
    from echo_storage_gcs.errors import from_google

    try:
        plan = setting_up.look(bucket, context.page_origins, calls)
        missing = setting_up.missing_permissions(bucket, calls)
    except Exception as error:
        raise from_google(error) from error
    credentials: Any = bucket.client._credentials
    return plan, missing, str(getattr(credentials, "service_account_email", "") or "the account")


def _apply(bucket: Bucket, plan: Plan, calls: Calls) -> None:
    from echo_storage_gcs import setting_up
    from echo_storage_gcs.errors import from_google

    try:
        setting_up.apply(bucket, plan, calls)
    except Exception as error:
        mapped = from_google(error)
        if isinstance(mapped, AuthError):
            mapped.remedy = (
                "Run this with --own-credentials as somebody who may change the bucket, or change it by hand."
            )
        raise mapped from error


def _as_json(config: GcsConfig, plan: Plan, missing: list[str], *, changed: bool) -> dict[str, object]:
    return {
        "bucket": config.bucket,
        "location": plan.location,
        "cors": plan.wanted_cors,
        "lifecycle": {"rule": plan.wanted_lifecycle},
        "lacking": plan.lacking,
        "missingPermissions": missing,
        "versioning": plan.versioning,
        "softDeleteDays": plan.soft_delete_days,
        "publicAccessPrevented": not plan.public,
        "changed": changed,
        "ok": (plan.is_done or changed) and not missing,
    }


def _show(config: GcsConfig, plan: Plan, missing: list[str], account: str, *, changed: bool, own: bool) -> None:
    from echo_storage_gcs.examining import GRANT

    typer.echo(f"Bucket {config.bucket}{f' in {plan.location}' if plan.location else ''}")
    for words in plan.lacking:
        typer.echo(f"  CORS: {words}")
    if plan.lifecycle != plan.wanted_lifecycle:
        typer.echo("  Lifecycle: the rules for what is left over")
    if missing and not own:
        typer.echo(f"  Permissions: {account} lacks {', '.join(missing)}")
        typer.echo(f"    {GRANT.format(bucket=config.bucket, account=account)}")
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
        typer.echo("\nCORS (--cors-file):")
        typer.echo(json.dumps(plan.wanted_cors, indent=2))
        typer.echo("\nLifecycle (--lifecycle-file):")
        typer.echo(json.dumps({"rule": plan.wanted_lifecycle}, indent=2))
        typer.echo(
            "\nRun this again with --apply, or write both into files and run\n"
            f"  gcloud storage buckets update gs://{config.bucket} "
            "--cors-file=cors.json --lifecycle-file=lifecycle.json"
        )
