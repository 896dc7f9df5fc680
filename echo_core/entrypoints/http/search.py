"""Search over HTTP."""

from __future__ import annotations

import base64
import math
import struct
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from echo_core.application.searching import search
from echo_core.domain.ids import VideoId
from echo_core.domain.searches import SearchCursor
from echo_core.entrypoints.http import examples, responses, views
from echo_core.entrypoints.http.errors import RequestError
from echo_core.entrypoints.http.operations import Answer, Operation
from echo_core.entrypoints.http.parameters import read_query
from echo_core.entrypoints.http.requests import SearchParameters
from echo_core.entrypoints.http.state import api_state, user_of

_CURSOR = struct.Struct(">?d16s16s")


async def _search(request: Request) -> Response:
    state = api_state(request)
    asked = read_query(request, SearchParameters)
    page = await search(
        state.services, user_of(request), asked.q, limit=asked.limit, after=decode_search_cursor(asked.cursor)
    )
    poster_url = state.playback_addresses.posters(user_of(request).id)
    return responses.json_response(
        responses.SearchResults(
            items=[views.found_video(result, poster_url) for result in page.results],
            next_cursor=encode_search_cursor(page.after) if page.after is not None else None,
            semantic=page.semantic,
        )
    )


def encode_search_cursor(after: SearchCursor) -> str:
    """An opaque cursor for the page that follows."""
    raw = _CURSOR.pack(after.semantic, after.score, after.video_id.bytes, after.known_at.bytes)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_search_cursor(cursor: str | None) -> SearchCursor | None:
    """Raises ``RequestError`` 400 (``invalid_cursor``)."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        semantic, score, video_id, known_at = _CURSOR.unpack(raw)
    except (ValueError, struct.error):
        score = math.nan
    if math.isfinite(score):
        after = SearchCursor(
            semantic=semantic,
            score=score,
            video_id=VideoId(UUID(bytes=video_id)),
            known_at=VideoId(UUID(bytes=known_at)),
        )
        if encode_search_cursor(after) == cursor:
            return after
    raise RequestError(
        400, "invalid_cursor", "This cursor was not given out by this search.", "Begin again without a cursor."
    )


OPERATIONS = (
    Operation(
        id="search",
        method="GET",
        path="/api/v1/search",
        handler=_search,
        summary="Search in videos",
        description=(
            "The caller's videos that match in title, tags, description or in what is said, in this order, newest "
            'first within each; `hits` tell the second. `q` takes words, `"phrases"`, `or` between alternatives, and '
            "`-` before what must not be anywhere in the video. Where an AI provider can compare meanings, what is "
            "near in meaning is found too (`semantic`). Texts come in parts, never as HTML."
        ),
        tag="videos",
        query=SearchParameters,
        answers={200: Answer(description="A page.", model=responses.SearchResults, example=examples.SEARCH_RESULTS)},
        problems={400: ("invalid_cursor",), 422: ("validation_failed", "empty_search"), 503: ("search_changed",)},
    ),
)
