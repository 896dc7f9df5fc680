"""What every request carries at ``request.state``, typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from echo_core.application.health import ReadinessCheck
from echo_core.application.playback import PlaybackAddresses
from echo_core.application.rate_limiting import RateLimiter
from echo_core.application.services import ApiServices
from echo_core.application.step_metrics import StepMetricsReader
from echo_core.domain.users import User
from echo_core.entrypoints.http.metrics import HttpMetrics


@dataclass(frozen=True, kw_only=True)
class ApiState:
    """What the kernel's own routes work with."""

    services: ApiServices
    playback_addresses: PlaybackAddresses
    metrics: HttpMetrics
    checks: Sequence[ReadinessCheck]
    step_metrics: StepMetricsReader | None
    openapi: Mapping[str, object]
    rate_limiter: RateLimiter | None = None


def api_state(connection: HTTPConnection) -> ApiState:
    """The kernel's state of this application."""
    state: ApiState = connection.state.api
    return state


def services_of(connection: HTTPConnection) -> ApiServices:
    """The services of this application."""
    return api_state(connection).services


def rate_limiter_of(connection: HTTPConnection) -> RateLimiter | None:
    """The limits of this application; None: there are none."""
    state: ApiState | None = getattr(connection.state, "api", None)
    return state.rate_limiter if state is not None else None


def is_anybody(connection: HTTPConnection) -> bool:
    """Whether whoever asks watches an unlisted or public video of somebody's; only on routes for viewers."""
    anybody: bool = connection.state.is_anybody
    return anybody


def user_of(connection: HTTPConnection) -> User:
    """Who asks; only on routes that authenticate."""
    user: User = connection.state.user
    return user
