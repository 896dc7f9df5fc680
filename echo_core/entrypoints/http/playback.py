"""Playback over HTTP: playlists are ours, the bytes come from signed URLs of the storage."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from echo_core.application.playback import (
    get_captions_file,
    get_captions_playlist,
    get_captions_srt,
    get_master_playlist,
    get_media_playlist,
    get_poster_choice_url,
    get_poster_url,
    get_preview_url,
    get_sheet_url,
    get_source_url,
    get_storyboard_index,
)
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import VideoId
from echo_core.entrypoints.http import examples
from echo_core.entrypoints.http.operations import Answer, Auth, Operation
from echo_core.entrypoints.http.parameters import path_uuid, read_query
from echo_core.entrypoints.http.requests import CaptionsFileQuery, PlaybackQuery, PosterQuery, Query, SourceQuery
from echo_core.entrypoints.http.state import is_anybody, services_of, user_of
from echo_core.plugin_api.errors import InvalidRequestError
from echo_core.plugin_api.storage import ReadMethod, SignedUrl, validate_key

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
EMBEDDABLE = {"Cross-Origin-Resource-Policy": "cross-origin"}
"""Players and pictures stand in pages of other origins; what they load is behind a playback token."""
REDIRECT_CACHE = "private, max-age=60"
"""A browser that scrolls through posters asks again and again; a signed URL lives much longer than this."""


def _text(text: str, media_type: str) -> Response:
    # Playlists grow while a video is encoded, and hold secrets.
    return Response(text, media_type=media_type, headers={"Cache-Control": "private, no-store", **EMBEDDABLE})


def _redirect(signed: SignedUrl) -> Response:
    return Response(status_code=302, headers={"Location": signed.url, "Cache-Control": REDIRECT_CACHE, **EMBEDDABLE})


def _method(request: Request) -> ReadMethod:
    """What the client will send to where it is led: signatures may cover it."""
    return "HEAD" if request.method == "HEAD" else "GET"


def _video_id(request: Request) -> VideoId:
    return VideoId(path_uuid(request, "videoId"))


def _part_name(request: Request) -> str:
    """A name of the path; what no artefact can be called names nothing."""
    try:
        name = validate_key(request.path_params["name"])
    except InvalidRequestError:
        raise UnknownEntityError("This video has no such part.") from None
    return name


async def _master(request: Request) -> Response:
    read_query(request, PlaybackQuery)
    text = await get_master_playlist(
        services_of(request), user_of(request), _video_id(request), request.state.playback_token
    )
    return _text(text, PLAYLIST_TYPE)


async def _media(request: Request) -> Response:
    read_query(request, PlaybackQuery)
    text = await get_media_playlist(services_of(request), user_of(request), _video_id(request), _part_name(request))
    return _text(text, PLAYLIST_TYPE)


async def _poster(request: Request) -> Response:
    read_query(request, PosterQuery)
    return _redirect(await get_poster_url(services_of(request), user_of(request), _video_id(request), _method(request)))


async def _poster_choice(request: Request) -> Response:
    read_query(request, PlaybackQuery)
    return _redirect(
        await get_poster_choice_url(
            services_of(request), user_of(request), _video_id(request), _part_name(request), _method(request)
        )
    )


async def _preview(request: Request) -> Response:
    read_query(request, PlaybackQuery)
    return _redirect(
        await get_preview_url(services_of(request), user_of(request), _video_id(request), _method(request))
    )


async def _captions_playlist(request: Request) -> Response:
    read_query(request, PlaybackQuery)
    text = await get_captions_playlist(
        services_of(request), user_of(request), _video_id(request), _part_name(request), request.state.playback_token
    )
    return _text(text, PLAYLIST_TYPE)


async def _captions(request: Request) -> Response:
    query = read_query(request, CaptionsFileQuery)
    name = _part_name(request)
    found = await get_captions_file(
        services_of(request),
        user_of(request),
        _video_id(request),
        name,
        download=query.download,
        method=_method(request),
    )
    if not isinstance(found, str):
        return _redirect(found)
    return _saved(_text(found, "text/vtt"), f"{name}.vtt" if query.download else "")


async def _captions_srt(request: Request) -> Response:
    query = read_query(request, CaptionsFileQuery)
    name = _part_name(request)
    text = await get_captions_srt(services_of(request), user_of(request), _video_id(request), name)
    return _saved(_text(text, "application/x-subrip"), f"{name}.srt" if query.download else "")


def _saved(response: Response, filename: str) -> Response:
    """To be saved under a name, if there is one."""
    if filename:
        response.headers["Content-Disposition"] = f'attachment; filename="{quote(filename, safe="")}"'
    return response


async def _storyboard(request: Request) -> Response:
    read_query(request, PlaybackQuery)
    text = await get_storyboard_index(
        services_of(request), user_of(request), _video_id(request), request.state.playback_token
    )
    return _text(text, "text/vtt")


async def _sheet(request: Request) -> Response:
    read_query(request, PlaybackQuery)
    return _redirect(
        await get_sheet_url(
            services_of(request), user_of(request), _video_id(request), _part_name(request), _method(request)
        )
    )


async def _source(request: Request) -> Response:
    query = read_query(request, SourceQuery)
    if is_anybody(request):
        # The file as it came, with its name and whatever a camera wrote into it, is the owner's alone.
        raise UnknownEntityError("This video has no such part.")
    signed = await get_source_url(
        services_of(request), user_of(request), _video_id(request), download=query.download, method=_method(request)
    )
    return _redirect(signed)


def _operation(
    operation_id: str,
    part: str,
    handler: object,
    summary: str,
    answer: Answer,
    *,
    status: int = 200,
    description: str = "",
    query: type[Query] = PlaybackQuery,
    auth: Auth = "viewer",
) -> Operation:
    return Operation(
        id=operation_id,
        method="GET",
        path=f"/api/v1/stream/video/{{videoId}}{part}",
        handler=handler,  # type: ignore[arg-type]  # the handlers above
        summary=summary,
        description=description,
        tag="playback",
        auth=auth,
        query=query,
        answers={status: answer},
        problems={404: ("not_found",), **({409: ("video_not_playable",)} if part in {"", "/master.m3u8"} else {})},
    )


_REDIRECT = Answer(
    description="Read it there: a signed, expiring URL that answers `Range`.",
    media_type="",
    headers={"Location": "The signed URL."},
)

OPERATIONS = (
    _operation(
        "getMasterPlaylist",
        "/master.m3u8",
        _master,
        "HLS master playlist",
        Answer(description="The playlist.", media_type=PLAYLIST_TYPE, example=examples.MASTER_PLAYLIST),
        description="Grows while a video is encoded: it lists what can be played now.",
    ),
    _operation(
        "getMediaPlaylist",
        "/renditions/{name}.m3u8",
        _media,
        "HLS media playlist of one rendition",
        Answer(description="Byte ranges of one signed URL.", media_type=PLAYLIST_TYPE),
    ),
    _operation(
        "getCaptionsPlaylist",
        "/captions/{name}.m3u8",
        _captions_playlist,
        "HLS media playlist of captions",
        Answer(description="One WebVTT file.", media_type=PLAYLIST_TYPE),
    ),
    Operation(
        id="getCaptionsFile",
        method="GET",
        path="/api/v1/stream/video/{videoId}/captions/{name}.vtt",
        handler=_captions,
        summary="Captions as WebVTT",
        description="The text; of captions that came inside the file, a signed URL of it.",
        tag="playback",
        auth="viewer",
        query=CaptionsFileQuery,
        answers={200: Answer(description="The captions.", media_type="text/vtt"), 302: _REDIRECT},
        problems={404: ("not_found",)},
    ),
    _operation(
        "getCaptionsSrt",
        "/captions/{name}.srt",
        _captions_srt,
        "Captions as SubRip",
        Answer(description="The captions.", media_type="application/x-subrip"),
        query=CaptionsFileQuery,
    ),
    _operation(
        "getPoster",
        "/poster.jpg",
        _poster,
        "The poster",
        _REDIRECT,
        status=302,
        description="The one that the owner chose, else the best. Of unlisted and public videos without a token.",
        query=PosterQuery,
        auth="anybody",
    ),
    _operation(
        "getPosterChoice", "/posters/{name}", _poster_choice, "A picture to choose as poster", _REDIRECT, status=302
    ),
    _operation("getPreview", "/preview.webp", _preview, "A short moving picture", _REDIRECT, status=302),
    _operation(
        "getStoryboard",
        "/storyboard.vtt",
        _storyboard,
        "Which little picture to show over the seek bar",
        Answer(description="WebVTT; each cue is `address#xywh=x,y,w,h`.", media_type="text/vtt"),
    ),
    _operation("getStoryboardSheet", "/storyboard/{name}", _sheet, "A sheet of little pictures", _REDIRECT, status=302),
    _operation(
        "getSource",
        "",
        _source,
        "The uploaded file, progressively",
        _REDIRECT,
        status=302,
        description=(
            "Redirects to a signed URL of the uploaded file, whatever the storage: `Range`, `If-Range` and `HEAD` are "
            "answered there, so that no byte of a video passes through the API. `download=true` saves it by its name."
        ),
        query=SourceQuery,
    ),
)
