"""What workers count about their steps, for whoever scrapes the API.

Workers accumulate in one hash (``echo:step_metrics``), with these fields; all values are numbers and only grow:

- ``count|<step>|<state>``: runs that ended in that state (``succeeded``, ``failed``, ``skipped``, ``cancelled``);
- ``seconds|<step>``: wall time of succeeded runs, in seconds;
- ``failure|<step>|<code>``: failed attempts by error code.

Losing the hash resets counters to zero, which Prometheus expects of counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

HASH_KEY = "echo:step_metrics"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMetrics:
    """Counters since the hash began. Keys: (step, state), step, (step, error code)."""

    runs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[tuple[str, str], float] = field(default_factory=dict)


class StepMetricsReader(Protocol):
    """Reads what all workers counted."""

    async def read(self) -> StepMetrics:
        """Raises ``UnavailableError``."""


def parse_step_metrics(fields: Iterable[tuple[str, str]]) -> StepMetrics:
    """The counters in a hash's fields; what it does not know, it leaves out."""
    runs: dict[tuple[str, str], float] = {}
    seconds: dict[str, float] = {}
    failures: dict[tuple[str, str], float] = {}
    for name, value in fields:
        match name.split("|"):
            case ["count", step, state]:
                runs[step, state] = float(value)
            case ["seconds", step]:
                seconds[step] = float(value)
            case ["failure", step, code]:
                failures[step, code] = float(value)
    return StepMetrics(runs=runs, seconds=seconds, failures=failures)
