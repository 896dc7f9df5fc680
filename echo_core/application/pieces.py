"""A long encode in pieces: steps of their own, on any number of workers, joined at the end.

``split`` decides. Where it does not, the ladder is encoded by one step as ever. Where it does, it adds to its job: one
step for what comes whole (the sound, and the lowest rung where nothing could be copied: something to watch), one for
each piece of all other rungs, and one that joins the pieces. A piece that is lost with its worker is made again alone.
"""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from pydantic import TypeAdapter

from echo_core.application.transcoding import (
    MEDIA,
    PACKAGED,
    Made,
    boundaries_of,
    copied,
    encoded,
    fixed,
    media_in,
    media_of,
    pixels,
    source_needs,
    tuned,
    worth_keeping,
)
from echo_core.domain.artefacts import PIECE_KIND, RENDITION_KIND
from echo_core.plugin_api.errors import InvalidRequestError, ProviderError
from echo_core.plugin_api.json import JsonObject
from echo_core.plugin_api.needs import Needs
from echo_core.plugin_api.steps import (
    ArtefactFile,
    FurtherStep,
    Resource,
    StepContext,
    StepOutlook,
    StepResult,
    StoredArtefact,
)
from echo_core.plugin_api.storage import ReadObject
from echo_core.plugin_api.transcoder import EstimateRequest, MediaInfo, PlanLadder, Rung, Segment

PIECES = "pieces"
WHOLE_STEP = "whole"
PIECE_STEP = "piece"
JOIN_STEP = "join"
LADDER_WEIGHT = 1.3
"""Seconds of work per second of media, of the whole ladder; of pieces, all together."""

SPREAD_FROM_S = 180.0
"""Media from this length on is cut when several workers can share it."""
ALONE_FROM_S = 1800.0
"""From here on it is cut even for one: half an hour of work is too much to lose."""
MIN_PIECE_S = 60.0
MAX_PIECE_S = 600.0
PIECES_PER_SLOT = 2
"""So that a slow worker does not keep the others waiting for its last piece."""
MAX_PIECES = 90
BOUNDARY_TOLERANCE_S = 0.001


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """What ``split`` decided. ``starts_s``: of the pieces; ``rungs``: made in pieces; ``whole``: made in one go."""

    starts_s: tuple[float, ...]
    rungs: tuple[Rung, ...]
    whole: tuple[Rung, ...]

    def bounds(self, number: int) -> tuple[float, float | None]:
        """Where a piece begins and ends; None: at the end of the source."""
        last = number == len(self.starts_s) - 1
        return self.starts_s[number], None if last else self.starts_s[number + 1]


_cut = TypeAdapter(Cut)


def cut_of(inputs: object) -> Cut:
    """What ``split`` has put out."""
    return _cut.validate_python(inputs)


def piece_starts(
    duration_s: float, *, slots: int, segment_s: float, boundaries_s: Sequence[float] = ()
) -> tuple[float, ...]:
    """Where to cut a video of this length for so many CPU slots; nothing where it is not worth it.

    At boundaries of segments: the given ones, else multiples of ``segment_s``.
    """
    if duration_s < (SPREAD_FROM_S if slots > 1 else ALONE_FROM_S):
        return ()
    count = _piece_count(duration_s, max(1, slots))
    places = boundaries_s or even_boundaries(duration_s, segment_s)
    starts = [places[0]]
    for number in range(1, count):
        ideal = duration_s * number / count
        after = bisect.bisect(places, ideal)
        at = min(places[max(0, after - 1) : after + 1], key=lambda place: abs(place - ideal))
        if min(at - starts[-1], duration_s - at) >= MIN_PIECE_S / 2:
            starts.append(at)
    return tuple(starts) if len(starts) > 1 else ()


def _piece_count(duration_s: float, slots: int) -> int:
    """As many for each slot, so that all of them end together, as long as the pieces are not too short for that."""
    shortest = int(duration_s / MIN_PIECE_S)
    count = min(PIECES_PER_SLOT, shortest // slots) * slots or shortest
    return min(MAX_PIECES, max(count, math.ceil(duration_s / MAX_PIECE_S)))


def even_boundaries(duration_s: float, segment_s: float) -> tuple[float, ...]:
    """Starts of segments, in seconds, where no copied source prescribes them: what is cut and what is whole keep to
    them, whatever the frame rate makes of ``segment_s``."""
    return tuple(n * segment_s for n in range(int(duration_s / segment_s) + 1))


def _boundaries(context: StepContext, segment_s: float) -> tuple[float, ...]:
    return boundaries_of(context.inputs.get(PACKAGED)) or even_boundaries(media_of(context).duration_s, segment_s)


@dataclasses.dataclass(frozen=True)
class SplitStep:
    """Is this video long enough to be encoded in pieces?"""

    segment_s: float
    short_sides: tuple[int, ...]

    async def run(self, context: StepContext) -> StepResult:
        """Skipped, with the reason, where the ladder is better made by one step."""
        media, packaged = media_of(context), context.inputs.get(PACKAGED)
        rungs = context.transcoder.plan_ladder(
            PlanLadder(media=media, packaged=packaged is not None, short_sides=self.short_sides)
        )
        if media.video is None or not rungs:
            return StepResult(skipped_reason="There is nothing to cut into pieces.")
        if not context.transcoder.can_cut(media):
            return StepResult(skipped_reason="It cannot be cut without a seam; it is encoded in one go.")
        starts = piece_starts(
            media.duration_s,
            slots=await context.slots(Resource.CPU),
            segment_s=self.segment_s,
            boundaries_s=boundaries_of(packaged),
        )
        if not starts:
            return StepResult(skipped_reason="It is short enough to be encoded in one go.")
        rungs = await tuned(context, rungs)
        whole = rungs[-1:] if packaged is None and len(rungs) > 1 else ()
        cut = Cut(starts_s=starts, rungs=rungs[: len(rungs) - len(whole)], whole=whole)
        output: JsonObject = _cut.dump_python(cut, mode="json")
        return StepResult(output=output, further=_further(cut, media, with_sound=packaged is None))


def _further(cut: Cut, media: MediaInfo, *, with_sound: bool) -> list[FurtherStep]:
    share = pixels(cut.rungs) / pixels((*cut.rungs, *cut.whole))
    steps = []
    if cut.whole or (with_sound and media.audio):
        steps.append(FurtherStep(spec=WHOLE_STEP, consumes=(MEDIA, PIECES), share=max(0.01, 1.0 - share)))
    whole = tuple(step.name for step in steps)
    made = []
    for number in range(len(cut.starts_s)):
        start_s, end_s = cut.bounds(number)
        length_s = (media.duration_s if end_s is None else end_s) - start_s
        made.append(_product(number))
        steps.append(
            FurtherStep(
                spec=PIECE_STEP,
                number=number,
                consumes=(MEDIA, PIECES),
                produces=(made[-1],),
                share=share * length_s / media.duration_s,
            )
        )
    # After what is whole: which rungs are worth keeping depends on what that came out as.
    steps.append(FurtherStep(spec=JOIN_STEP, consumes=(PIECES, *made), produces=("joined",), after=whole))
    return steps


@dataclasses.dataclass(frozen=True)
class WholeStep:
    """What of a video in pieces is made in one go."""

    segment_s: float

    async def run(self, context: StepContext) -> StepResult:
        """The lowest rung, where there are several, and the sound."""
        cut = cut_of(context.inputs[PIECES])
        with_audio = PACKAGED not in context.inputs
        return await encoded(
            context,
            cut.whole,
            segment_s=self.segment_s,
            with_audio=with_audio,
            urgent=with_audio,
            align_to_s=_boundaries(context, self.segment_s),
        )


@dataclasses.dataclass(frozen=True)
class PieceStep:
    """One piece of every rung."""

    segment_s: float

    async def run(self, context: StepContext) -> StepResult:
        """Skipped when it was meant for an earlier cut, with more pieces."""
        cut, number = cut_of(context.inputs[PIECES]), context.number
        if number >= len(cut.starts_s):
            return StepResult(skipped_reason="There are fewer pieces now.")
        start_s, end_s = cut.bounds(number)
        result = await encoded(
            context,
            cut.rungs,
            segment_s=self.segment_s,
            start_s=start_s,
            end_s=end_s,
            align_to_s=_boundaries(context, self.segment_s),
        )
        pieces = [
            dataclasses.replace(made, kind=PIECE_KIND, name=_piece_name(Path(made.name).stem, number))
            for made in result.artefacts
        ]
        return dataclasses.replace(result, artefacts=pieces)


class JoinStep:
    """All pieces of a rung, one after another, as one rendition."""

    async def run(self, context: StepContext) -> StepResult:
        """Raises ``ProviderError`` (``pieces_do_not_fit``) and ``InvalidRequestError`` (``pieces_gone``)."""
        cut = cut_of(context.inputs[PIECES])
        count = _decodable(context.inputs, len(cut.starts_s))
        stored = {piece.name: piece for piece in await context.stored(PIECE_KIND)}
        pieces = {rung: _of_rung(stored, rung.name, count) for rung in cut.rungs}
        made = [Made.of(rung.name, own[0].facts, average_bps=_average_bps(own)) for rung, own in pieces.items()]
        kept = worth_keeping([*fixed(await copied(context)), *made, *fixed(await _whole(context, cut))])
        rungs = [rung for rung in cut.rungs if rung.name in kept]
        for number, rung in enumerate(rungs):
            artefact = await _join(context, rung, pieces[rung])
            await context.publish([artefact])
            await asyncio.to_thread(artefact.path.unlink)
            context.report_progress((number + 1) / len(rungs))
        return StepResult(output={"renditions": [rung.name for rung in rungs]}, discards=[PIECE_KIND])


def _of_rung(stored: Mapping[str, StoredArtefact], rung: str, count: int) -> list[StoredArtefact]:
    names = [_piece_name(rung, number) for number in range(count)]
    if missing := [name for name in names if name not in stored]:
        raise InvalidRequestError(
            f"The piece {missing[0]} is not there any more.",
            code="pieces_gone",
            remedy="Retry the step split: it has all pieces made again.",
        )
    return [stored[name] for name in names]


async def _whole(context: StepContext, cut: Cut) -> list[StoredArtefact]:
    """What there is of the rungs that are made in one go."""
    wanted = {f"{rung.name}.mp4" for rung in cut.whole}
    return [artefact for artefact in await context.stored(RENDITION_KIND) if artefact.name in wanted]


def _average_bps(pieces: Sequence[StoredArtefact]) -> int:
    segments = [segment for piece in pieces for segment in piece.segments]
    return round(sum(s.length_bytes for s in segments) * 8 / sum(s.duration_s for s in segments))


def _decodable(inputs: Mapping[str, JsonObject], count: int) -> int:
    """How many pieces there are before the first in which nothing could be decoded: a damaged source ends there."""
    return next((n for n in range(count) if not inputs[_product(n)]["renditions"]), count)


async def _join(context: StepContext, rung: Rung, pieces: Sequence[StoredArtefact]) -> ArtefactFile:
    path = context.scratch / f"{rung.name}.mp4"
    first = pieces[0]
    segments: list[Segment] = []
    at = first.init_length_bytes
    init = b""
    with path.open("wb") as file:
        for piece in pieces:
            own_init = await _read(context, piece, 0, piece.init_length_bytes)
            if not init:
                init = own_init
                await asyncio.to_thread(file.write, init)
            if own_init != init or piece.facts["codecs"] != first.facts["codecs"]:
                raise ProviderError(
                    f"The pieces of {rung.name} do not fit together: they were not made by the same encoder.",
                    code="pieces_do_not_fit",
                    remedy="Give all workers the same ffmpeg, then retry the step split.",
                )
            chunks = context.storage.open_read(
                ReadObject(key=piece.key, start=piece.init_length_bytes, generation=piece.generation or None)
            )
            async with aclosing(chunks) as opened:
                async for chunk in opened:
                    await asyncio.to_thread(file.write, chunk)
            for segment in piece.segments:
                segments.append(dataclasses.replace(segment, offset_bytes=at))
                at += segment.length_bytes
    duration_s = sum(segment.duration_s for segment in segments)
    facts = {
        **first.facts,
        "duration_s": duration_s,
        "peak_bitrate_bps": max(int(str(piece.facts["peak_bitrate_bps"])) for piece in pieces),
        "average_bitrate_bps": _average_bps(pieces),
    }
    return ArtefactFile(
        kind=RENDITION_KIND,
        name=f"{rung.name}.mp4",
        path=path,
        content_type="video/mp4",
        facts=facts,
        init_length_bytes=first.init_length_bytes,
        segments=tuple(segments),
    )


async def _read(context: StepContext, piece: StoredArtefact, start: int, end: int) -> bytes:
    chunks = context.storage.open_read(
        ReadObject(key=piece.key, start=start, end=end, generation=piece.generation or None)
    )
    async with aclosing(chunks) as opened:
        return b"".join([chunk async for chunk in opened])


def piece_needs(outlook: StepOutlook) -> Needs:
    """The source, and every rung for the length of the longest piece."""
    media, cut = media_in(outlook), cut_of(outlook.inputs[PIECES])
    ends = [*cut.starts_s[1:], media.duration_s]
    longest_s = max(end - start for start, end in zip(cut.starts_s, ends, strict=True))
    piece = dataclasses.replace(media, duration_s=longest_s, audio=())
    request = EstimateRequest(work="encode_ladder", media=piece, rungs=cut.rungs)
    return source_needs(outlook) + outlook.transcoder.estimate(request)


def whole_needs(outlook: StepOutlook) -> Needs:
    """The source, the lowest rung and the sound."""
    request = EstimateRequest(work="encode_ladder", media=media_in(outlook), rungs=cut_of(outlook.inputs[PIECES]).whole)
    return source_needs(outlook) + outlook.transcoder.estimate(request)


def join_needs(outlook: StepOutlook) -> Needs:
    """The largest rung: one after another is joined, stored and removed."""
    media, cut = media_in(outlook), cut_of(outlook.inputs[PIECES])
    return Needs(scratch_bytes=int(media.duration_s * max(rung.max_bitrate_bps for rung in cut.rungs) / 8))


def _product(number: int) -> str:
    return f"{PIECE_STEP}:{number}"


def _piece_name(rung: str, number: int) -> str:
    return f"{rung}-{number:03d}.mp4"
