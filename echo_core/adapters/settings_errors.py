"""What is wrong with a configuration, and where each value came from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from echo_core.plugin_api.errors import EchoError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from. A higher ``rank`` wins; ``is_text``: the source knows only strings."""

    rank: int
    text: str
    is_text: bool = False


class Origins:
    """The origin of every key that some source has set, by dotted key."""

    def __init__(self) -> None:
        self._by_key: dict[str, Origin] = {}

    def record(self, key: str, origin: Origin) -> None:
        """Say that ``key``, and all below it, now comes from there."""
        for old in [k for k in self._by_key if k.startswith(f"{key}.")]:
            del self._by_key[old]
        self._by_key[key] = origin

    def of(self, key: str) -> Origin | None:
        """The origin of exactly this key or, failing that, of the nearest table above it."""
        while key:
            if (origin := self._by_key.get(key)) is not None:
                return origin
            key = key.rpartition(".")[0]
        return None

    def describe(self, key: str) -> str:
        """Where this key, or for a table its keys, came from; empty if no source has set it."""
        below = dict.fromkeys(o.text for k, o in self._by_key.items() if k.startswith(f"{key}."))
        if key not in self._by_key and below:
            return ", ".join(below)
        origin = self.of(key)
        return origin.text if origin is not None else ""


@dataclass(frozen=True, slots=True)
class ConfigurationIssue:
    """One problem: the full dotted key (or a file), a sentence that never holds a value, and the key's origin."""

    key: str
    problem: str
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}" + (f" (from {self.origin})" if self.origin else "")


class ConfigurationError(EchoError):
    """Echo cannot work as configured. ``issues`` holds everything that is wrong, not only the first thing."""

    default_code = "configuration_invalid"
    default_remedy = "Correct these settings and start again; docs/configuration.md explains every key."

    def __init__(self, issues: Iterable[ConfigurationIssue]) -> None:
        self.issues = tuple(issues)
        count = "a problem" if len(self.issues) == 1 else f"{len(self.issues)} problems"
        super().__init__("\n  ".join((f"The configuration has {count}:", *map(str, self.issues))))

    def __iter__(self) -> Iterator[ConfigurationIssue]:
        return iter(self.issues)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean …?"`` with the nearest known name, or nothing when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
