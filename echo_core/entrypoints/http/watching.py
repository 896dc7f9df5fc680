"""Watching over HTTP: what the page of an unlisted or public video shows to anybody."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from echo_core.application.playback import playback_urls
from echo_core.application.watching import ANYBODY, get_watch_page
from echo_core.domain.ids import VideoId
from echo_core.entrypoints.http import examples, responses, views
from echo_core.entrypoints.http.operations import Answer, Operation
from echo_core.entrypoints.http.parameters import path_uuid
from echo_core.entrypoints.http.state import api_state


async def _watch(request: Request) -> Response:
    state = api_state(request)
    video_id = VideoId(path_uuid(request, "videoId"))
    page = await get_watch_page(state.services, video_id)
    urls = playback_urls(
        state.services.limits.public_url,
        page.video,
        state.playback_addresses.token(ANYBODY, video_id),
        page.artefacts,
        has_source=False,
    )
    return responses.json_response(views.watch_page(page, urls))


OPERATIONS = (
    Operation(
        id="getWatchPage",
        method="GET",
        path="/api/v1/watch/{videoId}",
        handler=_watch,
        summary="A video for whoever knows its address",
        description=(
            "Unlisted and public videos that can be played, without a token. Its addresses carry a playback token that "
            "plays the video until it expires or the video becomes private. Every other video is the same 404."
        ),
        tag="playback",
        auth="none",
        answers={200: Answer(description="The video.", model=responses.WatchPage, example=examples.WATCH_PAGE)},
        problems={404: ("not_found",)},
    ),
)
