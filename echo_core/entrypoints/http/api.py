"""Everything that the kernel serves over HTTP, in one list."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from echo_core.entrypoints.http import (
    captions,
    jobs,
    playback,
    search,
    suggestions,
    system,
    uploads,
    videos,
    watching,
)
from echo_core.entrypoints.http.openapi import openapi_document, openapi_text
from echo_core.entrypoints.http.operations import Answer, Operation
from echo_core.entrypoints.http.responses import WsTicket


async def _not_wired(request: Request) -> Response:
    raise NotImplementedError("the route of tickets comes with the WebSocket")


WS_TICKET = Operation(
    id="createWsTicket",
    method="POST",
    path="/api/v1/ws-tickets",
    handler=_not_wired,
    summary="A ticket for one WebSocket connection",
    description=(
        "For tools that cannot send a message first: single use, good for some seconds. A repeated request gets a "
        "ticket of its own, also under the same Idempotency-Key: a ticket that was used is worth nothing."
    ),
    tag="realtime",
    answer_is_kept=False,
    answers={
        201: Answer(
            description="The ticket; it is a secret.",
            model=WsTicket,
            example={"ticket": "example", "expiresAt": "2026-03-14T15:09:56Z"},
        )
    },
)
"""Served by the routes of the WebSocket; here for the document, and for Idempotency-Key."""

KERNEL_OPERATIONS = (
    *videos.OPERATIONS,
    *search.OPERATIONS,
    *uploads.OPERATIONS,
    *jobs.OPERATIONS,
    *captions.OPERATIONS,
    *suggestions.OPERATIONS,
    *playback.OPERATIONS,
    *watching.OPERATIONS,
    *system.OPERATIONS,
)
"""In the order in which they are matched: the hottest first."""
ALL_OPERATIONS = (*KERNEL_OPERATIONS, WS_TICKET)


@functools.cache
def kernel_openapi() -> Mapping[str, object]:
    """The document of every instance; made once, since the models' schemas take a tenth of a second."""
    return openapi_document(ALL_OPERATIONS)


def committed_openapi() -> str:
    """The text of ``openapi.json``."""
    return openapi_text(ALL_OPERATIONS)
