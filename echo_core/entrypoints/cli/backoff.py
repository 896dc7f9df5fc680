"""How long to wait before the next try, and when to give up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

MAX_RETRY_AFTER_S = 120.0
"""A server that asks for more patience than this is treated as one that asked for this."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Exponential with jitter (half to all of the delay), at most ``max_tries`` failures without progress.

    With the defaults a server may be away for about two and a half minutes.
    """

    first_s: float = 0.5
    max_s: float = 30.0
    max_tries: int = 10
    random: Callable[[], float] = field(default=random.random)
    sleep: Callable[[float], Awaitable[object]] = field(default=asyncio.sleep)

    def exhausted(self, failures: int) -> bool:
        """Whether this many failures in a row are enough."""
        return failures >= self.max_tries

    def delay_s(self, failures: int, retry_after_s: float | None = None) -> float:
        """The wait after the ``failures``-th failure in a row (from 1), never shorter than the server asked for."""
        full = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 32))
        asked = min(retry_after_s, MAX_RETRY_AFTER_S) if retry_after_s is not None else 0.0
        return max(asked, full * (0.5 + 0.5 * self.random()))

    async def wait(self, failures: int, retry_after_s: float | None = None) -> None:
        """Wait that long."""
        await self.sleep(self.delay_s(failures, retry_after_s))


def parsed_retry_after(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header (RFC 9110, 10.2.3); its date form is not worth a clock comparison here."""
    if value is None or not value.strip().isascii() or not value.strip().isdigit():
        return None
    return float(value.strip())
