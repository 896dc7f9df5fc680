"""Storing captions that machines make, without ever touching what a person has written."""

from __future__ import annotations

import dataclasses

from echo_core.application.ports import UnitOfWork
from echo_core.domain.caption_tracks import CaptionTrack


async def put_unless_by_hand(uow: UnitOfWork, track: CaptionTrack) -> bool:
    """Store a track; False: a person has edited the one of that name, and it stays.

    The video is locked first, as by whoever edits: a row that is not there yet cannot be.
    """
    await uow.videos.get(track.video_id, for_update=True)
    old = await uow.caption_tracks.find(track.video_id, track.name, for_update=True)
    if old is not None and old.by_hand:
        return False
    await uow.caption_tracks.put(dataclasses.replace(track, version=old.version + 1 if old is not None else 1))
    return True
