"""What AI took, as whoever's videos it was for sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from echo_core.application.services import ApiServices
from echo_core.domain.ai_calls import AICallRecord, AIDay, AITotals
from echo_core.domain.ids import VideoId
from echo_core.domain.users import User


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoUsage:
    """The newest calls for a video, and the sums of all."""

    calls: Sequence[AICallRecord]
    totals: AITotals


@dataclass(frozen=True, kw_only=True, slots=True)
class UserUsage:
    """By day and model, newest day first; ``today`` by the database's clock (UTC)."""

    today: date
    days: Sequence[AIDay]

    def of(self, day: date) -> AITotals:
        """The sums of one day."""
        return sum((one.totals for one in self.days if one.day == day), AITotals())


async def usage_of_video(services: ApiServices, user: User, video_id: VideoId) -> VideoUsage:
    """Raises ``UnknownEntityError``."""
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)
        calls = await uow.ai_calls.list_for_video(video_id)
        return VideoUsage(calls=calls, totals=await uow.ai_calls.totals(video_id))


async def usage_of_user(services: ApiServices, user: User, days: int) -> UserUsage:
    """Of the last so many days, today included."""
    async with services.units_of_work.for_user(user) as uow:
        found = await uow.ai_calls.days(user.id, days)
        return UserUsage(today=(await uow.jobs.now()).date(), days=found)
