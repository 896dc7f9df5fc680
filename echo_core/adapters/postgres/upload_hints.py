"""Hints that the object of an upload has arrived: the one thing that is changed in nobody's name (docs/adr/0021)."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres.transaction import fetch_alone
from echo_core.domain.ids import VideoId

_HINT = "select echo.hint_upload($1, $2)"


async def hint_upload(engine: AsyncEngine, video_id: VideoId, key: str) -> None:
    """A worker looks for the object of this upload at once, if it is open and has exactly this key."""
    await fetch_alone(engine, _HINT, video_id, key)
