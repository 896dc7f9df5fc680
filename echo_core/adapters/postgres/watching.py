"""Whose a video is that anybody may watch: the one thing that is read in nobody's name (docs/adr/0018)."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres.transaction import fetch_alone
from echo_core.domain.ids import UserId, VideoId

_OWNER = "select echo.watchable_owner($1)"


async def watchable_owner(engine: AsyncEngine, video_id: VideoId) -> UserId | None:
    """The owner of an unlisted or public video; None for any other, and for one that was deleted."""
    owner_id = await fetch_alone(engine, _OWNER, video_id)
    return UserId(owner_id) if owner_id is not None else None
