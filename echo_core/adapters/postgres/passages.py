"""Passages and their vectors. Their texts are written by triggers (migration 0019)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Integer, Text, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, REAL

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.adapters.postgres.values import storable_text
from echo_core.domain.ids import VideoId
from echo_core.domain.searches import Passage

_UNEMBEDDED = Query(
    text(
        "select video_id, track, number, text from echo.passages where video_id = :video_id "
        "and (embedding is null or (:space <> '' and embedding_space <> :space)) and text <> '' "
        "order by track, number limit :most"
    ).bindparams(bindparam("video_id", type_=Uuid), bindparam("space", type_=Text), bindparam("most", type_=Integer))
)
# The text once more: what was edited meanwhile keeps no vector of what it was.
_PUT = text(
    "update echo.passages set embedding = :vector, embedding_space = :space "
    "where video_id = :video_id and track = :track and number = :number and text = :written"
).bindparams(
    bindparam("video_id", type_=Uuid),
    bindparam("vector", type_=ARRAY(REAL)),
    bindparam("number", type_=Integer),
    *(bindparam(name, type_=Text) for name in ("space", "track", "written")),
)


class PostgresPassageRepository:
    """``PassageRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def list_unembedded(self, video_id: VideoId, space: str, limit: int) -> Sequence[Passage]:
        """Those of a video without a vector of this space, in order."""
        rows = await self._tx.fetch(_UNEMBEDDED, video_id=video_id, space=space, most=limit)
        return [
            Passage(video_id=VideoId(row["video_id"]), track=row["track"], number=row["number"], text=row["text"])
            for row in rows
        ]

    async def put_embeddings(self, passages: Sequence[Passage], space: str, vectors: Sequence[Sequence[float]]) -> None:
        """Keep a vector for each, unless its text has changed meanwhile."""
        await self._tx.execute(
            _PUT,
            [
                {
                    "video_id": passage.video_id,
                    "track": passage.track,
                    "number": passage.number,
                    "written": passage.text,
                    "space": storable_text(space),
                    "vector": list(vector),
                }
                for passage, vector in zip(passages, vectors, strict=True)
            ],
        )
