"""The hooks: a storage named ``gcs``, the route of its notifications, and ``echoctl gcs``.

Google's libraries are imported when the storage is opened, and not before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from echo_core.plugin_api import CommandsSpec, PluginContext, RoutesSpec, StorageBackend, StorageSpec, hookimpl
from echo_storage_gcs.commands import app
from echo_storage_gcs.config import GcsConfig, browser_origins
from echo_storage_gcs.notifications import make_routes


@asynccontextmanager
async def open_storage(context: PluginContext) -> AsyncIterator[StorageBackend]:
    """Open the backend."""
    from echo_storage_gcs.backend import open_gcs_storage

    async with open_gcs_storage(context) as storage:
        yield storage


@hookimpl
def echo_register_storage() -> Sequence[StorageSpec]:
    """Storage in a bucket."""
    return [
        StorageSpec(
            name="gcs",
            open=open_storage,
            config_model=GcsConfig,
            description="Objects in a bucket of Google Cloud Storage, uploaded and read there directly.",
            browser_origins=browser_origins,
        )
    ]


@hookimpl
def echo_register_routes() -> Sequence[RoutesSpec]:
    """Notifications carry a token of their own."""
    return [RoutesSpec(routes=make_routes(), auth="none")]


@hookimpl
def echo_register_commands() -> Sequence[CommandsSpec]:
    """``echoctl gcs …``."""
    return [CommandsSpec(app=app, name="gcs", config_model=GcsConfig)]
