"""Is everything there that Echo needs? Each dependency is asked by name, under a timeout of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from echo_core.plugin_api.errors import EchoError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadinessCheck:
    """One dependency. ``check`` raises if it cannot be used. Without a ``required`` one the API still serves."""

    name: str
    check: Callable[[], Awaitable[object]]
    timeout_s: float = 2.0
    required: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """How a check went; ``error`` is a sentence without addresses or secrets, empty when it went well."""

    name: str
    ok: bool
    required: bool
    duration_ms: float
    error: str = ""


async def run_checks(checks: Sequence[ReadinessCheck]) -> tuple[CheckResult, ...]:
    """All at once, in the given order; none can raise or outlast its timeout."""
    return tuple(await asyncio.gather(*(_run(check) for check in checks)))


async def _run(check: ReadinessCheck) -> CheckResult:
    begun = time.perf_counter()
    error = ""
    try:
        async with asyncio.timeout(check.timeout_s):
            await check.check()
    except TimeoutError:
        error = f"No answer within {check.timeout_s:g} s."
    except EchoError as failure:
        error = failure.message
    except Exception as failure:
        # A probe must answer whatever a driver raises; the reason may hold addresses, so only its kind is told.
        log.exception("readiness_check.failed", extra={"check": check.name})
        error = f"{type(failure).__name__}; see the log."
    return CheckResult(
        name=check.name,
        ok=not error,
        required=check.required,
        duration_ms=round((time.perf_counter() - begun) * 1000, 2),
        error=error,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class DependencyCheck:
    """One dependency as an operator at the machine sees it: what it is or what is wrong, and what to do. ``ok`` None:
    that could not be found out."""

    name: str
    ok: bool | None
    detail: str
    remedy: str
    seconds: float
