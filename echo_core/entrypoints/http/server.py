"""The API process: uvicorn around the application, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
import uvloop
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from echo_core.application.ending import end_tasks
from echo_core.bootstrap import Api, configure_process, open_api
from echo_core.entrypoints.http.app import PluginRoutes, create_app
from echo_core.entrypoints.http.auth import current_user
from echo_core.entrypoints.http.connections import bounded_protocol, room_for_connections
from echo_core.entrypoints.http.web import WebApp
from echo_core.entrypoints.http.web_files import load_build
from echo_core.entrypoints.http.ws import ws_routes
from echo_core.entrypoints.http.ws_protocol import StatusWebSocketProtocol

if TYPE_CHECKING:
    from echo_core.adapters.settings import Settings

log = structlog.get_logger("echo.api")

WS_MAX_FRAME_BYTES = 16 << 10
PING_S = 20.0
WS_OPTIONS: Mapping[str, Any] = {
    "ws": StatusWebSocketProtocol,
    "ws_max_size": WS_MAX_FRAME_BYTES,
    "ws_ping_interval": PING_S,
    "ws_ping_timeout": PING_S,
    "ws_per_message_deflate": False,
}
"""How uvicorn serves WebSockets."""
STOP_GRACE_S = 10
BACKLOG = 2048
IDENTITY_PREFIX = "/auth/v1"
"""Where Supabase has its own, so that supabase-js needs nothing but the address."""


class _Server(uvicorn.Server):
    """A server whose signals are ours: uvicorn would raise them again before our own resources are closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT; then let requests end for ``STOP_GRACE_S``."""
    configure_process(settings, "api")
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    async with open_api(settings) as api:
        server = _Server(_config(settings, api))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
        async with asyncio.TaskGroup() as tasks:  # an API whose hub has died would serve silent WebSockets
            hub = tasks.create_task(api.realtime.hub.run(), name="realtime hub")
            limits = tasks.create_task(api.rate_limiter.run(), name="rate limits")
            log.info("api.starting", host=settings.http.host, port=settings.http.port)
            await server.serve()
            await end_tasks([hub, limits])
    log.info("api.stopped")


async def _front_page(request: Request) -> Response:
    return RedirectResponse("/docs", status_code=303)


def _web(api: Api) -> WebApp | None:
    if api.web_build is None:
        return None
    return WebApp(
        load_build(api.web_build),
        public_url=api.services.limits.public_url,
        auth_url=api.services.sign_in.url,
        storage_origins=api.storage_origins,
    )


def _identity_routes(api: Api) -> list[BaseRoute]:
    if api.identity is None:
        return []
    return [Mount(IDENTITY_PREFIX, routes=list(api.identity.routes()), name="identity")]


def _config(settings: Settings, api: Api) -> uvicorn.Config:
    web = _web(api)
    app = create_app(
        api.services,
        plugin_routes=[PluginRoutes(plugin=plugin, spec=spec) for plugin, spec in api.plugin_routes],
        extra_routes=[
            *([Route("/", _front_page)] if web is None else []),
            *_identity_routes(api),
            *ws_routes(lambda: api.realtime, current_user=current_user),
        ],
        checks=api.checks,
        step_metrics=api.step_metrics,
        web=web,
        rate_limiter=api.rate_limiter,
        behind_proxy=bool(settings.http.trusted_proxies),
    )
    return uvicorn.Config(
        app,
        host=settings.http.host,
        port=settings.http.port,
        http=bounded_protocol(
            max_connections=room_for_connections(settings.http.max_connections),
            head_timeout_s=settings.http.idle_timeout_s,
        ),
        **WS_OPTIONS,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        # Without a list of ours uvicorn would believe this machine, and whatever FORWARDED_ALLOW_IPS says.
        proxy_headers=bool(settings.http.trusted_proxies),
        forwarded_allow_ips=list(settings.http.trusted_proxies),
        timeout_keep_alive=settings.http.idle_timeout_s,
        timeout_graceful_shutdown=STOP_GRACE_S,
    )
