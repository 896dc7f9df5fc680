"""The instance itself over HTTP: plugins, health, metrics, and this API's own description."""

from __future__ import annotations

import dataclasses

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

import echo_core
from echo_core.application.health import CheckResult, run_checks
from echo_core.application.step_metrics import StepCount
from echo_core.entrypoints.http import examples, metrics, responses
from echo_core.entrypoints.http.errors import new_problem, problem_response
from echo_core.entrypoints.http.operations import Answer, Operation
from echo_core.entrypoints.http.reader_page import render_page
from echo_core.entrypoints.http.state import api_state, services_of
from echo_core.entrypoints.http.web_heads import SITE
from echo_core.plugin_api.ai import Capability
from echo_core.plugin_api.errors import EchoError

log = structlog.get_logger("echo.http")

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
}


async def _plugins(request: Request) -> Response:
    items = [
        responses.PluginItem(**{f.name: getattr(plugin, f.name) for f in dataclasses.fields(plugin)})
        for plugin in services_of(request).plugins
    ]
    return responses.json_response(responses.PluginList(items=items))


async def _instance(request: Request) -> Response:
    services = services_of(request)
    limits = services.limits
    instance = responses.Instance(
        name=SITE,
        version=echo_core.__version__,
        public_url=limits.public_url,
        auth=responses.InstanceAuth(url=services.sign_in.url, key=services.sign_in.key),
        upload=responses.InstanceUpload(
            max_size_bytes=limits.max_upload_bytes, expires_in_seconds=limits.upload_expires_in_s
        ),
        ai=responses.InstanceAI(
            transcribe=services.ai.serving.get(Capability.TRANSCRIBE, ()),
            describe=services.ai.serving.get(Capability.DESCRIBE, ()),
            translate=services.ai.serving.get(Capability.TRANSLATE, ()),
            embed=services.ai.serving.get(Capability.EMBED, ()),
            translate_to=services.ai.translate_to,
            accept_suggestions=services.ai.accept,
        ),
    )
    return responses.json_response(instance, headers={"Cache-Control": "no-cache"})


async def _alive(request: Request) -> Response:
    return responses.json_response(responses.Alive())


async def _ready(request: Request) -> Response:
    results = await run_checks(api_state(request).checks)
    checks = [_check(result) for result in results]
    if all(check.ok for check in checks if check.required):
        return responses.json_response(responses.Readiness(status="ready", checks=checks))
    missing = ", ".join(check.name for check in checks if check.required and not check.ok)
    problem = new_problem(
        503, "not_ready", f"Not reachable: {missing}.", "Look at the errors of the checks.", checks=checks
    )
    return problem_response(problem, {"Retry-After": "5"})


def _check(result: CheckResult) -> responses.Check:
    return responses.Check(
        name=result.name,
        ok=result.ok,
        required=result.required,
        duration_ms=result.duration_ms,
        error=result.error,
    )


async def _metrics(request: Request) -> Response:
    state = api_state(request)
    steps: list[StepCount] = []
    try:
        queues = await state.services.units_of_work.queue_statistics()
    except EchoError as error:
        # The requests' own numbers matter most when the database is down.
        log.warning("metrics.incomplete", missing="queues", code=error.code)
        queues = ()
    if state.step_metrics is not None:
        try:
            steps.extend(await state.step_metrics.read())
        except EchoError as error:
            log.warning("metrics.incomplete", missing="steps", code=error.code)
    return Response(metrics.render(state.metrics, queues, steps), headers={"Content-Type": metrics.CONTENT_TYPE})


async def _openapi(request: Request) -> Response:
    return Response(
        msgspec.json.encode(api_state(request).openapi),
        media_type="application/json",
        headers={"Cache-Control": "public, max-age=300"},
    )


async def _docs(request: Request) -> Response:
    return HTMLResponse(render_page(api_state(request).openapi), headers=PAGE_HEADERS)


OPERATIONS = (
    Operation(
        id="getInstance",
        method="GET",
        path="/api/v1/instance",
        handler=_instance,
        summary="What a front end needs to begin",
        description=(
            "Where users sign in, as supabase-js wants it (`createClient(auth.url, auth.key)`), and what may be "
            "uploaded. The key is the one that Supabase calls publishable: it is no secret."
        ),
        tag="system",
        auth="none",
        answers={200: Answer(description="The instance.", model=responses.Instance, example=examples.INSTANCE)},
    ),
    Operation(
        id="listPlugins",
        method="GET",
        path="/api/v1/plugins",
        handler=_plugins,
        summary="List plugins",
        description="What is loaded, its state and reason, what it provides; never a secret.",
        tag="system",
        answers={200: Answer(description="All plugins.", model=responses.PluginList, example=examples.PLUGINS)},
    ),
    Operation(
        id="getHealth",
        method="GET",
        path="/healthz",
        handler=_alive,
        summary="Is the process alive?",
        tag="system",
        auth="none",
        answers={200: Answer(description="It is.", model=responses.Alive, example={"status": "ok"})},
    ),
    Operation(
        id="getReadiness",
        method="GET",
        path="/readyz",
        handler=_ready,
        summary="Is everything there that it needs?",
        description="Every dependency by name, each asked under a timeout. The 503 problem has the same `checks`.",
        tag="system",
        auth="none",
        answers={200: Answer(description="It is.", model=responses.Readiness, example=examples.READINESS)},
        problems={503: ("not_ready",)},
    ),
    Operation(
        id="getMetrics",
        method="GET",
        path="/metrics",
        handler=_metrics,
        summary="Prometheus metrics",
        description="Without a token: let a proxy keep it inside.",
        tag="system",
        auth="none",
        answers={200: Answer(description="The text format, version 0.0.4.", media_type="text/plain")},
    ),
    Operation(
        id="getOpenApi",
        method="GET",
        path="/openapi.json",
        handler=_openapi,
        summary="This document",
        tag="system",
        auth="none",
        answers={200: Answer(description="OpenAPI 3.1.")},
    ),
    Operation(
        id="getDocs",
        method="GET",
        path="/docs",
        handler=_docs,
        summary="This document for people",
        tag="system",
        auth="none",
        answers={200: Answer(description="A page that needs nothing from elsewhere.", media_type="text/html")},
    ),
)
