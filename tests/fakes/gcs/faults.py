"""What goes wrong on demand: a queue of faults, each for some requests."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Fault:
    """One action for the requests that match; see ``FaultQueue.add`` for what each field means."""

    method: str = ""
    path: str = ""
    path_regex: str = ""
    nth: int = 1
    times: int = 1
    status: int | None = None
    retry_after: str | int | None = None
    body: Any = None
    delay_s: float = 0.0
    drop: bool = False
    drop_response: bool = False
    keep_bytes: int | None = None
    fail_after: int | None = None
    truncate: int | None = None
    corrupt: bool = False
    session_gone: int | None = None
    hang: bool = False
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def matches(self, method: str, target: str) -> bool:
        """Whether the request is one of those meant."""
        if self.method and self.method.upper() != method:
            return False
        if self.path and self.path not in target:
            return False
        return not self.path_regex or re.search(self.path_regex, target) is not None


class FaultQueue:
    """Every fault counts the requests that match it; the first that is due acts, one a request."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.released = threading.Event()

    def add(self, **what: Any) -> Fault:
        """Queue a fault. ``path`` is part of path and query as sent (percent-encoded), ``path_regex`` a pattern of it,
        ``nth`` the first matching request that is meant (from 1), ``times`` how many from there on.

        Actions: ``status`` (with ``retry_after``, ``body``) in place of the handler; ``delay_s`` before it; ``drop``
        closes the connection before it; ``drop_response`` after it, unanswered; ``keep_bytes`` of a chunk are stored
        and the answer says so; ``fail_after`` so many stored bytes comes 503; ``truncate`` a download after so many
        bytes; ``corrupt`` a byte of a download, or the crc32c of what an upload stores; ``session_gone`` (404 or 410)
        from now on; ``hang`` until reset.
        """
        match = what.pop("match", {})
        if "pathRegex" in match:
            match = {**match, "path_regex": match["pathRegex"]}
            del match["pathRegex"]
        fault = Fault(**match, **what)
        with self._lock:
            self._faults.append(fault)
        return fault

    def due(self, method: str, target: str) -> Fault | None:
        """The fault for this request, if any."""
        with self._lock:
            due = None
            for fault in self._faults:
                if not fault.matches(method, target):
                    continue
                fault.seen += 1
                if due is None and fault.seen >= fault.nth and fault.fired < fault.times:
                    fault.fired += 1
                    due = fault
            return due

    def pending(self) -> list[Fault]:
        """The faults that have not acted as often as they were to."""
        with self._lock:
            return [fault for fault in self._faults if fault.fired < fault.times]

    def clear(self) -> None:
        """Forget all; requests that hang go on."""
        with self._lock:
            self._faults.clear()
        self.released.set()
        self.released = threading.Event()
