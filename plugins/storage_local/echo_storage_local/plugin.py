"""The hooks: a storage backend named ``local``, and the routes that serve its signed URLs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from echo_core.plugin_api import PluginContext, RoutesSpec, StorageBackend, StorageSpec, hookimpl
from echo_storage_local.config import LocalStorageConfig
from echo_storage_local.routes import make_routes


@asynccontextmanager
async def open_storage(context: PluginContext) -> AsyncIterator[StorageBackend]:
    """Open the backend."""
    from echo_storage_local.backend import open_local_storage

    async with open_local_storage(context) as storage:
        yield storage


@hookimpl
def echo_register_storage() -> Sequence[StorageSpec]:
    """Storage on local disk."""
    return [
        StorageSpec(
            name="local",
            open=open_storage,
            config_model=LocalStorageConfig,
            description="Objects on a local disk, uploaded and read through signed URLs.",
        )
    ]


@hookimpl
def echo_register_routes() -> Sequence[RoutesSpec]:
    """The signed URLs; they carry their own rights."""
    return [RoutesSpec(routes=make_routes(), auth="none")]
