"""The application: routes, middleware and error handlers in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from echo_core.application.health import ReadinessCheck
from echo_core.application.playback import PlaybackAddresses
from echo_core.application.rate_limiting import RateLimiter
from echo_core.application.services import ApiServices
from echo_core.application.step_metrics import StepMetricsReader
from echo_core.application.upload_hints import UploadHintTaker
from echo_core.entrypoints.http.api import KERNEL_OPERATIONS, WS_TICKET, kernel_openapi
from echo_core.entrypoints.http.auth import RequireUser
from echo_core.entrypoints.http.errors import (
    RequestError,
    handle_http_exception,
    handle_request_error,
)
from echo_core.entrypoints.http.idempotency import OncePerKey
from echo_core.entrypoints.http.metrics import HttpMetrics
from echo_core.entrypoints.http.middleware import BodyLimit, ErrorBoundary, RequestContext, RequestLimit
from echo_core.entrypoints.http.operations import operation_route, operation_routes
from echo_core.entrypoints.http.rate_limits import AddressLimit, handle_refusal
from echo_core.entrypoints.http.state import ApiState
from echo_core.entrypoints.http.web import ASSETS_PREFIX
from echo_core.plugin_api.errors import EchoError
from echo_core.plugin_api.specs import RoutesSpec

PLUGINS_PREFIX = "/plugins/"
OWN_PREFIXES = ("/api/", "/auth/v1/", "/ws/", PLUGINS_PREFIX)
"""Below these, what no route matches is a 404 problem and never the web application, which has a page at
``/auth/callback``."""
KEEP_PLAYBACK_TOKEN_S = 600.0
"""How long the same token is handed out again; short beside the hours that tokens live."""

ALLOWED_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
ALLOWED_HEADERS = (
    "Authorization",
    "Content-Type",
    "Content-Range",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Range",
    "X-Request-Id",
    # supabase-js sends these to whatever keeps the users.
    "apikey",
    "X-Client-Info",
    "X-Supabase-Api-Version",
)
EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Range",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
    "X-Supabase-Api-Version",  # without seeing it, supabase-js in a browser finds no error code
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginRoutes:
    """The routes of one plugin; they are served below ``/plugins/<plugin>``."""

    plugin: str
    spec: RoutesSpec


def create_app(
    services: ApiServices,
    *,
    lifespan: Lifespan[Starlette] | None = None,
    plugin_routes: Sequence[PluginRoutes] = (),
    extra_routes: Sequence[BaseRoute] = (),
    checks: Sequence[ReadinessCheck] = (),
    step_metrics: StepMetricsReader | None = None,
    web: ASGIApp | None = None,
    rate_limiter: RateLimiter | None = None,
    behind_proxy: bool = False,
) -> Starlette:
    """The API.

    ``extra_routes`` (the WebSocket's, a local identity's) stand beside the kernel's own and use the same errors.
    ``web`` serves what no route matches, outside of the API's own paths. ``behind_proxy``: the server knows which
    proxies to trust, so that the address of a connection is the client's. The handlers of all routes find
    ``request.state.storage`` and ``request.state.upload_hints``, and ``request.state.user`` where they authenticate.
    """
    metrics = HttpMetrics()
    state = ApiState(
        services=services,
        playback_addresses=PlaybackAddresses(
            services.tokens,
            services.limits.public_url,
            lambda: services.clock.now().timestamp(),
            keep_s=KEEP_PLAYBACK_TOKEN_S,
        ),
        metrics=metrics,
        checks=tuple(checks),
        step_metrics=step_metrics,
        openapi=kernel_openapi(),
        rate_limiter=rate_limiter,
    )
    app = Starlette(
        routes=_routes(plugin_routes, extra_routes),
        middleware=_middleware(metrics, state, plugin_routes, behind_proxy=behind_proxy, has_web=web is not None),
        exception_handlers={
            EchoError: handle_refusal,
            RequestError: handle_request_error,
            HTTPException: handle_http_exception,
        },
        lifespan=lifespan,
    )
    # A redirect to the same path with or without a slash would hide a wrong address, and repeat a POST.
    app.router.redirect_slashes = False
    if web is not None:
        app.router.default = _Outside(web, app.router.default)
    return app


def _routes(plugin_routes: Sequence[PluginRoutes], extra_routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    routes: list[BaseRoute] = [*operation_routes(KERNEL_OPERATIONS)]
    routes.extend(_adopted(route) for route in extra_routes)
    for group in plugin_routes:
        middleware = [Middleware(RequireUser), Middleware(OncePerKey)] if group.spec.auth == "user" else []
        routes.append(
            Mount(
                f"{PLUGINS_PREFIX}{group.plugin}",
                routes=list(group.spec.routes),
                name=f"plugin:{group.plugin}",
                middleware=middleware,
            )
        )
    return routes


def _adopted(route: BaseRoute) -> BaseRoute:
    """The route of tickets, under the rules of every POST; any other as it is."""
    if isinstance(route, Route) and route.path == WS_TICKET.path:
        return operation_route(replace(WS_TICKET, handler=route.endpoint))
    return route


def _middleware(
    metrics: HttpMetrics,
    state: ApiState,
    plugin_routes: Sequence[PluginRoutes],
    *,
    behind_proxy: bool,
    has_web: bool,
) -> list[Middleware]:
    limits = state.services.limits
    carried = {
        "api": state,
        "storage": state.services.storage,
        "upload_hints": UploadHintTaker(state.services.units_of_work),
    }
    by_address: list[Middleware] = []
    if state.rate_limiter is not None:
        signed = [f"{PLUGINS_PREFIX}{group.plugin}/" for group in plugin_routes if group.spec.auth == "none"]
        # A page loads dozens of files at once, out of memory.
        exempt = [*signed, ASSETS_PREFIX] if has_web else signed
        by_address.append(
            Middleware(AddressLimit, limiter=state.rate_limiter, exempt_prefixes=exempt, behind_proxy=behind_proxy)
        )
    cors = Middleware(
        CORSMiddleware,
        allow_origins=limits.cors_origins,
        allow_methods=ALLOWED_METHODS,
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        max_age=600,
    )
    return [
        Middleware(RequestContext, metrics=metrics, state=carried),
        *([cors] if limits.cors_origins else []),
        *by_address,
        Middleware(ErrorBoundary),
        Middleware(
            RequestLimit,
            max_requests=limits.max_requests,
            max_transfers=limits.max_transfers,
            transfer_prefix=PLUGINS_PREFIX,
        ),
        Middleware(
            BodyLimit,
            max_body_bytes=limits.max_body_bytes,
            exempt_prefix=PLUGINS_PREFIX,
            idle_timeout_s=limits.body_idle_timeout_s,
        ),
    ]


class _Outside:
    """What no route matches: the web application's, or nothing."""

    def __init__(self, web: ASGIApp, nothing: ASGIApp) -> None:
        self._web = web
        self._nothing = nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        own = scope["type"] != "http" or f"{scope['path']}/".startswith(OWN_PREFIXES)
        await (self._nothing if own else self._web)(scope, receive, send)
