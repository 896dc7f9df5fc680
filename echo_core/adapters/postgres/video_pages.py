"""Lists of videos: the hottest read, in one round trip (docs/adr/0007)."""

from __future__ import annotations

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres.transaction import claims_of, fetch_alone
from echo_core.adapters.postgres.values import storable_text
from echo_core.application.ports import VideoQuery
from echo_core.domain.users import User
from echo_core.domain.videos import VideoPage, VideoSummary

_LIST = "select echo.list_videos($1, $2, $3, $4, $5)"
_rows = msgspec.json.Decoder(list[VideoSummary])


async def list_videos(engine: AsyncEngine, user: User, query: VideoQuery) -> VideoPage:
    """One page, newest first, tombstones left out. ``percent`` is told while a processing job goes on."""
    page = await fetch_alone(
        engine,
        _LIST,
        claims_of(user),
        query.limit + 1,
        query.before,
        query.status.value if query.status is not None else None,
        _pattern(storable_text(query.text)) if query.text else None,
    )
    videos = _rows.decode(page)
    more = len(videos) > query.limit
    del videos[query.limit :]
    return VideoPage(videos=tuple(videos), next_before=videos[-1].id if more and videos else None)


def _pattern(text: str) -> str:
    """The text as an ``ilike`` pattern for "contains", with nothing in it special."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
