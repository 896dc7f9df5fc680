"""What goes wrong on demand: a queue of faults, each for some requests."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

REFUSALS = frozenset({"rate_limited", "daily_quota", "unavailable", "html", "bad_key", "denied", "file_forbidden"})
CONNECTION = frozenset({"drop", "drop_response", "hang"})
ANSWERS = frozenset(
    {"blocked_prompt", "safety", "recitation", "max_tokens", "fenced", "wrong_shape", "bad_times", "fewer", "no_usage"}
)
FILES = frozenset({"file_failed", "file_processing", "no_upload_status"})
MODES = REFUSALS | CONNECTION | ANSWERS | FILES | {"slow"}


@dataclass
class Fault:
    """One mode for the requests whose "METHOD path" contains ``match``: from the ``nth`` on, ``times`` of them."""

    mode: str
    match: str = ""
    nth: int = 1
    times: int = 1
    delay_s: float = 0.0
    """For ``slow``: before the answer; for ``rate_limited``: the retry delay."""
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise TypeError(f"no such mode: {self.mode}")


class FaultQueue:
    """Every fault counts the requests that match it; the first that is due acts, one a request."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.released = threading.Event()

    def add(self, mode: str, match: str = "", *, nth: int = 1, times: int = 1, delay_s: float = 0.0) -> Fault:
        """Queue one; see ``MODES``."""
        fault = Fault(mode, match, nth, times, delay_s)
        with self._lock:
            self._faults.append(fault)
        return fault

    def due(self, target: str) -> Fault | None:
        """The fault for this request, if any."""
        with self._lock:
            due = None
            for fault in self._faults:
                if fault.match not in target:
                    continue
                fault.seen += 1
                if due is None and fault.seen >= fault.nth and fault.fired < fault.times:
                    fault.fired += 1
                    due = fault
            return due

    def pending(self) -> list[Fault]:
        """Those that have not acted as often as they were to."""
        with self._lock:
            return [fault for fault in self._faults if fault.fired < fault.times]

    def clear(self) -> None:
        """Forget all; requests that hang go on."""
        with self._lock:
            self._faults.clear()
        self.released.set()
        self.released = threading.Event()
