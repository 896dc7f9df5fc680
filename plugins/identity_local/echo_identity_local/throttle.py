"""How often something may be tried: token buckets in this process, one for each key."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable

MAX_KEYS = 50_000
"""Keys that are remembered, about 10 MB; the one that was used longest ago is forgotten first, which is a full one
unless more addresses than that attack at once."""


class Throttle:
    """At most ``per_minute`` tries at once, and as many in each minute after that, for each key."""

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        self._size = float(per_minute)
        self._per_s = per_minute / 60.0
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> int:
        """Count a try. 0: it is admitted; else the seconds to wait, and nothing was counted."""
        now = self._monotonic()
        left, at = self._buckets.pop(key, (self._size, now))
        left = min(self._size, left + (now - at) * self._per_s)
        wait_s = 0 if left >= 1 else max(1, math.ceil((1 - left) / self._per_s))
        self._buckets[key] = (left if wait_s else left - 1, now)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return wait_s


def address_key(host: str | None) -> str:
    """Whom an address counts as: an IPv4 address itself, of an IPv6 address the /64 that one subscriber has."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address)
