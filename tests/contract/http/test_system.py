from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from echo_core.application.health import ReadinessCheck
from echo_core.application.services import PluginReport
from echo_core.application.step_metrics import StepCount, parse_step_counts
from echo_core.entrypoints.http.auth import current_user
from echo_core.plugin_api import UnavailableError
from tests.fakes.api import LIMITS, OTHER, OWNER, FakeApi, bearer, uploaded


async def fine() -> None:
    pass


async def refused() -> None:
    raise UnavailableError("Redis does not answer.")


async def leaky() -> None:
    raise RuntimeError("postgres://user:hunter2@db")


async def hangs() -> None:
    await asyncio.Event().wait()


async def test_liveness_asks_nobody() -> None:
    api = FakeApi()
    api.database.down = True
    async with api.client(user=None) as client:
        response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_readiness_names_every_dependency() -> None:
    checks = [
        ReadinessCheck(name="database", check=fine),
        ReadinessCheck(name="redis", check=refused, required=False),
    ]
    async with FakeApi().client(user=None, checks=checks) as client:
        response = await client.get("/readyz")
    assert response.status_code == 200
    assert [(c["name"], c["ok"], c["error"]) for c in response.json()["checks"]] == [
        ("database", True, ""),
        ("redis", False, "Redis does not answer."),
    ]


async def test_a_required_dependency_that_fails_or_hangs_makes_it_503_without_leaks() -> None:
    checks = [
        ReadinessCheck(name="database", check=leaky),
        ReadinessCheck(name="storage", check=hangs, timeout_s=0.01),
        ReadinessCheck(name="redis", check=fine),
    ]
    async with FakeApi().client(user=None, checks=checks) as client:
        response = await client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["code"]) == (503, "not_ready")
    assert response.headers["retry-after"] == "5"
    assert [c["ok"] for c in body["checks"]] == [False, False, True]
    assert "database, storage" in body["detail"]
    assert "hunter2" not in response.text


class Counts:
    def __init__(self, counts: Sequence[StepCount] | None) -> None:
        self.counts = counts

    async def read(self) -> Sequence[StepCount]:
        if self.counts is None:
            raise UnavailableError("Redis is gone.")
        return self.counts


FIELDS = {
    "count|encode|cpu|succeeded|": "3",
    "seconds|encode|cpu|succeeded|": "12.5",
    "count|encode|cpu|failed|media_unreadable": "1",
    "other|x": "9",
}


async def test_metrics_tell_requests_queues_and_steps() -> None:
    api = FakeApi()
    async with api.client(step_metrics=Counts(parse_step_counts(FIELDS))) as client:
        await uploaded(api, client)
        await client.get("/api/v1/nothing")
        await client.request("BREW", "/api/v1/videos")
        text = (await client.get("/metrics")).text
    samples = {
        (s.name, *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    begin = [("method", "POST"), ("route", "/api/v1/videos/signed-upload-url"), ("status", "201")]
    assert samples["echo_http_requests_total", *begin] == 1
    assert samples["echo_http_request_duration_seconds_count", *begin[:2]] == 1
    missing = [("method", "GET"), ("route", "unmatched"), ("status", "404")]
    assert samples["echo_http_requests_total", *missing] == 1
    assert any(key[1] == ("method", "OTHER") for key in samples if len(key) > 1)
    assert samples["echo_queue_depth", ("resource", "light")] == 1
    encoded = [("code", ""), ("outcome", "succeeded"), ("resource", "cpu"), ("step", "encode")]
    assert samples["echo_step_runs_total", *encoded] == 3
    assert samples["echo_step_duration_seconds_total", *encoded] == 12.5


async def test_metrics_do_without_what_is_down() -> None:
    api = FakeApi()
    async with api.client(user=None, step_metrics=Counts(None)) as client:
        await client.get("/healthz")
        api.database.down = True
        response = await client.get("/metrics")
    assert response.status_code == 200
    assert "echo_http_requests_total" in response.text


async def test_labels_of_metrics_do_not_grow_with_ids() -> None:
    api = FakeApi()
    async with api.client() as client:
        for number in range(5):
            await client.get(f"/api/v1/videos/01900000-0000-7000-8000-00000000000{number}/details")
        text = (await client.get("/metrics")).text
    assert text.count('echo_http_requests_total{method="GET",route="/api/v1/videos/{videoId}/details"') == 1
    assert "01900000" not in text


async def test_plugins_are_listed_for_users_only() -> None:
    report = PluginReport(name="broken", version="1", status="failed", reason="ImportError", provides={"step": ("x",)})
    async with FakeApi(plugins=(report,)).client() as client:
        response = await client.get("/api/v1/plugins")
    assert response.json()["items"] == [
        {
            "name": "broken",
            "version": "1",
            "status": "failed",
            "reason": "ImportError",
            "selected": False,
            "provides": {"step": ["x"]},
            "capabilities": {},
        }
    ]


@pytest.mark.parametrize("offered", ["from-the-browser", "A.b_c:1"])
async def test_a_sane_request_id_is_kept(offered: str) -> None:
    async with FakeApi().client() as client:
        response = await client.get("/healthz", headers={"X-Request-Id": offered})
    assert response.headers["x-request-id"] == offered


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "é".encode(), 'a"b', "a\tb"])
async def test_an_insane_request_id_is_replaced(offered: str | bytes) -> None:
    async with FakeApi().client() as client:
        response = await client.get("/healthz", headers={"X-Request-Id": offered})
    assert len(response.headers["x-request-id"]) == 36


async def test_requests_are_logged_without_their_query() -> None:
    api = FakeApi()
    async with api.client() as client:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
            await client.get("/api/v1/videos?q=secret", headers={"X-Request-Id": "abc"})
            await client.get("/healthz")
    first, probe = logs
    assert first["event"] == "request.completed"
    assert (first["path"], first["status"], first["method"]) == ("/api/v1/videos", 200, "GET")
    assert (first["request_id"], first["user_id"]) == ("abc", str(OWNER.id))
    assert "secret" not in str(first)
    assert probe["log_level"] == "debug"


async def test_every_answer_has_the_security_headers() -> None:
    async with FakeApi().client(user=None) as client:
        for path in ("/healthz", "/api/v1/videos", "/nothing"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-frame-options"] == "DENY"


async def test_configured_origins_may_call_and_read_what_they_need() -> None:
    async with FakeApi().client() as client:
        preflight = await client.options(
            "/api/v1/videos/signed-upload-url",
            headers={
                "Origin": "https://app.test",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, if-match, "
                "content-range, range, last-event-id",
            },
        )
        failed = await client.get("/api/v1/nothing", headers={"Origin": "https://app.test"})
        stranger = await client.get("/healthz", headers={"Origin": "https://evil.test"})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.test"
    assert failed.headers["access-control-allow-origin"] == "https://app.test"
    exposed = failed.headers["access-control-expose-headers"]
    assert all(name in exposed for name in ("Range", "Location", "ETag", "Content-Range", "X-Request-Id"))
    assert "access-control-allow-origin" not in stranger.headers


async def test_without_configured_origins_there_is_no_cors() -> None:
    async with FakeApi(limits=replace(LIMITS, cors_origins=())).client() as client:
        response = await client.get("/healthz", headers={"Origin": "https://app.test"})
    assert "access-control-allow-origin" not in response.headers


async def test_the_route_of_tickets_is_adopted_with_idempotency_and_the_web_gets_the_rest() -> None:
    async def ticket(request: Request) -> Response:
        user = await current_user(request)
        return Response(f'{{"ticket":"{user.id}","expiresAt":"x"}}', 201, media_type="application/json")

    async def web(scope: object, receive: object, send: object) -> None:
        await Response("the app")(scope, receive, send)  # type: ignore[arg-type]

    routes = [Route("/api/v1/ws-tickets", ticket, methods=["POST"])]
    async with FakeApi().client(extra_routes=routes, web=web) as client:
        first = await client.post("/api/v1/ws-tickets", headers=bearer(OTHER))
        bad_key = await client.post("/api/v1/ws-tickets", headers={"Idempotency-Key": b"\xe9"} | bearer(OTHER))
        page = await client.get("/videos/some/page")
        api_404 = await client.get("/api/v2/videos")
        wrong_method = await client.get("/api/v1/ws-tickets")
    assert (first.status_code, first.json()["ticket"]) == (201, str(OTHER.id))
    assert bad_key.status_code == 400
    assert page.text == "the app"
    assert (api_404.status_code, wrong_method.status_code) == (404, 405)
