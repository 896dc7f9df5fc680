"""What workers count about their steps, for whoever scrapes the API.

Workers add to one hash. Its fields are ``count|<step>|<resource>|<outcome>|<code>`` (runs that ended so) and
``seconds|<step>|<resource>|<outcome>|<code>`` (their wall time); ``code`` is the error's, empty without one. Values
only grow; losing the hash resets them to zero, which Prometheus expects of counters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCount:
    """Runs of one step that ended in one way, and how long they took together."""

    step: str
    resource: str
    outcome: str
    code: str
    runs: float
    seconds: float


class StepMetricsReader(Protocol):
    """Reads what all workers counted."""

    async def read(self) -> Sequence[StepCount]:
        """Raises ``UnavailableError``."""


def parse_step_counts(fields: Mapping[str, str]) -> tuple[StepCount, ...]:
    """The counters in a hash's fields, ordered; fields of another form are left out."""
    values: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for name, value in fields.items():
        match name.split("|"):
            case [("count" | "seconds") as what, step, resource, outcome, code]:
                values.setdefault((step, resource, outcome, code), {})[what] = float(value)
    return tuple(
        StepCount(
            step=step,
            resource=resource,
            outcome=outcome,
            code=code,
            runs=counted.get("count", 0.0),
            seconds=counted.get("seconds", 0.0),
        )
        for (step, resource, outcome, code), counted in sorted(values.items())
    )
