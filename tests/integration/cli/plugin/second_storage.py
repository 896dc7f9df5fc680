"""Another storage to move to: a second folder of storage_local, which must be named in the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from pydantic import BaseModel

from echo_core.plugin_api import ObjectInfo, PluginContext, PutFile, StorageBackend, StorageSpec, hookimpl


class Config(BaseModel):
    """The folder below ``data_dir``. After ``stuck_after`` objects nothing more is stored, and nothing answers."""

    folder: str
    stuck_after: int | None = None


@asynccontextmanager
async def open_second(context: PluginContext) -> AsyncIterator[StorageBackend]:
    from echo_storage_local.backend import open_local_storage
    from echo_storage_local.config import LocalStorageConfig

    wanted = context.config_as(Config)
    config = LocalStorageConfig(root=wanted.folder, min_free_bytes=0)
    async with open_local_storage(replace(context, config=config)) as storage:
        put_file, left = storage.put_file, wanted.stuck_after

        async def put_or_hang(request: PutFile) -> ObjectInfo:
            nonlocal left
            if left is not None:
                left -= 1
                if left < 0:
                    await asyncio.Event().wait()
            return await put_file(request)

        storage.put_file = put_or_hang  # type: ignore[method-assign]
        yield storage


@hookimpl
def echo_register_storage() -> Sequence[StorageSpec]:
    return [StorageSpec(name="second", open=open_second, config_model=Config)]
