"""Artefacts: what steps made and storage keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from echo_core.domain.ids import ArtefactId, UserId, VideoId
from echo_core.domain.stored_objects import StoredObject
from echo_core.plugin_api.json import JsonObject
from echo_core.plugin_api.transcoder import Segment

RENDITION_KIND = "rendition"
REPLACES_COPY = "replaces_copy"
"""A fact of renditions: the copy of the source is not to be played, since it is damaged."""
PIECE_KIND = "piece"
"""A part of a rendition, until all parts are joined."""
POSTER_KIND = "poster"
"""A picture that could stand for the video; the owner chooses, or else the one with the highest ``score`` does."""
PREVIEW_KIND = "preview"
CAPTIONS_KIND = "captions"
STORYBOARD_KIND = "storyboard"
STORYBOARD_SHEET_KIND = "storyboard_sheet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Artefact(StoredObject):
    """One stored object of a video, unique by (video, kind, name).

    ``lease_token`` is that of the run that made it; ``producer`` is ``plugin version`` of what made it. ``facts`` of a
    rendition: type (``video`` | ``audio``), codecs, width, height, fps, peak and average bitrate, duration, and of a
    sound language and title; of a poster: width, height, at_s, score; of captions: language, title, forced.
    """

    id: ArtefactId
    video_id: VideoId
    owner_id: UserId
    step: str
    lease_token: int
    kind: str
    name: str
    storage_key: str
    content_type: str
    size_bytes: int
    checksum: str
    generation: str
    backend: str
    producer: str
    created_at: datetime
    facts: JsonObject = field(default_factory=dict)
    init_length_bytes: int = 0
    segments: tuple[Segment, ...] = ()
