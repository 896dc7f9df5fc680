"""Events: what happened, told after it was committed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from echo_core.plugin_api.json import JsonObject


@dataclass(frozen=True, kw_only=True)
class Event:
    """One committed state change. ``sequence`` is gapless and increasing per owner; ``type`` is ``noun.verb_past``.

    Types: ``video.created``, ``video.updated``, ``video.deleted``, ``job.queued``, ``job.running``, ``job.succeeded``,
    ``job.failed``, ``job.cancelled``, and ``step.<state>`` for every state a step reaches.
    """

    sequence: int
    type: str
    owner_id: UUID
    video_id: UUID
    at: datetime
    job_id: UUID | None = None
    step: str | None = None
    state: str | None = None
    facts: JsonObject = field(default_factory=dict)


class EventHandler(ABC):
    """Reacts to events. Runs after the commit, at most once for each event, under a timeout; it cannot veto, and an
    error or a hang in it is logged and touches nothing else."""

    @abstractmethod
    async def handle(self, event: Event) -> None:
        """React to one event."""
