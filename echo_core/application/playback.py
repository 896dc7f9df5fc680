"""Playback: playlists and pictures of one video, for its owner or whoever holds a playback token."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote

from echo_core.application.ports import Tokens
from echo_core.application.services import ApiServices
from echo_core.domain.artefacts import (
    CAPTIONS_KIND,
    POSTER_KIND,
    PREVIEW_KIND,
    RENDITION_KIND,
    REPLACES_COPY,
    STORYBOARD_KIND,
    STORYBOARD_SHEET_KIND,
    Artefact,
)
from echo_core.domain.caption_tracks import CAPTIONS_SUFFIX, CaptionTrack, is_served_from_file, listed_tracks
from echo_core.domain.captions import to_srt, to_vtt
from echo_core.domain.errors import IllegalChangeError, UnknownEntityError
from echo_core.domain.ids import UserId, VideoId
from echo_core.domain.playlists import (
    AudioTrack,
    VideoVariant,
    captions_playlist,
    master_playlist,
    media_playlist,
    with_sheet_uris,
)
from echo_core.domain.playlists import (
    CaptionTrack as CaptionRendition,
)
from echo_core.domain.uploads import UploadState
from echo_core.domain.users import User
from echo_core.domain.videos import Video
from echo_core.plugin_api.storage import ReadMethod, ReadObject, ReadUrl, SignedUrl

MAX_STORYBOARD_INDEX_BYTES = 4 << 20
"""A cue takes about 80 bytes, so this is a storyboard of over 50,000 pictures: more is not ours."""
AT_ONCE_EXPIRES_IN_S = 900
"""Lifetime of addresses of pictures and captions, which nobody comes back to; media is read for as long as it plays."""
RENDITION_SUFFIX = ".mp4"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaybackUrls:
    """Where players find a video's parts, each with a playback token; None: not made (yet). ``of`` gives the address of
    a part by its name; ``poster`` is what ``poster_url`` shows."""

    of: Callable[[str], str]
    poster: Artefact | None
    playback_url: str | None
    poster_url: str | None
    preview_url: str | None
    storyboard_url: str | None
    source_url: str | None


class NotPlayableError(IllegalChangeError):
    """There is nothing to play yet."""

    default_code = "video_not_playable"
    default_remedy = "Wait until the video's status is playable or ready."


class PlaybackAddresses:
    """Mints playback tokens and the addresses of posters, and for a while the same ones for the same video.

    A list shows many posters: making each anew would cost more than reading the list, and addresses that change with
    every answer defeat the browser's cache. Keys are integers, since a ``UUID`` hashes in Python.
    """

    def __init__(
        self, tokens: Tokens, public_url: str, now_s: Callable[[], float], *, keep_s: float, max_kept: int = 8192
    ) -> None:
        self._tokens = tokens
        self._public_url = public_url
        self._now_s = now_s
        self._keep_s = keep_s
        self._max_kept = max_kept
        self._kept: OrderedDict[tuple[int, int], tuple[float, str, str]] = OrderedDict()

    def token(self, owner_id: UserId, video_id: VideoId) -> str:
        """A token that is good for at least its configured lifetime less ``keep_s``."""
        return self._entry(owner_id, video_id, self._now_s())[1]

    def posters(self, owner_id: UserId) -> Callable[[VideoId], str]:
        """What gives the address of a poster, for one answer."""
        now_s, owner = self._now_s(), owner_id.int
        kept = self._kept

        def poster(video_id: VideoId) -> str:
            entry = kept.get((owner, video_id.int))
            if entry is None or entry[0] <= now_s:
                entry = self._entry(owner_id, video_id, now_s)
            return entry[2]

        return poster

    def _entry(self, owner_id: UserId, video_id: VideoId, now_s: float) -> tuple[float, str, str]:
        key = (owner_id.int, video_id.int)
        entry = self._kept.get(key)
        if entry is None or entry[0] <= now_s:
            token = self._tokens.mint_playback(owner_id, video_id)
            entry = (now_s + self._keep_s, token, stream_url(self._public_url, video_id, "poster.jpg", token))
            self._kept[key] = entry
            self._kept.move_to_end(key)
            if len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)
        return entry


def stream_url(public_url: str, video_id: VideoId, part: str, token: str) -> str:
    """The absolute address of a part of a video. ``part`` is empty for the progressive file."""
    path = f"{public_url}/api/v1/stream/video/{video_id}"
    return f"{path}/{part}?token={quote(token, safe='')}" if part else f"{path}?token={quote(token, safe='')}"


def playback_urls(
    public_url: str, video: Video, token: str, artefacts: Sequence[Artefact], *, has_source: bool
) -> PlaybackUrls:
    """The addresses of what there is; ``has_source``: the upload is complete."""
    kinds = {a.kind for a in artefacts}
    poster = poster_of(video, artefacts)
    # A poster that was chosen has an address of its own: a browser does not show the one before it from its cache.
    poster_part = f"posters/{poster.name}" if poster is not None and video.poster else "poster.jpg"

    def of(part: str) -> str:
        return stream_url(public_url, video.id, part, token)

    def url(kind: str, part: str) -> str | None:
        return of(part) if kind in kinds else None

    return PlaybackUrls(
        of=of,
        poster=poster,
        playback_url=url(RENDITION_KIND, "master.m3u8"),
        poster_url=url(POSTER_KIND, poster_part),
        preview_url=url(PREVIEW_KIND, "preview.webp"),
        storyboard_url=url(STORYBOARD_KIND, "storyboard.vtt"),
        source_url=of("") if has_source else None,
    )


async def get_master_playlist(services: ApiServices, user: User, video_id: VideoId, token: str) -> str:
    """The master playlist; media playlists are relative to it and carry ``token``.

    Raises ``UnknownEntityError``, ``NotPlayableError``.
    """
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)
        artefacts = await uow.artefacts.list_for_video(video_id)
        tracks = await uow.caption_tracks.list_for_video(video_id)
    renditions = [a for a in artefacts if a.kind == RENDITION_KIND]
    query = f"?token={quote(token, safe='')}"

    def uri(artefact: Artefact) -> str:
        return f"renditions/{artefact.name.removesuffix(RENDITION_SUFFIX)}.m3u8{query}"

    variants = [_variant(a, uri(a)) for a in offered([a for a in renditions if a.facts.get("type") == "video"])]
    sounds = sorted((a for a in renditions if a.facts.get("type") == "audio"), key=_in_number_order)
    audio = [_audio(a, uri(a)) for a in sounds]
    if not variants and not audio:
        raise NotPlayableError("Nothing of this video can be played yet.")
    captions = listed_tracks(tracks, artefacts)
    return master_playlist(
        variants, audio, [_caption(track, f"captions/{track.name}.m3u8{query}") for track in captions]
    )


def offered(pictures: Sequence[Artefact]) -> list[Artefact]:
    """Without the copy of a source that turned out to be damaged: players would stop in it."""
    replaced = any(a.facts.get(REPLACES_COPY) for a in pictures)
    return [a for a in pictures if not (replaced and a.facts.get("copied"))]


def _in_number_order(artefact: Artefact) -> tuple[int, str]:
    """``audio``, ``audio-2``, … ``audio-10``."""
    return len(artefact.name), artefact.name


def _caption(track: CaptionTrack, uri: str) -> CaptionRendition:
    return CaptionRendition(uri=uri, language=track.language, title=track.title, forced=track.forced)


def _variant(artefact: Artefact, uri: str) -> VideoVariant:
    return VideoVariant(
        uri=uri,
        codecs=str(artefact.facts.get("codecs", "")),
        peak_bitrate_bps=int(_number(artefact, "peak_bitrate_bps")),
        average_bitrate_bps=int(_number(artefact, "average_bitrate_bps")),
        width=int(_number(artefact, "width")),
        height=int(_number(artefact, "height")),
        fps=_number(artefact, "fps"),
    )


def _audio(artefact: Artefact, uri: str) -> AudioTrack:
    return AudioTrack(
        uri=uri,
        codecs=str(artefact.facts.get("codecs", "")),
        peak_bitrate_bps=int(_number(artefact, "peak_bitrate_bps")),
        average_bitrate_bps=int(_number(artefact, "average_bitrate_bps")),
        channels=int(_number(artefact, "channels")),
        language=str(artefact.facts.get("language", "")),
        title=str(artefact.facts.get("title", "")),
    )


def _number(artefact: Artefact, fact: str) -> float:
    value = artefact.facts.get(fact)
    return float(value) if isinstance(value, int | float) else 0.0


async def get_media_playlist(services: ApiServices, user: User, video_id: VideoId, name: str) -> str:
    """The playlist of one rendition, with a signed URL of its bytes. Raises ``UnknownEntityError``."""
    artefact = await _find(services, user, video_id, RENDITION_KIND, name + RENDITION_SUFFIX)
    if not artefact.segments:
        raise UnknownEntityError("This rendition has no segments.")
    signed = await _signed(services, artefact)
    return media_playlist(signed.url, artefact.init_length_bytes, artefact.segments)


async def get_poster_url(services: ApiServices, user: User, video_id: VideoId, method: ReadMethod = "GET") -> SignedUrl:
    """A signed URL of the poster. Raises ``UnknownEntityError``."""
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id)
        artefacts = await uow.artefacts.list_for_video(video_id)
    poster = poster_of(video, artefacts)
    if poster is None:
        raise UnknownEntityError("This video has no poster (yet).")
    return await _loaded_at_once(services, poster, method)


def posters_of(artefacts: Sequence[Artefact]) -> list[Artefact]:
    """The pictures to choose from, in order of time."""
    return sorted((a for a in artefacts if a.kind == POSTER_KIND), key=_in_number_order)


def poster_name(artefact: Artefact) -> str:
    """What a picture to choose from is called."""
    return artefact.name.rpartition(".")[0] or artefact.name


def poster_of(video: Video, artefacts: Sequence[Artefact]) -> Artefact | None:
    """The chosen picture while it is there, else the best one."""
    posters = posters_of(artefacts)
    chosen = next((a for a in posters if poster_name(a) == video.poster), None)
    return chosen or max(posters, key=lambda a: _number(a, "score"), default=None)


async def get_poster_choice_url(
    services: ApiServices, user: User, video_id: VideoId, name: str, method: ReadMethod = "GET"
) -> SignedUrl:
    """A signed URL of one of the pictures to choose from. Raises ``UnknownEntityError``."""
    return await _loaded_at_once(services, await _find(services, user, video_id, POSTER_KIND, name), method)


async def get_preview_url(
    services: ApiServices, user: User, video_id: VideoId, method: ReadMethod = "GET"
) -> SignedUrl:
    """A signed URL of the moving picture. Raises ``UnknownEntityError``."""
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)
        artefacts = await uow.artefacts.list_for_video(video_id)
    preview = next((a for a in artefacts if a.kind == PREVIEW_KIND), None)
    if preview is None:
        raise UnknownEntityError("This video has no preview (yet).")
    return await _loaded_at_once(services, preview, method)


async def get_captions_playlist(services: ApiServices, user: User, video_id: VideoId, name: str, token: str) -> str:
    """The playlist of one caption track, with the address of its text. Raises ``UnknownEntityError``."""
    video, track, file = await _find_captions(services, user, video_id, name)
    if file is not None:
        signed = await _signed(services, file)
        return captions_playlist(signed.url, sum(segment.duration_s for segment in file.segments))
    end_s = video.duration_s or (track.cues[-1].end_s if track is not None and track.cues else 0.0)
    return captions_playlist(f"{quote(name)}{CAPTIONS_SUFFIX}?token={quote(token, safe='')}", end_s)


async def get_captions_file(
    services: ApiServices, user: User, video_id: VideoId, name: str, *, download: bool, method: ReadMethod = "GET"
) -> SignedUrl | str:
    """The WebVTT of one caption track: its text, or a signed URL where a file is kept. With ``download`` it is the text
    wherever there is one. Raises ``UnknownEntityError``."""
    _, track, file = await _find_captions(services, user, video_id, name)
    if file is not None and not (download and track is not None):
        return await _loaded_at_once(services, file, method)
    return to_vtt(track.cues) if track is not None else ""


async def get_captions_srt(services: ApiServices, user: User, video_id: VideoId, name: str) -> str:
    """One caption track as SubRip. Raises ``UnknownEntityError``, also where only a file is kept, from before there was
    text."""
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)
        track = await uow.caption_tracks.find(video_id, name)
    if track is None:
        raise UnknownEntityError("This video has no such captions as text.")
    return to_srt(track.cues)


async def _find_captions(
    services: ApiServices, user: User, video_id: VideoId, name: str
) -> tuple[Video, CaptionTrack | None, Artefact | None]:
    """The video and either the text or the file of captions."""
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id)
        track = await uow.caption_tracks.find(video_id, name)
        if track is not None and not is_served_from_file(track):
            return video, track, None
        file = await uow.artefacts.find(video_id, CAPTIONS_KIND, name + CAPTIONS_SUFFIX)
    if track is None and file is None:
        raise UnknownEntityError("This video has no such captions (yet).")
    return video, track, file


async def get_storyboard_index(services: ApiServices, user: User, video_id: VideoId, token: str) -> str:
    """The WebVTT index of the storyboard; its sheets are relative to it and carry ``token``.

    Raises ``UnknownEntityError``.
    """
    index = await _find(services, user, video_id, STORYBOARD_KIND, "storyboard.vtt")
    text = b""
    request = ReadObject(
        key=index.storage_key, end=MAX_STORYBOARD_INDEX_BYTES, generation=index.pin(services.storage_name)
    )
    async with aclosing(services.storage.open_read(request)) as chunks:
        async for chunk in chunks:
            text += chunk
    query = f"?token={quote(token, safe='')}"
    return with_sheet_uris(text.decode(), lambda sheet: f"storyboard/{sheet}{query}")


async def get_sheet_url(
    services: ApiServices, user: User, video_id: VideoId, name: str, method: ReadMethod = "GET"
) -> SignedUrl:
    """A signed URL of one storyboard sheet. Raises ``UnknownEntityError``."""
    return await _loaded_at_once(services, await _find(services, user, video_id, STORYBOARD_SHEET_KIND, name), method)


async def get_source_url(
    services: ApiServices, user: User, video_id: VideoId, *, download: bool, method: ReadMethod = "GET"
) -> SignedUrl:
    """A signed URL of the uploaded file itself; it answers ranges. Raises ``UnknownEntityError``, ``NotPlayableError``.

    Pinned to the bytes that were verified.
    """
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id)
        upload = await uow.uploads.get(video_id)
    if upload.state is not UploadState.COMPLETED:
        raise NotPlayableError("The upload of this video is not complete.")
    return await services.storage.read_url(
        ReadUrl(
            key=upload.storage_key,
            expires_in_s=services.limits.url_expires_in_s,
            generation=upload.pin(services.storage_name),
            content_type=upload.content_type,
            filename=video.filename if download else None,
            method=method,
        )
    )


async def _find(services: ApiServices, user: User, video_id: VideoId, kind: str, name: str) -> Artefact:
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)
        artefact = await uow.artefacts.find(video_id, kind, name)
    if artefact is None:
        raise UnknownEntityError("This video has no such part (yet).")
    return artefact


async def _loaded_at_once(services: ApiServices, artefact: Artefact, method: ReadMethod) -> SignedUrl:
    """The address of what a page loads whole as soon as it has it."""
    lifetime_s = min(AT_ONCE_EXPIRES_IN_S, services.limits.url_expires_in_s)
    return await _signed(services, artefact, lifetime_s, method)


async def _signed(
    services: ApiServices, artefact: Artefact, expires_in_s: int | None = None, method: ReadMethod = "GET"
) -> SignedUrl:
    return await services.storage.read_url(
        ReadUrl(
            key=artefact.storage_key,
            expires_in_s=services.limits.url_expires_in_s if expires_in_s is None else expires_in_s,
            generation=artefact.pin(services.storage_name),
            content_type=artefact.content_type,
            method=method,
        )
    )
