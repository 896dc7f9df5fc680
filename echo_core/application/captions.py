"""Captions: what a video has of them, what people write and upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from echo_core.application.job_changes import video_event
from echo_core.application.ports import UnitOfWork
from echo_core.application.services import ApiServices
from echo_core.application.videos import VersionMismatchError
from echo_core.domain.caption_tracks import CaptionSource, CaptionTrack, listed_tracks
from echo_core.domain.captions import Cue, check_cues, parse_captions
from echo_core.domain.errors import ConflictError, InvalidInputError, UnknownEntityError
from echo_core.domain.ids import VideoId
from echo_core.domain.users import User
from echo_core.domain.videos import Video

MAX_TRACKS = 100
"""Captions of one video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCaptions:
    """A whole WebVTT or SubRip file that somebody uploads. Without a ``name`` one is made of the language."""

    text: str
    language: str
    title: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionsCommand:
    """What a person sets; None leaves it as it is. ``expected_versions=None``: whatever is there may be replaced."""

    cues: tuple[Cue, ...] | None = None
    language: str | None = None
    title: str | None = None
    expected_versions: frozenset[int] | None = None


async def list_captions(services: ApiServices, user: User, video_id: VideoId) -> Sequence[CaptionTrack]:
    """All captions of a video, without their cues. Raises ``UnknownEntityError``."""
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)
        tracks = await uow.caption_tracks.list_for_video(video_id)
        return listed_tracks(tracks, await uow.artefacts.list_for_video(video_id))


async def get_captions(services: ApiServices, user: User, video_id: VideoId, name: str) -> CaptionTrack:
    """Captions with their cues. Raises ``UnknownEntityError``."""
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)
        return await _get(uow, video_id, name)


async def add_captions(services: ApiServices, user: User, video_id: VideoId, new: NewCaptions) -> CaptionTrack:
    """Captions that somebody has written elsewhere.

    Raises ``UnknownEntityError``, ``InvalidInputError`` (``invalid_captions``), ``ConflictError`` (``captions_exist``,
    ``too_many_captions``).
    """
    cues = parse_captions(new.text)
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id, for_update=True)
        cues = _checked(cues, video)
        tracks = await uow.caption_tracks.list_for_video(video_id)
        names = {track.name for track in listed_tracks(tracks, await uow.artefacts.list_for_video(video_id))}
        if len(names) >= MAX_TRACKS:
            raise ConflictError(
                f"This video has {len(names)} captions; {MAX_TRACKS} are the most.",
                code="too_many_captions",
                remedy="Delete some that nobody needs.",
            )
        if new.name in names:
            raise ConflictError(
                f"This video has captions {new.name!r} already.",
                code="captions_exist",
                remedy="Change those, delete them, or choose another name.",
            )
        now = await uow.jobs.now()
        track = CaptionTrack(
            video_id=video.id,
            owner_id=video.owner_id,
            name=new.name or _free_name(new.language, names),
            language=new.language,
            title=new.title,
            source=CaptionSource.UPLOADED,
            cues=cues,
            created_at=now,
            updated_at=now,
        )
        return await _store(uow, video, track)


async def change_captions(
    services: ApiServices, user: User, video_id: VideoId, name: str, command: CaptionsCommand
) -> CaptionTrack:
    """Store what a person has made of captions; no machine overwrites them again. Saying what is there already changes
    nothing.

    Raises ``UnknownEntityError``, ``VersionMismatchError``, ``InvalidInputError`` (``invalid_captions``).
    """
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id, for_update=True)
        track = await _get(uow, video_id, name, for_update=True)
        if command.expected_versions is not None and track.version not in command.expected_versions:
            raise VersionMismatchError(track.version, what="captions were")
        cues = track.cues if command.cues is None else _timed(_checked(command.cues, video), track.cues)
        changed = replace(
            track,
            cues=cues,
            language=track.language if command.language is None else command.language,
            title=track.title if command.title is None else command.title,
        )
        if changed == track:
            return track
        return await _store(uow, video, replace(changed, edited=True, version=track.version + 1))


async def remove_captions(services: ApiServices, user: User, video_id: VideoId, name: str) -> None:
    """Take captions away. Raises ``UnknownEntityError``, ``ConflictError`` (``captions_embedded``) for what came inside
    the file and was not edited."""
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id, for_update=True)
        track = await _get(uow, video_id, name, for_update=True)
        if track.source is CaptionSource.EMBEDDED and not track.edited:
            raise ConflictError(
                "These captions came inside the file and cannot be deleted.",
                code="captions_embedded",
                remedy="Edit them instead, or upload the video without them.",
            )
        await uow.caption_tracks.remove(video_id, name)
        await uow.events.add([video_event("video.updated", video)])


async def _store(uow: UnitOfWork, video: Video, track: CaptionTrack) -> CaptionTrack:
    await uow.caption_tracks.put(track)
    await uow.events.add([video_event("video.updated", video)])
    # The database's clock sets updated_at.
    return await _get(uow, video.id, track.name)


async def _get(uow: UnitOfWork, video_id: VideoId, name: str, *, for_update: bool = False) -> CaptionTrack:
    track = await uow.caption_tracks.find(video_id, name, for_update=for_update)
    if track is None:
        raise UnknownEntityError("This video has no such captions.")
    return track


def _checked(cues: tuple[Cue, ...], video: Video) -> tuple[Cue, ...]:
    if not cues:
        raise InvalidInputError(
            "There is not a single caption in it.",
            code="invalid_captions",
            remedy="Write at least one, or delete the captions.",
        )
    return check_cues(cues, video.duration_s)


def _timed(cues: tuple[Cue, ...], before: tuple[Cue, ...]) -> tuple[Cue, ...]:
    """With the times of words that were known: of cues whose text has stayed, where the cue has not moved."""
    known = {(cue.start_s, cue.end_s, cue.text): cue.word_starts_s for cue in before}
    return tuple(
        cue if cue.word_starts_s else replace(cue, word_starts_s=known.get((cue.start_s, cue.end_s, cue.text), ()))
        for cue in cues
    )


def _free_name(language: str, names: set[str]) -> str:
    """``de``, ``de-2``, … ; ``captions`` where no language is said."""
    base = language.lower() or "captions"
    return next(name for name in (base, *(f"{base}-{n}" for n in range(2, MAX_TRACKS + 3))) if name not in names)
