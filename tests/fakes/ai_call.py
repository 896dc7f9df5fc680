"""The surroundings of one AI request, kept in a file: what a killed process remembered, the next one recalls."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Literal

from echo_core.plugin_api import JsonObject, QuotaExceededError, Usage


class StoredReservation:
    """One reservation; ``state`` is open, settled or released."""

    def __init__(self, at_most: Usage) -> None:
        self.at_most = at_most
        self.state: Literal["open", "settled", "released"] = "open"
        self.usage = at_most

    async def settle(self, usage: Usage) -> None:
        """What it took."""
        self.state, self.usage = "settled", usage

    async def release(self) -> None:
        """It took nothing."""
        self.state, self.usage = "released", Usage()


class StoredCall:
    """An ``AICall`` over a directory, with a budget of its own."""

    def __init__(self, directory: Path, budget_usd: float = 100.0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.budget_usd = budget_usd
        self.reservations: list[StoredReservation] = []
        self.progress: list[float] = []
        with closing(self._open()) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS remembered (key TEXT PRIMARY KEY, value TEXT)")

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.directory / "remembered.sqlite")

    @property
    def scratch(self) -> Path:
        """A directory for parts."""
        scratch = self.directory / "scratch"
        scratch.mkdir(exist_ok=True)
        return scratch

    @property
    def spent_usd(self) -> float:
        """What counts as spent."""
        return sum(one.usage.cost_usd for one in self.reservations)

    @asynccontextmanager
    async def reserve(self, at_most: Usage) -> AsyncIterator[StoredReservation]:
        """Set aside, or refuse."""
        if self.spent_usd + at_most.cost_usd > self.budget_usd:
            raise QuotaExceededError("The budget of this video is spent.", code="ai_budget_video")
        reservation = StoredReservation(at_most)
        self.reservations.append(reservation)
        yield reservation

    async def recall(self, key: str) -> JsonObject | None:
        """What was remembered."""
        with closing(self._open()) as database:
            found = database.execute("SELECT value FROM remembered WHERE key = ?", (key,)).fetchone()
        value: Mapping[str, Any] | None = json.loads(found[0]) if found else None
        return value

    async def remember(self, key: str, value: JsonObject) -> None:
        """Keep it."""
        with closing(self._open()) as database, database:
            database.execute("INSERT OR REPLACE INTO remembered VALUES (?, ?)", (key, json.dumps(value)))

    def remembered(self) -> list[str]:
        """All keys."""
        with closing(self._open()) as database:
            return [row[0] for row in database.execute("SELECT key FROM remembered ORDER BY key")]

    def report_progress(self, fraction: float) -> None:
        """Keep it for the test."""
        self.progress.append(fraction)


class DeclaredSpeech:
    """Sound that says of itself which part of the video it is, for the fake of Gemini."""

    def __init__(self, directory: Path, duration_s: float) -> None:
        self._directory = directory
        self._duration_s = duration_s
        self.cuts: list[tuple[float, float]] = []
        self.declared_end_s: float | None = None

    @property
    def duration_s(self) -> float:
        """Length of the video."""
        return self._duration_s

    async def cut(
        self, start_s: float = 0.0, end_s: float | None = None, codec: Literal["wav", "opus"] = "wav"
    ) -> Path:
        """A file that declares its part."""
        end = self._duration_s if end_s is None else end_s
        self.cuts.append((start_s, end))
        path = self._directory / f"{start_s:g}-{end:g}.{'ogg' if codec == 'opus' else 'wav'}"
        path.write_bytes(
            json.dumps({"start_s": start_s, "end_s": self.declared_end_s or end}).encode() + b"\n" + bytes(256)
        )
        return path
