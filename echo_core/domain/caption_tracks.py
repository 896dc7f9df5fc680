"""Caption tracks: what is said in a video, as text with times, in one language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from echo_core.domain.artefacts import CAPTIONS_KIND, Artefact
from echo_core.domain.captions import Cue
from echo_core.domain.ids import UserId, VideoId

CAPTIONS_SUFFIX = ".vtt"


class CaptionSource(StrEnum):
    """Where a track came from: inside the file, from an AI provider, or from a person."""

    EMBEDDED = "embedded"
    TRANSCRIBED = "transcribed"
    TRANSLATED = "translated"
    UPLOADED = "uploaded"

    @property
    def automatic(self) -> bool:
        """A machine made it, and may make it anew until a person has edited it."""
        return self in {CaptionSource.TRANSCRIBED, CaptionSource.TRANSLATED}


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTrack:
    """One track, unique by (video, name). ``cues`` are in order. ``version`` counts changes (the ETag); ``edited``: a
    person has, and no machine overwrites it again."""

    video_id: VideoId
    owner_id: UserId
    name: str
    language: str
    source: CaptionSource
    cues: tuple[Cue, ...]
    created_at: datetime
    updated_at: datetime
    title: str = ""
    edited: bool = False
    forced: bool = False
    provider: str = ""
    model: str = ""
    version: int = 1

    @property
    def by_hand(self) -> bool:
        """A person stands behind it."""
        return self.edited or self.source is CaptionSource.UPLOADED


def spoken_track(tracks: tuple[CaptionTrack, ...], language: str) -> CaptionTrack | None:
    """The track that best tells what is said: in the video's language where that is known; what a person wrote or
    corrected before what a machine heard, that before what came with the file. Translations tell nothing new."""
    candidates = [t for t in tracks if t.source is not CaptionSource.TRANSLATED and not t.forced and t.cues]
    wanted = primary_language(language)
    spoken = [t for t in candidates if wanted and primary_language(t.language) == wanted] or candidates
    order = {CaptionSource.UPLOADED: 1, CaptionSource.TRANSCRIBED: 2, CaptionSource.EMBEDDED: 3}
    return min(spoken, key=lambda t: (0 if t.by_hand else order[t.source], t.name), default=None)


def primary_language(tag: str) -> str:
    """``pt`` of ``pt-BR``."""
    return tag.partition("-")[0].lower()


def listed_tracks(tracks: Sequence[CaptionTrack], artefacts: Sequence[Artefact]) -> list[CaptionTrack]:
    """All captions of a video, shorter names first: ``tracks``, and those of which only a file is kept, from before
    there was text (their version is 0, and they have no cues)."""
    names = {track.name for track in tracks}
    files = [a for a in artefacts if a.kind == CAPTIONS_KIND and caption_name(a) not in names]
    return sorted([*tracks, *(_of_file(a) for a in files)], key=lambda track: (len(track.name), track.name))


def caption_name(artefact: Artefact) -> str:
    """What captions that are kept as a file are called."""
    return artefact.name.removesuffix(CAPTIONS_SUFFIX)


def is_served_from_file(track: CaptionTrack) -> bool:
    """Whether the file that came with the video, which may place its captions, is better than the text made of it."""
    return track.source is CaptionSource.EMBEDDED and not track.edited


def _of_file(artefact: Artefact) -> CaptionTrack:
    return CaptionTrack(
        video_id=artefact.video_id,
        owner_id=artefact.owner_id,
        name=caption_name(artefact),
        language=str(artefact.facts.get("language", "")),
        title=str(artefact.facts.get("title", "")),
        forced=bool(artefact.facts.get("forced", False)),
        source=CaptionSource.EMBEDDED,
        cues=(),
        created_at=artefact.created_at,
        updated_at=artefact.created_at,
        version=0,
    )
