"""What steps that transcode have in common: the media that was inspected, and renditions as they are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from echo_core.domain.artefacts import RENDITION_KIND
from echo_core.plugin_api.json import JsonObject, JsonValue
from echo_core.plugin_api.needs import Needs
from echo_core.plugin_api.steps import ArtefactFile, StepContext, StepOutlook, StepResult, StoredArtefact
from echo_core.plugin_api.transcoder import LadderRequest, MediaInfo, Rendition, Rung, TuneRequest

MEDIA: Final = "media"
PACKAGED: Final = "packaged"
DAMAGED: Final = "damaged"

BETTER: Final = 1.3
"""How much more than the one below it a rung has to cost: going down by less than that helps no player."""
PORTABLE_SHORT_SIDE: Final = 1080
"""What every phone and television decodes."""

MEDIA_INFO: Final = TypeAdapter(MediaInfo)
_times = TypeAdapter(tuple[float, ...])


def media_of(context: StepContext) -> MediaInfo:
    """What ``inspect`` found."""
    return MEDIA_INFO.validate_python(context.inputs[MEDIA])


def media_in(outlook: StepOutlook) -> MediaInfo:
    """What ``inspect`` found, before a step begins."""
    return MEDIA_INFO.validate_python(outlook.inputs[MEDIA])


def boundaries_of(packaged: JsonObject | None) -> tuple[float, ...]:
    """Where segments of the packaged source begin, in seconds; empty where there is none."""
    return () if packaged is None else _times.validate_python(packaged["boundaries_s"])


def rendition_artefact(rendition: Rendition) -> ArtefactFile:
    """A rendition as it is kept; ``facts`` is all that a master playlist needs."""
    facts: dict[str, JsonValue] = {
        "type": rendition.kind,
        "codecs": rendition.codecs,
        "duration_s": rendition.duration_s,
        "peak_bitrate_bps": rendition.peak_bitrate_bps,
        "average_bitrate_bps": rendition.average_bitrate_bps,
        "copied": rendition.copied,
    }
    if rendition.kind == "video":
        facts |= {"width": rendition.width, "height": rendition.height, "fps": rendition.fps}
    else:
        facts |= {"channels": rendition.channels, "language": rendition.language, "title": rendition.title}
    return ArtefactFile(
        kind=RENDITION_KIND,
        name=f"{rendition.name}.mp4",
        path=rendition.path,
        content_type="video/mp4" if rendition.kind == "video" else "audio/mp4",
        facts=facts,
        init_length_bytes=rendition.init_length_bytes,
        segments=rendition.segments,
    )


async def tuned(context: StepContext, rungs: tuple[Rung, ...]) -> tuple[Rung, ...]:
    """The rungs as they suit what the video shows."""
    return await context.transcoder.tune_ladder(
        TuneRequest(
            path=await context.fetch_source(),
            media=media_of(context),
            out_dir=directory(context, "trial"),
            rungs=rungs,
        )
    )


async def encoded(
    context: StepContext,
    rungs: tuple[Rung, ...],
    *,
    segment_s: float,
    start_s: float = 0.0,
    end_s: float | None = None,
    with_audio: bool = False,
    align_to_s: tuple[float, ...] = (),
    urgent: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> StepResult:
    """The source, or a part of it, as these rungs; with ``with_audio`` its sound too, if it has any."""
    media = media_of(context)
    result = await context.transcoder.encode_ladder(
        LadderRequest(
            path=await context.fetch_source(),
            media=media,
            out_dir=directory(context, f"out-{rungs[0].name if rungs else 'audio'}"),
            rungs=rungs,
            start_s=start_s,
            end_s=end_s,
            with_audio=with_audio and bool(media.audio),
            segment_s=segment_s,
            align_to_s=align_to_s,
            urgent=urgent,
            on_progress=on_progress or context.report_progress,
        )
    )
    return StepResult(
        output={"renditions": names(result.renditions), DAMAGED: result.damaged},
        artefacts=[rendition_artefact(r) for r in result.renditions],
        warnings=result.warnings,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """A picture rendition as it came out. ``fixed``: it stays, being copied or watched already."""

    name: str
    codec: str
    short_side: int
    average_bps: int
    fixed: bool = False

    @classmethod
    def of(cls, name: str, facts: JsonObject, *, average_bps: int | None = None, fixed: bool = False) -> Made:
        """From the facts that are kept of it, or of one of its pieces."""
        return cls(
            name=name,
            codec=str(facts["codecs"]).partition(".")[0],
            short_side=min(int(str(facts["width"])), int(str(facts["height"]))),
            average_bps=int(str(facts["average_bitrate_bps"])) if average_bps is None else average_bps,
            fixed=fixed,
        )


def worth_keeping(made: Sequence[Made]) -> set[str]:
    """The names of those, highest first, that a player gains by. Each codec is a ladder of its own.

    Its highest stays, and every other that costs clearly less than the one above it and clearly more than what is fixed
    below; and the first that everything decodes, whatever it costs.
    """
    kept = set()
    for codec in {one.codec for one in made}:
        ladder = [one for one in made if one.codec == codec]
        above: Made | None = None
        portable = False
        for number, one in enumerate(ladder):
            below_bps = next((lower.average_bps for lower in ladder[number + 1 :] if lower.fixed), 0)
            apart = above is None or (
                above.average_bps >= BETTER * one.average_bps and one.average_bps >= BETTER * below_bps
            )
            fits = one.short_side <= PORTABLE_SHORT_SIDE
            if one.fixed or apart or (fits and not portable):
                kept.add(one.name)
                above, portable = one, portable or fits
    return kept


def without_idle(
    result: StepResult, *, above: Sequence[StoredArtefact] = (), below: Sequence[ArtefactFile] = ()
) -> StepResult:
    """The result without the rungs that no player gains by, beside what stays ``above`` and ``below`` them."""
    made = [Made.of(_name(one), one.facts) for one in result.artefacts if _is_picture(one)]
    kept = worth_keeping([*fixed(above), *made, *fixed(below)])
    artefacts = [one for one in result.artefacts if not _is_picture(one) or _name(one) in kept]
    return dataclasses.replace(result, output={"renditions": [_name(one) for one in artefacts]}, artefacts=artefacts)


def fixed(artefacts: Sequence[ArtefactFile | StoredArtefact]) -> list[Made]:
    """The pictures among these renditions, as what stays."""
    return [Made.of(_name(one), one.facts, fixed=True) for one in artefacts if _is_picture(one)]


async def copied(context: StepContext) -> list[StoredArtefact]:
    """The renditions that are the source's own picture or sound."""
    return [artefact for artefact in await context.stored(RENDITION_KIND) if artefact.facts["copied"]]


def _is_picture(artefact: ArtefactFile | StoredArtefact) -> bool:
    return artefact.facts["type"] == "video"


def _name(artefact: ArtefactFile | StoredArtefact) -> str:
    return Path(artefact.name).stem


def source_needs(outlook: StepOutlook) -> Needs:
    """A step that fetches the source and writes next to nothing."""
    return Needs(scratch_bytes=outlook.source_bytes)


def directory(context: StepContext, name: str) -> Path:
    """A new directory in the scratch of a run."""
    path = context.scratch / name
    path.mkdir()
    return path


def names(renditions: Sequence[Rendition]) -> list[JsonValue]:
    """Of renditions, as they go into an output."""
    return [r.name for r in renditions]


def pixels(rungs: Sequence[Rung]) -> int:
    """Of one picture of each rung."""
    return sum(r.width * r.height for r in rungs)
