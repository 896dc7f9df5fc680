"""The examination behind ``echoctl doctor``: hops from the configuration to a played segment, in order.

A hop that fails says what to do. Those that need what it should have given are skipped, not failed, so that the first
failure is the one to mend.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from echo_core.entrypoints.cli.output import plain
from echo_core.entrypoints.cli.problems import CliError, explained

Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One hop. ``detail`` is what was found, ``remedy`` what to do when it failed."""

    name: str
    status: Status
    detail: str = ""
    remedy: str = ""
    code: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """The documented form."""
        return {
            "name": self.name,
            "status": self.status,
            "detail": self.detail,
            "remedy": self.remedy,
            "code": self.code,
            "seconds": round(self.seconds, 3),
        }


class Examination:
    """Collects hops; ``on_hop`` hears each as it ends."""

    def __init__(self, on_hop: Callable[[Hop], None], *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.hops: list[Hop] = []
        self._on_hop = on_hop
        self._clock = clock

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(hop.status != "failed" for hop in self.hops)

    def add(self, hop: Hop) -> None:
        """Take a hop that was made elsewhere."""
        self.hops.append(hop)
        self._on_hop(hop)

    async def hop(self, name: str, make: Callable[[], Awaitable[str]]) -> bool:
        """Make one hop; ``make`` returns what it found or raises an expected error. False: it failed."""
        begun = self._clock()
        try:
            detail = await make()
        except Exception as error:
            problem = _problem(error)
            if problem is None:
                raise
            self.add(
                Hop(
                    name=name,
                    status="failed",
                    detail=plain(problem.message),
                    remedy=plain(problem.remedy),
                    code=problem.code,
                    seconds=self._clock() - begun,
                )
            )
            return False
        self.add(Hop(name=name, status="ok", detail=detail, seconds=self._clock() - begun))
        return True

    def skip(self, *names: str, because: str) -> None:
        """Hops that cannot be made."""
        for name in names:
            self.add(Hop(name=name, status="skipped", detail=because))


def _problem(error: Exception) -> CliError | None:
    if isinstance(error, TimeoutError):
        return CliError("There was no answer in time.", code="timeout", remedy="Look at the log of the instance.")
    return explained(error)
