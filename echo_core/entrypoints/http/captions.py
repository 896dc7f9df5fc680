"""Captions over HTTP."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from echo_core.application.captions import (
    CaptionsCommand,
    NewCaptions,
    add_captions,
    change_captions,
    get_captions,
    list_captions,
    remove_captions,
)
from echo_core.application.playback import stream_url
from echo_core.domain.captions import Cue
from echo_core.domain.ids import VideoId
from echo_core.entrypoints.http import examples, responses, views
from echo_core.entrypoints.http.operations import Answer, Operation
from echo_core.entrypoints.http.parameters import entity_tag, expected_versions, path_uuid, read_body
from echo_core.entrypoints.http.requests import CaptionsRequest, CaptionsUploadRequest
from echo_core.entrypoints.http.state import api_state, services_of, user_of

PATH = "/api/v1/videos/{videoId}/captions"


def _video_id(request: Request) -> VideoId:
    return VideoId(path_uuid(request, "videoId"))


async def _list(request: Request) -> Response:
    state, video_id = api_state(request), _video_id(request)
    user = user_of(request)
    tracks = await list_captions(state.services, user, video_id)
    token = state.playback_addresses.token(user.id, video_id)
    public_url = state.services.limits.public_url
    items = views.captions(tracks, lambda part: stream_url(public_url, video_id, part, token))
    return responses.json_response(responses.CaptionList(items=items))


async def _get(request: Request) -> Response:
    track = await get_captions(services_of(request), user_of(request), _video_id(request), request.path_params["name"])
    return responses.json_response(views.caption_track(track), headers={"ETag": entity_tag(track.version)})


async def _add(request: Request) -> Response:
    body = await read_body(request, CaptionsUploadRequest)
    track = await add_captions(
        services_of(request),
        user_of(request),
        _video_id(request),
        NewCaptions(text=body.text, language=body.language, title=body.title, name=body.name or ""),
    )
    return responses.json_response(views.caption_track(track), 201, headers={"ETag": entity_tag(track.version)})


async def _change(request: Request) -> Response:
    body = await read_body(request, CaptionsRequest)
    cues = None
    if body.cues is not None:
        cues = tuple(Cue(start_s=c.start_seconds, end_s=c.end_seconds, text=c.text) for c in body.cues)
    track = await change_captions(
        services_of(request),
        user_of(request),
        _video_id(request),
        request.path_params["name"],
        CaptionsCommand(
            cues=cues,
            language=body.language,
            title=body.title,
            expected_versions=expected_versions(request.headers.getlist("if-match")),
        ),
    )
    return responses.json_response(views.caption_track(track), headers={"ETag": entity_tag(track.version)})


async def _remove(request: Request) -> Response:
    await remove_captions(services_of(request), user_of(request), _video_id(request), request.path_params["name"])
    return Response(status_code=204)


OPERATIONS = (
    Operation(
        id="listCaptions",
        method="GET",
        path=PATH,
        handler=_list,
        summary="All captions of a video",
        description="With the addresses of their files, which carry a playback token.",
        tag="captions",
        answers={200: Answer(description="The captions.", model=responses.CaptionList, example=examples.CAPTION_LIST)},
        problems={404: ("not_found",)},
    ),
    Operation(
        id="addCaptions",
        method="POST",
        path=PATH,
        handler=_add,
        summary="Upload captions",
        description="The whole of a WebVTT or SubRip file as `text`; which of them it is, is seen from the text.",
        tag="captions",
        body=CaptionsUploadRequest,
        body_example=examples.CAPTIONS_UPLOAD,
        answers={
            201: Answer(
                description="The captions.",
                model=responses.CaptionTrack,
                example=examples.CAPTION_TRACK,
                headers={"ETag": "Their version, for If-Match."},
            )
        },
        problems={404: ("not_found",), 409: ("captions_exist", "too_many_captions"), 422: ("invalid_captions",)},
    ),
    Operation(
        id="getCaptions",
        method="GET",
        path=f"{PATH}/{{name}}",
        handler=_get,
        summary="Captions with their text",
        tag="captions",
        answers={
            200: Answer(
                description="The captions.",
                model=responses.CaptionTrack,
                example=examples.CAPTION_TRACK,
                headers={"ETag": "Their version, for If-Match."},
            )
        },
        problems={404: ("not_found",)},
    ),
    Operation(
        id="changeCaptions",
        method="PUT",
        path=f"{PATH}/{{name}}",
        handler=_change,
        summary="Change captions",
        description=(
            "All `cues`, in order; fields that are absent stay. No machine changes them again. With `If-Match` the "
            "change is made only to the version that the caller has read (else 412)."
        ),
        tag="captions",
        body=CaptionsRequest,
        body_example=examples.CAPTIONS_CHANGE,
        request_headers={"If-Match": "The ETag of the version that is being changed."},
        answers={
            200: Answer(
                description="The captions as they are now.",
                model=responses.CaptionTrack,
                example=examples.CAPTION_TRACK,
                headers={"ETag": "The new version."},
            )
        },
        problems={
            400: ("invalid_if_match",),
            404: ("not_found",),
            412: ("version_mismatch",),
            422: ("invalid_captions",),
        },
    ),
    Operation(
        id="deleteCaptions",
        method="DELETE",
        path=f"{PATH}/{{name}}",
        handler=_remove,
        summary="Delete captions",
        description="Of captions that came inside the file, only what was edited: the file's own are there again then.",
        tag="captions",
        answers={204: Answer(description="They are gone.")},
        problems={404: ("not_found",), 409: ("captions_embedded",)},
    ),
)
