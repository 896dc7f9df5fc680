"""Search, in one round trip (docs/adr/0026)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres.transaction import claims_of, fetch_alone
from echo_core.adapters.postgres.values import storable_text
from echo_core.domain.searches import Alternative, FoundVideo, SearchQuery
from echo_core.domain.users import User

MAX_CANDIDATES = 10_000
"""Matching passages that are ranked, of videos themselves and of captions each; the newest videos' come first."""

_SEARCH = "select echo.search($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
_rows = msgspec.json.Decoder(list[FoundVideo])


async def search(engine: AsyncEngine, user: User, query: SearchQuery) -> Sequence[FoundVideo]:
    """The caller's videos that match, best first, as many as the limit says."""
    question, after, vector = query.question, query.after, query.vector
    found = await fetch_alone(
        engine,
        _SEARCH,
        claims_of(user),
        *_arrays(question.wanted),
        *_arrays(question.unwanted),
        vector.values if vector is not None else None,
        vector.space if vector is not None else "",
        query.known_at,
        after.score if after is not None else None,
        after.video_id if after is not None else None,
        query.limit,
        MAX_CANDIDATES,
    )
    return _rows.decode(found)


def _arrays(alternatives: Sequence[Alternative]) -> tuple[list[str], list[str]]:
    return [storable_text(one.text) for one in alternatives], [one.pairs for one in alternatives]
