"""Watching: in whose name a video is read by somebody who is not its owner.

A playback token of ``ANYBODY`` names no owner. It plays a video for as long as that is unlisted or public, which is
looked up each time: a video that becomes private stops at once, and no address tells whose it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from echo_core.application.services import ApiServices
from echo_core.domain.artefacts import Artefact
from echo_core.domain.caption_tracks import CaptionTrack
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import UserId, VideoId
from echo_core.domain.users import User
from echo_core.domain.videos import Video, Visibility

ANYBODY = UserId(UUID(int=0))
"""No user's id: users are made with random ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchPage:
    """A video that anybody may watch, now."""

    video: Video
    artefacts: Sequence[Artefact]
    tracks: Sequence[CaptionTrack] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Viewer:
    """Whose eyes read a video, and whether they are lent to ``anybody``."""

    user: User
    anybody: bool


async def viewer(services: ApiServices, token: str, video_id: VideoId) -> Viewer:
    """Who a playback token reads as. Raises ``AuthError``, ``UnknownEntityError``."""
    owner_id = services.tokens.verify_playback(token, video_id)
    if owner_id == ANYBODY:
        return await public_viewer(services, video_id)
    return Viewer(user=_as_owner(owner_id), anybody=False)


async def public_viewer(services: ApiServices, video_id: VideoId) -> Viewer:
    """Who anybody reads an unlisted or public video as. Raises ``UnknownEntityError`` for every other."""
    owner_id = await services.units_of_work.watchable_owner(video_id)
    if owner_id is None:
        raise _unknown()
    return Viewer(user=_as_owner(owner_id), anybody=True)


async def get_watch_page(services: ApiServices, video_id: VideoId) -> WatchPage:
    """A video for whoever knows its address. Raises ``UnknownEntityError``, in the same words for what is private,
    deleted, not playable (yet) or never was."""
    found = await public_viewer(services, video_id)
    async with services.units_of_work.for_user(found.user) as uow:
        video = await uow.videos.get(video_id)
        # Looked at again: what the owner has made private meanwhile is not shown.
        if video.visibility is Visibility.PRIVATE or not await uow.artefacts.has_rendition(video_id):
            raise _unknown()
        artefacts = await uow.artefacts.list_for_video(video_id)
        tracks = await uow.caption_tracks.list_for_video(video_id)
        return WatchPage(video=video, artefacts=artefacts, tracks=tracks)


def _as_owner(owner_id: UserId) -> User:
    return User(id=owner_id, claims={"sub": str(owner_id), "role": "authenticated"})


def _unknown() -> UnknownEntityError:
    return UnknownEntityError("There is no such video.", remedy="Check the address; the video may have been deleted.")
