"""A store in a process of its own, for tests that kill it: ``serve_alone.py DATA_DIR``; prints one upload URL."""

import asyncio
import hashlib
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from echo_storage_local.backend import open_local_storage
from echo_storage_local.config import LocalStorageConfig
from echo_storage_local.routes import make_routes
from starlette.applications import Starlette
from starlette.routing import Mount

from echo_core.plugin_api import BeginUpload, PluginContext
from echo_core.testing.manual_clock import ManualClock


async def main(data_dir: Path, size: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    context = PluginContext(
        plugin="storage_local",
        config=LocalStorageConfig(min_free_bytes=0),
        data_dir=data_dir,
        routes_url=f"http://127.0.0.1:{listener.getsockname()[1]}/plugins/storage_local",
        clock=ManualClock(),
        derive_key=lambda label: hashlib.sha256(f"test:{label}".encode()).digest(),
    )
    async with open_local_storage(context) as storage:

        @asynccontextmanager
        async def lifespan(app):
            yield {"storage": storage}

        app = Starlette(routes=[Mount("/plugins/storage_local", routes=make_routes())], lifespan=lifespan)
        ticket = await storage.begin_upload(BeginUpload(key="v/a", content_type="video/mp4", size_bytes=size))
        sys.stdout.write(f"{ticket.state} {ticket.url}\n")
        sys.stdout.flush()
        await uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none")).serve(sockets=[listener])


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
