"""The kernel's own pipeline steps: from a verified source to everything a player needs. Long, because they are read as
one pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Literal

from echo_core.application.caption_keeping import put_unless_by_hand
from echo_core.application.pieces import (
    JOIN_STEP,
    LADDER_WEIGHT,
    PIECE_STEP,
    PIECES,
    WHOLE_STEP,
    JoinStep,
    PieceStep,
    SplitStep,
    WholeStep,
    join_needs,
    piece_needs,
    whole_needs,
)
from echo_core.application.running import kernel_run
from echo_core.application.sources import source_changed, source_errors
from echo_core.application.transcoding import (
    DAMAGED,
    MEDIA,
    MEDIA_INFO,
    PACKAGED,
    boundaries_of,
    copied,
    directory,
    encoded,
    media_in,
    media_of,
    names,
    pixels,
    rendition_artefact,
    source_needs,
    tuned,
    without_idle,
)
from echo_core.domain.artefacts import (
    CAPTIONS_KIND,
    POSTER_KIND,
    PREVIEW_KIND,
    REPLACES_COPY,
    STORYBOARD_KIND,
    STORYBOARD_SHEET_KIND,
)
from echo_core.domain.caption_tracks import CaptionSource, CaptionTrack
from echo_core.domain.captions import parse_captions
from echo_core.domain.errors import InvalidInputError
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import SOURCE
from echo_core.domain.playlists import storyboard_vtt
from echo_core.domain.stored_objects import checksums_differ
from echo_core.plugin_api.context import PluginContext
from echo_core.plugin_api.errors import InvalidRequestError, NotSupportedError
from echo_core.plugin_api.json import JsonObject, JsonValue
from echo_core.plugin_api.needs import Needs
from echo_core.plugin_api.specs import StepSpec
from echo_core.plugin_api.steps import (
    ArtefactFile,
    Resource,
    RetryPolicy,
    StepContext,
    StepHandler,
    StepOutlook,
    StepResult,
)
from echo_core.plugin_api.storage import ReadObject
from echo_core.plugin_api.transcoder import (
    EstimateRequest,
    ExtractSubtitlesRequest,
    InspectRequest,
    PackageRequest,
    PlanLadder,
    PosterRequest,
    PreviewRequest,
    Rung,
    Segment,
    StoryboardRequest,
    Subtitles,
    ignore_progress,
)

VERIFIED = "verified"
LADDER = "ladder"
POSTER = "poster"
PREVIEW = "preview"
SUBTITLES = "subtitles"
STORYBOARD = "storyboard"

SNIFF_BYTES = 4096
_TEXT_MARKERS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<!doctype", b"<html", b"<svg", b"{", b"[")


class VerifyStep:
    """Is the stored object still the one that was accepted, and may it be a video at all?"""

    async def run(self, context: StepContext) -> StepResult:
        """Raises ``InvalidRequestError`` with codes ``source_missing``, ``source_changed``, ``media_empty``,
        ``media_unreadable``."""
        with source_errors():
            return await self._verify(context)

    async def _verify(self, context: StepContext) -> StepResult:
        video = context.video
        info = await context.storage.stat(video.source_key)
        if (
            video.source_generation not in ("", info.generation)
            or info.size_bytes != video.size_bytes
            or checksums_differ(info.checksum, video.source_checksum)
        ):
            raise source_changed()
        if info.size_bytes == 0:
            raise InvalidRequestError(
                "The file is empty.", code="media_empty", remedy="Check the file on your device and upload it again."
            )
        head = b""
        read = context.storage.open_read(
            ReadObject(key=info.key, end=min(SNIFF_BYTES, info.size_bytes), generation=info.generation)
        )
        async with aclosing(read) as chunks:
            async for chunk in chunks:
                head += chunk
        if looks_like_text(head):
            raise InvalidRequestError(
                "This file is text, not a video.",
                code="media_unreadable",
                remedy="Choose a video file, such as .mp4, .mov, .mkv or .webm; renaming a file does not convert it.",
            )
        return StepResult(output={"size_bytes": info.size_bytes, "checksum": info.checksum})


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes are readable text: no container of video or sound begins so."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(tuple(m.lower() for m in _TEXT_MARKERS)):
        return True
    if not head or b"\0" in head:
        return False
    with contextlib.suppress(UnicodeDecodeError):
        text = head[: len(head) - 4 if len(head) == SNIFF_BYTES else None].decode()
        return all(c.isprintable() or c in "\r\n\t\f" for c in text)
    return False


@dataclasses.dataclass(frozen=True)
class InspectStep:
    """What is in the file?"""

    max_duration_s: float

    async def run(self, context: StepContext) -> StepResult:
        """The output is a ``MediaInfo`` as JSON."""
        path = await context.fetch_source()
        media = await context.transcoder.inspect(InspectRequest(path=path, max_duration_s=self.max_duration_s))
        return StepResult(output=MEDIA_INFO.dump_python(media, mode="json"), warnings=media.warnings)


@dataclasses.dataclass(frozen=True)
class PackageStep:
    """Can the source be watched as it is, by copying its bytes?"""

    segment_s: float

    async def run(self, context: StepContext) -> StepResult:
        """Skipped, with the reason, when the source has to be encoded first."""
        if not context.transcoder.supports_package:
            return StepResult(skipped_reason="This transcoder cannot copy a source into playable form.")
        result = await context.transcoder.package(
            PackageRequest(
                path=await context.fetch_source(),
                media=media_of(context),
                out_dir=directory(context, "out"),
                segment_s=self.segment_s,
                on_progress=context.report_progress,
            )
        )
        if not result.renditions:
            return StepResult(skipped_reason=result.reason)
        return StepResult(
            output={"boundaries_s": list(result.boundaries_s), "renditions": names(result.renditions)},
            artefacts=[rendition_artefact(r) for r in result.renditions],
        )


@dataclasses.dataclass(frozen=True)
class LadderStep:
    """Every rung the source deserves. Where nothing could be packaged, the lowest comes first and is published as soon
    as it is whole, so that there is something to watch."""

    segment_s: float
    short_sides: tuple[int, ...]

    async def run(self, context: StepContext) -> StepResult:
        """Skipped when the packaged source is all that is needed, or other steps encode it in pieces."""
        if PIECES in context.inputs:
            return StepResult(skipped_reason="It is long: steps of their own encode it in pieces.")
        media = media_of(context)
        packaged = context.inputs.get(PACKAGED)
        rungs = context.transcoder.plan_ladder(
            PlanLadder(media=media, packaged=packaged is not None, short_sides=self.short_sides)
        )
        if packaged is not None:
            if not rungs:
                return StepResult(skipped_reason="The source is small enough to be its own ladder.")
            rungs = await tuned(context, rungs)
            made = await encoded(context, rungs, segment_s=self.segment_s, align_to_s=boundaries_of(packaged))
            if made.output[DAMAGED]:
                return without_idle(await self._instead_of_copy(context, made, boundaries_of(packaged)))
            return without_idle(made, above=await copied(context))
        if len(rungs) < 2:  # one rung, or only sound: there is no order to choose
            return await encoded(context, rungs, segment_s=self.segment_s, with_audio=True)
        return await self._lowest_first(context, rungs)

    async def _instead_of_copy(
        self, context: StepContext, made: StepResult, align_to_s: tuple[float, ...]
    ) -> StepResult:
        """With the rungs that the copied source stood for, now that players would stop at what is damaged in it."""
        rungs = context.transcoder.plan_ladder(PlanLadder(media=media_of(context), short_sides=self.short_sides))
        have = {Path(artefact.name).stem for artefact in made.artefacts}
        missing = tuple(rung for rung in rungs if rung.name not in have)
        artefacts = list(made.artefacts)
        if missing:
            # All was thought to be done: that cannot be taken back.
            more = await encoded(
                context, missing, segment_s=self.segment_s, align_to_s=align_to_s, on_progress=ignore_progress
            )
            artefacts = [*more.artefacts, *artefacts]
        facts: JsonObject = {REPLACES_COPY: True}
        artefacts = [dataclasses.replace(one, facts={**one.facts, **facts}) for one in artefacts]
        return dataclasses.replace(made, artefacts=artefacts)

    async def _lowest_first(self, context: StepContext, rungs: tuple[Rung, ...]) -> StepResult:
        lowest, rest = rungs[-1:], rungs[:-1]
        share = pixels(lowest) / pixels(rungs)
        report = context.report_progress
        first = await encoded(
            context,
            lowest,
            segment_s=self.segment_s,
            with_audio=True,
            urgent=True,
            on_progress=lambda fraction: report(share * fraction),
        )
        await context.publish(first.artefacts)
        rest = await tuned(context, rest)
        second = await encoded(
            context,
            rest,
            segment_s=self.segment_s,
            on_progress=lambda fraction: report(share + (1 - share) * fraction),
        )
        second = without_idle(second, below=first.artefacts)
        return StepResult(
            output={"renditions": [*_output_names(first), *_output_names(second)]},
            artefacts=second.artefacts,
            warnings=[*first.warnings, *second.warnings],
        )


class PosterStep:
    """Still pictures to choose from; until somebody does, the best one is the poster."""

    async def run(self, context: StepContext) -> StepResult:
        """Skipped where the transcoder makes none."""
        if not context.transcoder.supports_posters:
            return StepResult(skipped_reason="This transcoder cannot make posters.")
        posters = await context.transcoder.posters(
            PosterRequest(path=await context.fetch_source(), media=media_of(context), out_dir=directory(context, "out"))
        )
        return StepResult(
            output={"posters": len(posters)},
            artefacts=[
                ArtefactFile(
                    kind=POSTER_KIND,
                    name=f"poster-{number}{poster.picture.path.suffix}",
                    path=poster.picture.path,
                    content_type=poster.picture.content_type,
                    facts={
                        "width": poster.picture.width,
                        "height": poster.picture.height,
                        "at_s": poster.at_s,
                        "score": poster.score,
                    },
                )
                for number, poster in enumerate(posters, 1)
            ],
        )


class PreviewStep:
    """A short moving picture, for lists."""

    async def run(self, context: StepContext) -> StepResult:
        """Skipped where there is no picture, or the transcoder cannot."""
        media = media_of(context)
        if media.video is None or not context.transcoder.supports_preview:
            return StepResult(skipped_reason="There is no picture to show.")
        try:
            preview = await context.transcoder.preview(
                PreviewRequest(path=await context.fetch_source(), media=media, out_dir=directory(context, "out"))
            )
        except NotSupportedError as error:
            return StepResult(skipped_reason=error.message)
        artefact = ArtefactFile(
            kind=PREVIEW_KIND,
            name=f"preview{preview.path.suffix}",
            path=preview.path,
            content_type=preview.content_type,
            facts={"width": preview.width, "height": preview.height},
        )
        return StepResult(output={"width": preview.width, "height": preview.height}, artefacts=[artefact])


class SubtitlesStep:
    """The subtitles that came inside the file, as captions."""

    async def run(self, context: StepContext) -> StepResult:
        """Skipped where there are none."""
        media = media_of(context)
        if not media.subtitles or not context.transcoder.supports_extract_subtitles:
            return StepResult(skipped_reason="There are no subtitles in the file.")
        found = await context.transcoder.extract_subtitles(
            ExtractSubtitlesRequest(
                path=await context.fetch_source(),
                media=media,
                out_dir=directory(context, "out"),
                on_progress=context.report_progress,
            )
        )
        artefacts = [
            ArtefactFile(
                kind=CAPTIONS_KIND,
                name=f"embedded-{subtitles.stream.index + 1}.vtt",
                path=subtitles.path,
                content_type="text/vtt",
                facts={
                    "language": subtitles.stream.language,
                    "title": subtitles.stream.title,
                    "forced": subtitles.stream.forced,
                },
                segments=(
                    Segment(duration_s=media.duration_s, offset_bytes=0, length_bytes=subtitles.path.stat().st_size),
                ),
            )
            for subtitles in found
        ]
        warnings = await self._keep_text(context, found, media.duration_s)
        names: list[JsonValue] = [artefact.name for artefact in artefacts]
        return StepResult(output={"captions": names}, artefacts=artefacts, warnings=warnings)

    async def _keep_text(self, context: StepContext, found: Sequence[Subtitles], duration_s: float) -> list[str]:
        """The same as text, to be searched and edited. What somebody has edited before stays."""
        warnings = []
        async with kernel_run(context).under_lease() as uow:
            video = await uow.videos.get(VideoId(context.video.id))
            for subtitles in found:
                text = await asyncio.to_thread(subtitles.path.read_text, encoding="utf-8", errors="replace")
                try:
                    cues = parse_captions(text)
                except InvalidInputError as error:
                    warnings.append(f"Subtitles {subtitles.stream.index + 1} cannot be edited: {error.message}")
                    continue
                track = CaptionTrack(
                    video_id=video.id,
                    owner_id=video.owner_id,
                    name=f"embedded-{subtitles.stream.index + 1}",
                    language=subtitles.stream.language,
                    title=subtitles.stream.title,
                    forced=subtitles.stream.forced,
                    source=CaptionSource.EMBEDDED,
                    cues=tuple(cue for cue in cues if cue.start_s < duration_s),
                    created_at=video.created_at,
                    updated_at=video.created_at,
                )
                await put_unless_by_hand(uow, track)
        return warnings


class StoryboardStep:
    """The pictures of the seek bar, and the WebVTT file that says which is where."""

    async def run(self, context: StepContext) -> StepResult:
        """Skipped where there is no picture."""
        media = media_of(context)
        if media.video is None or not context.transcoder.supports_storyboard:
            return StepResult(skipped_reason="There is no picture to show.")
        out = directory(context, "out")
        storyboard = await context.transcoder.storyboard(
            StoryboardRequest(
                path=await context.fetch_source(), media=media, out_dir=out, on_progress=context.report_progress
            )
        )
        sheets = [
            ArtefactFile(
                kind=STORYBOARD_SHEET_KIND,
                name=f"sheet-{number:03d}{sheet.path.suffix}",
                path=sheet.path,
                content_type=sheet.content_type,
                facts={"width": sheet.width, "height": sheet.height},
            )
            for number, sheet in enumerate(storyboard.sheets)
        ]
        index = context.scratch / "storyboard.vtt"
        index.write_text(storyboard_vtt(storyboard.tiles, [sheet.name for sheet in sheets]), encoding="utf-8")
        return StepResult(
            output={"tiles": len(storyboard.tiles), "sheets": len(sheets)},
            artefacts=[
                *sheets,
                ArtefactFile(kind=STORYBOARD_KIND, name="storyboard.vtt", path=index, content_type="text/vtt"),
            ],
        )


def needs_of(
    work: Literal["package", "posters", "preview", "storyboard", "extract_subtitles"],
) -> Callable[[StepOutlook], Needs]:
    """A step that fetches the source and lets the transcoder work on it once."""

    def needs(outlook: StepOutlook) -> Needs:
        media = media_in(outlook)
        return source_needs(outlook) + outlook.transcoder.estimate(EstimateRequest(work=work, media=media))

    return needs


def ladder_needs(short_sides: tuple[int, ...]) -> Callable[[StepOutlook], Needs]:
    """The source and every rung of it, as if all were made at once."""

    def needs(outlook: StepOutlook) -> Needs:
        media = media_in(outlook)
        rungs = outlook.transcoder.plan_ladder(
            PlanLadder(media=media, packaged=PACKAGED in outlook.inputs, short_sides=short_sides)
        )
        request = EstimateRequest(work="encode_ladder", media=media, rungs=rungs)
        return source_needs(outlook) + outlook.transcoder.estimate(request)

    return needs


def process_steps(*, max_duration_s: float, segment_s: float, short_sides: tuple[int, ...]) -> tuple[StepSpec, ...]:
    """The kernel's own steps of a processing job."""
    probe = RetryPolicy(max_attempts=3, first_delay_s=1.0, max_delay_s=60.0)
    encode = RetryPolicy(max_attempts=3, first_delay_s=5.0, max_delay_s=300.0)
    return (
        _spec(VerifyStep(), "verify", produces=(VERIFIED,), retry=probe, weight=0.005),
        _spec(
            InspectStep(max_duration_s),
            "inspect",
            consumes=(VERIFIED,),
            produces=(MEDIA,),
            retry=probe,
            weight=0.01,
            needs=source_needs,
        ),
        _spec(
            PackageStep(segment_s),
            "package",
            consumes=(MEDIA,),
            produces=(PACKAGED,),
            timeout_per_media_s=1.0,
            weight=0.01,
            needs=needs_of("package"),
        ),
        _spec(
            LadderStep(segment_s, short_sides),
            "ladder",
            consumes=(MEDIA,),
            produces=(LADDER,),
            after=("package", "split"),
            resource=Resource.CPU,
            timeout_per_media_s=40.0,
            retry=encode,
            optional=False,
            weight=LADDER_WEIGHT,
            needs=ladder_needs(short_sides),
        ),
        _spec(
            SplitStep(segment_s, short_sides),
            "split",
            consumes=(MEDIA,),
            produces=(PIECES,),
            after=("package",),
            retry=probe,
            weight=0.001,
            needs=source_needs,
        ),
        *(
            dataclasses.replace(
                _spec(
                    handler,
                    name,
                    consumes=(),
                    produces=(),
                    resource=resource,
                    timeout_per_media_s=40.0,
                    retry=encode,
                    optional=False,
                    weight=weight,
                    needs=needs,
                ),
                further=True,
            )
            for handler, name, resource, weight, needs in (
                (WholeStep(segment_s), WHOLE_STEP, Resource.CPU, LADDER_WEIGHT, whole_needs),
                (PieceStep(segment_s), PIECE_STEP, Resource.CPU, LADDER_WEIGHT, piece_needs),
                (JoinStep(), JOIN_STEP, Resource.LIGHT, 0.01, join_needs),
            )
        ),
        _spec(PosterStep(), "poster", consumes=(MEDIA,), produces=(POSTER,), weight=0.02, needs=needs_of("posters")),
        _spec(
            SubtitlesStep(),
            "subtitles",
            consumes=(MEDIA,),
            produces=(SUBTITLES,),
            after=("package",),
            timeout_per_media_s=1.0,
            weight=0.005,
            needs=needs_of("extract_subtitles"),
        ),
        _spec(
            PreviewStep(),
            "preview",
            consumes=(MEDIA,),
            produces=(PREVIEW,),
            after=("package",),
            weight=0.02,
            needs=needs_of("preview"),
        ),
        _spec(
            StoryboardStep(),
            "storyboard",
            consumes=(MEDIA,),
            produces=(STORYBOARD,),
            after=("package",),
            timeout_per_media_s=1.0,
            weight=0.03,
            needs=needs_of("storyboard"),
        ),
    )


def _spec(
    handler: StepHandler,
    name: str,
    *,
    produces: tuple[str, ...],
    weight: float,
    consumes: tuple[str, ...] = (SOURCE,),
    after: tuple[str, ...] = (),
    resource: Resource = Resource.LIGHT,
    timeout_per_media_s: float = 0.0,
    retry: RetryPolicy | None = None,
    optional: bool | None = None,
    needs: Callable[[StepOutlook], Needs] | None = None,
) -> StepSpec:
    return StepSpec(
        name=name,
        open=opened(handler),
        consumes=consumes,
        produces=produces,
        after=after,
        resource=resource,
        timeout_s=120.0,
        timeout_per_media_s=timeout_per_media_s,
        retry=retry or RetryPolicy(),
        optional=name not in {"verify", "inspect"} if optional is None else optional,
        weight=weight,
        needs=needs,
    )


def opened(handler: StepHandler) -> Callable[[PluginContext], AbstractAsyncContextManager[StepHandler]]:
    """An ``open`` for a handler that needs no opening."""

    @contextlib.asynccontextmanager
    async def open_handler(context: PluginContext) -> AsyncGenerator[StepHandler]:
        yield handler

    return open_handler


def _output_names(result: StepResult) -> list[JsonValue]:
    names = result.output["renditions"]
    return list(names) if isinstance(names, Sequence) else []
