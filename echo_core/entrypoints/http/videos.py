"""Videos over HTTP."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from echo_core.application.playback import playback_urls
from echo_core.application.ports import VideoQuery
from echo_core.application.videos import MetadataCommand, delete_video, get_details, list_videos, update_metadata
from echo_core.domain.ids import VideoId
from echo_core.domain.videos import Chapter, VideoStatus
from echo_core.entrypoints.http import examples, responses, views
from echo_core.entrypoints.http.operations import Answer, Operation
from echo_core.entrypoints.http.parameters import (
    decode_cursor,
    encode_cursor,
    entity_tag,
    expected_versions,
    path_uuid,
    read_body,
    read_query,
)
from echo_core.entrypoints.http.request_ids import current_request_id
from echo_core.entrypoints.http.requests import MetadataRequest, VideoListQuery
from echo_core.entrypoints.http.state import api_state, services_of, user_of


async def _list(request: Request) -> Response:
    state = api_state(request)
    query = read_query(request, VideoListQuery)
    page = await list_videos(
        state.services,
        user_of(request),
        VideoQuery(limit=query.limit, before=decode_cursor(query.cursor), status=query.status, text=query.q.strip()),
    )
    poster_url = state.playback_addresses.posters(user_of(request).id)
    return responses.json_response(
        responses.VideoList(
            items=[views.video_item(video, poster_url) for video in page.videos],
            next_cursor=encode_cursor(page.next_before),
        )
    )


async def _details(request: Request) -> Response:
    state = api_state(request)
    video_id = VideoId(path_uuid(request, "videoId"))
    details = await get_details(state.services, user_of(request), video_id)
    urls = playback_urls(
        state.services.limits.public_url,
        details.video,
        state.playback_addresses.token(details.video.owner_id, video_id),
        details.artefacts,
        has_source=details.video.status is not VideoStatus.AWAITING_UPLOAD,
    )
    return responses.json_response(
        views.video_details(details, urls), headers={"ETag": entity_tag(details.video.version)}
    )


async def _update(request: Request) -> Response:
    video_id = VideoId(path_uuid(request, "videoId"))
    body = await read_body(request, MetadataRequest)
    chapters = body.chapters
    video = await update_metadata(
        services_of(request),
        user_of(request),
        video_id,
        MetadataCommand(
            title=body.title,
            description=body.description,
            tags=body.tags,
            language=body.language,
            visibility=body.visibility,
            poster=body.poster,
            chapters=tuple(Chapter(start_s=c.start_seconds, title=c.title) for c in chapters)
            if chapters is not None
            else None,
            expected_versions=expected_versions(request.headers.getlist("if-match")),
        ),
    )
    return responses.json_response(views.video(video), headers={"ETag": entity_tag(video.version)})


async def _delete(request: Request) -> Response:
    await delete_video(
        services_of(request),
        user_of(request),
        VideoId(path_uuid(request, "videoId")),
        correlation_id=current_request_id(),
    )
    return Response(status_code=204)


def _list_operation(operation_id: str, path: str, summary: str) -> Operation:
    return Operation(
        id=operation_id,
        method="GET",
        path=path,
        handler=_list,
        summary=summary,
        description="The caller's own, newest first. Pass `nextCursor` as `cursor` for the next page.",
        tag="videos",
        query=VideoListQuery,
        answers={200: Answer(description="A page.", model=responses.VideoList, example=examples.VIDEO_LIST)},
        problems={400: ("invalid_cursor",), 422: ("validation_failed",)},
    )


OPERATIONS = (
    _list_operation("listVideos", "/api/v1/videos", "List videos"),
    _list_operation("listMyVideos", "/api/v1/users/me/videos", "List my videos"),
    Operation(
        id="getVideoDetails",
        method="GET",
        path="/api/v1/videos/{videoId}/details",
        handler=_details,
        summary="Everything about a video",
        description=(
            "The video, its job with steps, media facts, renditions, and addresses to play it. Addresses carry a "
            "playback token, so that players and `<img>` can open them; read the details again when they have expired."
        ),
        tag="videos",
        answers={
            200: Answer(
                description="The video.",
                model=responses.VideoDetails,
                example=examples.VIDEO_DETAILS,
                headers={"ETag": "The metadata's version, for If-Match."},
            )
        },
        problems={404: ("not_found",)},
    ),
    Operation(
        id="updateVideoMetadata",
        method="PUT",
        path="/api/v1/videos/{videoId}/metadata",
        handler=_update,
        summary="Change what a video says about itself",
        description=(
            "Fields that are absent stay. A field that this changes counts as edited by a person, and no machine "
            "overwrites it again. With `If-Match` the change is made only to the version that the caller has read "
            "(else 412); without it, the last one wins."
        ),
        tag="videos",
        body=MetadataRequest,
        body_example=examples.METADATA_REQUEST,
        request_headers={"If-Match": "The ETag of the version that is being changed."},
        answers={
            200: Answer(
                description="The video as it is now.",
                model=responses.Video,
                example=examples.VIDEO,
                headers={"ETag": "The new version."},
            )
        },
        problems={
            400: ("invalid_if_match",),
            404: ("not_found",),
            412: ("version_mismatch",),
            422: ("invalid_chapters", "unknown_poster"),
        },
    ),
    Operation(
        id="deleteVideo",
        method="DELETE",
        path="/api/v1/videos/{videoId}",
        handler=_delete,
        summary="Delete a video",
        description="It is gone at once; its job is cancelled and every stored object removed in the background.",
        tag="videos",
        answers={204: Answer(description="It is gone.")},
        problems={404: ("not_found",)},
    ),
)
