"""Rate limits: a bucket for each caller, emptied in this process, reconciled with those of all others.

A request is decided by this process alone, in about a microsecond: nothing on its way waits for Redis, so a Redis that
is slow or away changes no latency. What was taken is added up elsewhere a few times a second, and what everybody took
comes back with the sum. How far the processes may overshoot between two such exchanges is in ``docs/adr`` ("Rate limits
are decided locally").
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from echo_core.plugin_api.errors import UnavailableError

log = logging.getLogger(__name__)

WINDOW_S = 60
EXCHANGE_S = 0.25
"""Between a first request and the exchange that tells of it."""
REST_S = 1.0
"""After a failed exchange: a Redis that is away is not asked four times a second."""
MAX_KEYS = 20_000
"""Callers that one policy remembers in this process, about 200 bytes each. Full buckets are forgotten first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatePolicy:
    """A bucket that holds ``quota`` requests and is refilled evenly, from empty to full within ``window_s``."""

    name: str
    quota: int
    setting: str
    """The configuration key that sets the quota."""
    window_s: int = WINDOW_S

    @property
    def interval_s(self) -> float:
        """Seconds in which one request comes back."""
        return self.window_s / self.quota


@dataclass(slots=True)
class Verdict:
    """What became of a request. Not frozen: one is made for every request."""

    admitted: bool
    remaining: int
    """Requests that would be admitted right now."""
    wait_s: int
    """Admitted: until the bucket is full again; refused: until the next request is admitted. Rounded up."""


class SharedCounts(Protocol):
    """Adds up what all processes took."""

    async def add(self, policy: RatePolicy, taken: Mapping[str, int]) -> Mapping[str, float]:
        """Add these requests by key; returns for each key in how many seconds its bucket is full again.

        Raises ``UnavailableError``.
        """


class Buckets:
    """The buckets of one policy, by key. A bucket is one number: when it will be full again (GCRA)."""

    def __init__(
        self,
        policy: RatePolicy,
        *,
        now_s: Callable[[], float] = time.monotonic,
        on_taken: Callable[[], None] = lambda: None,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self.policy = policy
        self._interval_s = policy.interval_s
        # The last request of a quota must not fail by a rounding error of the sum of all intervals.
        self._window_s = policy.window_s + policy.interval_s / 1000
        self._now_s = now_s
        self._on_taken = on_taken
        self._max_keys = max_keys
        self._full_at_s: dict[str, float] = {}
        self._taken: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._full_at_s)

    def take(self, key: str) -> Verdict:
        """Take one request out of the key's bucket, unless it is empty."""
        now_s = self._now_s()
        full_at_s = self._full_at_s.get(key, 0.0)
        used_s = full_at_s - now_s if full_at_s > now_s else 0.0
        after_s = used_s + self._interval_s
        if after_s > self._window_s:
            return Verdict(False, 0, math.ceil(after_s - self.policy.window_s))
        self._keep(key, now_s + after_s)
        if not self._taken:
            self._on_taken()
        self._taken[key] = self._taken.get(key, 0) + 1
        return Verdict(True, int((self._window_s - after_s) / self._interval_s), math.ceil(after_s))

    def hand_over(self) -> Mapping[str, int]:
        """What was taken since the last time."""
        taken, self._taken = self._taken, {}
        return taken

    def learn(self, full_in_s: Mapping[str, float]) -> None:
        """What everybody took, by the last exchange; what was taken here since comes on top.

        A bucket never gets fuller by this: an emptied Redis must not give out a quota twice.
        """
        now_s = self._now_s()
        for key, seconds in full_in_s.items():
            full_at_s = now_s + seconds + self._taken.get(key, 0) * self._interval_s
            if full_at_s > self._full_at_s.get(key, 0.0):
                self._keep(key, full_at_s)

    def forget_full(self) -> None:
        """Drop the buckets that are full: they are as good as new ones."""
        now_s = self._now_s()
        self._full_at_s = {key: full_at_s for key, full_at_s in self._full_at_s.items() if full_at_s > now_s}

    def _keep(self, key: str, full_at_s: float) -> None:
        if len(self._full_at_s) >= self._max_keys and key not in self._full_at_s:
            # The oldest goes: whoever has so many addresses gains nothing by it, and what it took is known in Redis.
            del self._full_at_s[next(iter(self._full_at_s))]
        self._full_at_s[key] = full_at_s


class RateLimiter:
    """The limits of one API process; a policy without a quota is not there."""

    def __init__(
        self,
        shared: SharedCounts,
        *,
        users: RatePolicy | None = None,
        addresses: RatePolicy | None = None,
        failures: RatePolicy | None = None,
        exchange_s: float = EXCHANGE_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._exchange_s = exchange_s
        self._something_taken = asyncio.Event()

        def buckets(policy: RatePolicy | None) -> Buckets | None:
            return Buckets(policy, now_s=now_s, on_taken=self._something_taken.set) if policy is not None else None

        self.users = buckets(users)
        """Requests of a user, whatever the address."""
        self.addresses = buckets(addresses)
        """Requests of an address, whoever the user."""
        self.failures = buckets(failures)
        """Requests of an address that did not prove who they are."""

    async def run(self) -> None:
        """Exchange counts with the other processes, for ever. Costs nothing while nobody asks for anything."""
        while True:
            await self._something_taken.wait()
            await asyncio.sleep(self._exchange_s)
            self._something_taken.clear()
            try:
                told = await self.exchange()
            except Exception:  # whatever it is: each process counting alone is better than none that serves
                log.exception("rate_limits.exchange_failed")
                told = False
            if not told:
                await asyncio.sleep(REST_S)

    async def exchange(self) -> bool:
        """Tell what was taken here and learn what was taken everywhere; False: it could not be told.

        What could not be told is not told later: by then the buckets here have filled again, and the sum would punish
        their owners for the outage.
        """
        told = True
        for buckets in (self.users, self.addresses, self.failures):
            if buckets is None:
                continue
            buckets.forget_full()
            taken = buckets.hand_over()
            if not (taken and told):
                continue
            try:
                buckets.learn(await self._shared.add(buckets.policy, taken))
            except UnavailableError as error:
                log.debug("rate_limits.counted_alone", extra={"code": error.code})
                told = False
        return told
