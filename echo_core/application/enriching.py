"""The steps that ask AI providers: captions from the sound, suggestions from the captions, captions in other languages.

All are optional and of a resource class of their own: none holds a video back, and none waits behind an encode. What a
provider says is validated (``domain/grounding.py``) before anything of it is stored; what a person has written is never
changed by it. Longer than a module should be: three steps of one kind, which are read together.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import msgspec

from echo_core.application.ai import AIProviders, StepCall
from echo_core.application.caption_keeping import put_unless_by_hand
from echo_core.application.job_changes import video_event
from echo_core.application.ports import UnitOfWork, WorkerUnitsOfWork
from echo_core.application.processing import opened
from echo_core.application.running import kernel_run
from echo_core.application.speech import SpeechCuts
from echo_core.application.transcoding import MEDIA, directory, media_of, source_needs
from echo_core.domain.ai_calls import Budgets
from echo_core.domain.artefacts import POSTER_KIND
from echo_core.domain.caption_tracks import CaptionSource, CaptionTrack, primary_language, spoken_track
from echo_core.domain.captions import Cue
from echo_core.domain.grounding import (
    GroundedDescription,
    cues_of,
    ground_description,
    ground_transcript,
    ground_translation,
    ground_usage,
    ground_warnings,
    missing_translations,
    segments_of,
)
from echo_core.domain.ids import UserId, VideoId, new_suggestion_id
from echo_core.domain.suggestions import (
    LANGUAGE_FIELD,
    Suggestion,
    SuggestionState,
    takes_over,
    value_of,
    with_value,
)
from echo_core.domain.videos import Video
from echo_core.plugin_api.ai import (
    AIProvider,
    Capability,
    DescribeRequest,
    Frame,
    TimeSpan,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Usage,
    VideoAddress,
)
from echo_core.plugin_api.json import JsonValue
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
    StoredArtefact,
)
from echo_core.plugin_api.storage import ReadObject, ReadUrl

TRANSCRIPT: Final = "transcript"
DESCRIPTION: Final = "description"
TRANSLATIONS: Final = "translations"
TRANSCRIBE_STEP: Final = "transcribe"
DESCRIBE_STEP: Final = "describe"
TRANSLATE_STEP: Final = "translate"
TRANSCRIPT_KIND: Final = "transcript"

WAV_BYTES_PER_S = 32_000
MAX_FRAMES = 12
MAX_FRAME_BYTES = 4 << 20
MAX_SUGGESTIONS = 200
"""Of a video, that are looked at to tell whether a field was suggested before."""
MAX_VOCABULARY = 50
VIDEO_ADDRESS_EXPIRES_IN_S = 6 * 3600


@dataclass(frozen=True, kw_only=True)
class Enrichment:
    """What the steps work with. ``languages`` are those to translate into; ``accept``: whether suggestions for
    untouched fields are taken over by themselves. ``public_url`` is where this instance itself is reached.
    ``memory_bytes``: what one transcription takes on this machine at most."""

    units_of_work: WorkerUnitsOfWork
    providers: AIProviders
    budgets: Budgets
    languages: tuple[str, ...]
    accept: bool
    public_url: str
    memory_bytes: int = 0


class EnrichmentStep:
    """What the steps have in common. Without ``enrichment`` (in the API) they can be planned, not run."""

    name: str = ""
    capability: Capability

    def __init__(self, enrichment: Enrichment | None) -> None:
        self._enrichment = enrichment

    @property
    def work(self) -> Enrichment:
        """Raises ``RuntimeError`` where it was only planned."""
        if self._enrichment is None:
            raise RuntimeError(f"the step {self.name} was planned without AI providers and cannot run")
        return self._enrichment

    def call(self, context: StepContext, provider: str, part: str = "") -> StepCall:
        """The surroundings of one request to a provider; ``part`` tells several of a run apart."""
        video = context.video
        return StepCall(
            units_of_work=self.work.units_of_work,
            budgets=self.work.budgets,
            video_id=VideoId(video.id),
            owner_id=UserId(video.owner_id),
            source=f"{video.source_checksum} {video.source_generation} {video.size_bytes}",
            step=self.name,
            capability=self.capability,
            provider=provider,
            scratch=directory(context, f"{self.name}-{provider}{part}"),
            on_progress=context.report_progress,
        )

    async def read(self, context: StepContext) -> tuple[Video, tuple[CaptionTrack, ...]]:
        """The video and its captions as they are now."""
        video_id = VideoId(context.video.id)
        async with self.work.units_of_work.for_worker() as uow:
            video = await uow.videos.get(video_id)
            return video, tuple(await uow.caption_tracks.list_for_video(video_id, cues=True))


class TranscribeStep(EnrichmentStep):
    """What is said in it?"""

    name = TRANSCRIBE_STEP
    capability = Capability.TRANSCRIBE

    async def run(self, context: StepContext) -> StepResult:
        """Skipped where there is no sound, or nothing is said."""
        media = media_of(context)
        if not media.audio:
            return StepResult(skipped_reason="There is no sound in it.")
        if not context.transcoder.supports_extract_audio:
            return StepResult(skipped_reason="This transcoder cannot extract the sound.")
        video, _ = await self.read(context)
        spoken = video.language if LANGUAGE_FIELD in video.edited_fields else ""
        speech = SpeechCuts(context, media, directory(context, "speech"))

        async def ask(name: str, provider: AIProvider) -> Transcript:
            said = await provider.transcribe(
                TranscribeRequest(
                    call=self.call(context, name), speech=speech, language=spoken, vocabulary=_vocabulary(video)
                )
            )
            return ground_transcript(said, media.duration_s)

        answer = await self.work.providers.ask(self.capability, ask)
        said = answer.result
        warnings = [*answer.warnings, *said.warnings]
        cues = cues_of(said, media.duration_s)
        if not cues:
            return StepResult(skipped_reason="Nothing is said in it that could be written down.", warnings=warnings)
        track = _track(video, CaptionSource.TRANSCRIBED, said.language, cues, answer.provider, said.usage)
        async with kernel_run(context).under_lease() as uow:
            if not await put_unless_by_hand(uow, track):
                warnings.append(
                    f"The captions {track.name} were edited by hand and stay. Delete them to take the new ones."
                )
            await self._take_back(uow, track)
            if said.language:
                await self._language(uow, context, said, answer.provider)
            await uow.ai_calls.forget(video.id, self.capability.value)
        transcript = context.scratch / "transcript.json"
        await asyncio.to_thread(transcript.write_bytes, msgspec.json.encode(said))
        return StepResult(
            output={"track": track.name, "language": said.language, "cues": len(cues), "provider": answer.provider},
            artefacts=[
                ArtefactFile(
                    kind=TRANSCRIPT_KIND,
                    name=f"{track.name}.json",
                    path=transcript,
                    content_type="application/json",
                    facts={"language": said.language, "provider": answer.provider, "model": said.usage.model},
                )
            ],
            warnings=warnings,
        )

    async def _take_back(self, uow: UnitOfWork, track: CaptionTrack) -> None:
        """What was heard in another language before was misheard; what a person has made of it stays."""
        for old in await uow.caption_tracks.list_for_video(track.video_id):
            if old.source is CaptionSource.TRANSCRIBED and not old.by_hand and old.name != track.name:
                await uow.caption_tracks.remove(track.video_id, old.name)

    async def _language(self, uow: UnitOfWork, context: StepContext, said: Transcript, provider: str) -> None:
        heard = TimeSpan(start_s=said.segments[0].start_s, end_s=said.segments[-1].end_s)
        await suggest(
            uow,
            VideoId(context.video.id),
            {LANGUAGE_FIELD: said.language},
            {LANGUAGE_FIELD: (heard,)},
            provider=provider,
            usage=said.usage,
            accept=self.work.accept,
        )


class DescribeStep(EnrichmentStep):
    """What is it about?"""

    name = DESCRIBE_STEP
    capability = Capability.DESCRIBE

    async def run(self, context: StepContext) -> StepResult:
        """Skipped where nothing could be suggested."""
        media = media_of(context)
        video, tracks = await self.read(context)
        track = spoken_track(tracks, video.language)
        segments = segments_of(track.cues) if track is not None else ()
        frames = await self._frames(context)
        address = await self._address(context)

        async def ask(name: str, provider: AIProvider) -> tuple[GroundedDescription, Usage, tuple[str, ...]]:
            described = await provider.describe(
                DescribeRequest(
                    call=self.call(context, name),
                    duration_s=media.duration_s,
                    language=video.language or (track.language if track is not None else ""),
                    segments=segments,
                    filename=video.filename,
                    frames=frames,
                    video=address,
                )
            )
            grounded = ground_description(described, duration_s=media.duration_s, segments=segments)
            return grounded, ground_usage(described.usage), ground_warnings(described.warnings)

        answer = await self.work.providers.ask(self.capability, ask)
        grounded, usage, said = answer.result
        values = suggested_values(grounded)
        warnings = [*answer.warnings, *said, *grounded.notes]
        if not values:
            return StepResult(skipped_reason="There was nothing to suggest for this video.", warnings=warnings)
        async with kernel_run(context).under_lease() as uow:
            await suggest(
                uow,
                video.id,
                values,
                grounded.evidence,
                provider=answer.provider,
                usage=usage,
                accept=self.work.accept,
            )
            await uow.ai_calls.forget(video.id, self.capability.value)
        return StepResult(output={"fields": sorted(values), "provider": answer.provider}, warnings=warnings)

    async def _frames(self, context: StepContext) -> tuple[Frame, ...]:
        """The pictures that could be posters: they are spread over the video and show something."""
        found = []
        pictures = [one for one in await context.stored(POSTER_KIND) if one.size_bytes <= MAX_FRAME_BYTES]
        folder = directory(context, "frames")
        for picture in pictures[:MAX_FRAMES]:
            path = folder / picture.name
            await _fetch(context, picture, path)
            kind = "image/png" if path.suffix == ".png" else "image/webp" if path.suffix == ".webp" else "image/jpeg"
            found.append(Frame(at_s=float(str(picture.facts.get("at_s", 0.0))), path=path, content_type=kind))
        return tuple(sorted(found, key=lambda frame: frame.at_s))

    async def _address(self, context: StepContext) -> VideoAddress | None:
        """Where a vendor could read the source; None where only this instance can."""
        video, storage = context.video, context.storage
        generation = video.source_generation or None
        signed = await storage.read_url(
            ReadUrl(
                key=video.source_key,
                expires_in_s=VIDEO_ADDRESS_EXPIRES_IN_S,
                generation=generation,
                content_type=video.content_type,
            )
        )
        outside = signed.url.startswith("https://") and not signed.url.startswith(f"{self.work.public_url}/")
        uri = storage.object_uri(video.source_key)
        if not outside and not uri:
            return None
        return VideoAddress(uri=uri, url=signed.url if outside else "", content_type=video.content_type)


class TranslateStep(EnrichmentStep):
    """The captions in other languages."""

    name = TRANSLATE_STEP
    capability = Capability.TRANSLATE

    async def run(self, context: StepContext) -> StepResult:
        """Skipped where there is nothing to translate, or every language is there already."""
        video, tracks = await self.read(context)
        track = spoken_track(tracks, video.language)
        if track is None:
            return StepResult(skipped_reason="There are no captions to translate.")
        by_hand = {primary_language(t.language) for t in tracks if t.by_hand and not t.forced}
        has = by_hand | {primary_language(track.language)}
        wanted = [language for language in self.work.languages if primary_language(language) not in has]
        if not wanted:
            return StepResult(skipped_reason="Captions in every wanted language are there.")
        made: list[JsonValue] = []
        warnings: list[str] = []
        for number, language in enumerate(wanted):
            cues, usage, provider, said = await self._translated(context, track, language)
            warnings += said
            translated = _track(video, CaptionSource.TRANSLATED, language, cues, provider, usage)
            async with kernel_run(context).under_lease() as uow:
                await put_unless_by_hand(uow, translated)
                await uow.events.add([video_event("video.updated", await uow.videos.get(video.id))])
            made.append(translated.name)
            context.report_progress((number + 1) / len(wanted))
        async with kernel_run(context).under_lease() as uow:
            await uow.ai_calls.forget(video.id, self.capability.value)
        return StepResult(output={"tracks": made}, warnings=warnings)

    async def _translated(
        self, context: StepContext, track: CaptionTrack, language: str
    ) -> tuple[tuple[Cue, ...], Usage, str, tuple[str, ...]]:
        async def ask(name: str, provider: AIProvider) -> tuple[tuple[Cue, ...], Usage, int]:
            translation = await provider.translate(
                TranslateRequest(
                    call=self.call(context, name, f"-{language}"),
                    texts=tuple(cue.text.replace("\n", " ") for cue in track.cues),
                    source_language=track.language,
                    target_language=language,
                )
            )
            missing = missing_translations(track.cues, translation.texts)
            return ground_translation(track.cues, translation.texts), ground_usage(translation.usage), missing

        answer = await self.work.providers.ask(self.capability, ask)
        cues, usage, missing = answer.result
        warnings = answer.warnings
        if missing:
            warnings = (
                *warnings,
                f"{missing} captions were not translated into {language}, and stay as they are said.",
            )
        return cues, usage, answer.provider, warnings


async def suggest(
    uow: UnitOfWork,
    video_id: VideoId,
    values: Mapping[str, JsonValue],
    evidence: Mapping[str, Sequence[TimeSpan]],
    *,
    provider: str,
    usage: Usage,
    accept: bool,
) -> None:
    """Store suggestions, in one transaction with what is taken over by itself. What the video has already is no
    suggestion, and what is waiting with the same value is none either."""
    video = changed = await uow.videos.get(video_id, for_update=True)
    earlier = await uow.suggestions.list_for_video(video_id, MAX_SUGGESTIONS)
    now = await uow.jobs.now()
    told = False
    for name, value in values.items():
        waiting = any(s.field == name and s.state is SuggestionState.PENDING and s.value == value for s in earlier)
        if waiting or (value == value_of(video, name) and any(s.field == name for s in earlier)):
            continue
        suggestion = Suggestion(
            id=new_suggestion_id(),
            video_id=video.id,
            owner_id=video.owner_id,
            field=name,
            value=value,
            state=SuggestionState.PENDING,
            provider=provider,
            model=usage.model,
            prompt_version=usage.prompt_version,
            evidence=tuple(evidence.get(name, ())),
            cost_usd=usage.cost_usd,
            created_at=now,
        )
        if accept and takes_over(video, name, earlier):
            suggestion = suggestion.decided(SuggestionState.ACCEPTED, now, auto=True)
            changed = with_value(changed, name, value)
        await uow.suggestions.add(suggestion)
        told = True
    if changed != video:
        await uow.videos.save(dataclasses.replace(changed, version=video.version + 1))
    if told:
        await uow.events.add([video_event("video.updated", changed)])


def suggested_values(grounded: GroundedDescription) -> dict[str, JsonValue]:
    """Values of suggestions by field, in the shape in which they are stored."""
    values: dict[str, JsonValue] = {}
    if grounded.title is not None:
        values["title"] = grounded.title
    if grounded.description is not None:
        values["description"] = grounded.description
    if grounded.tags is not None:
        values["tags"] = list(grounded.tags)
    if grounded.chapters is not None:
        values["chapters"] = [{"start_s": c.start_s, "title": c.title} for c in grounded.chapters]
    return values


def _track(
    video: Video, source: CaptionSource, language: str, cues: tuple[Cue, ...], provider: str, usage: Usage
) -> CaptionTrack:
    return CaptionTrack(
        video_id=video.id,
        owner_id=video.owner_id,
        name=f"auto-{language}".lower() if language else "auto",
        language=language,
        source=source,
        provider=provider,
        model=usage.model,
        cues=cues,
        created_at=video.created_at,
        updated_at=video.created_at,
    )


def _vocabulary(video: Video) -> tuple[str, ...]:
    """Names that are likely to be said: what a person has written down about the video."""
    written = [video.title] if "title" in video.edited_fields else []
    written += video.tags if "tags" in video.edited_fields else []
    return tuple(written[:MAX_VOCABULARY])


async def _fetch(context: StepContext, stored: StoredArtefact, path: Path) -> None:
    picture = b""
    read = context.storage.open_read(
        ReadObject(key=stored.key, end=stored.size_bytes, generation=stored.generation or None)
    )
    async with aclosing(read) as chunks:
        async for chunk in chunks:
            picture += chunk
    await asyncio.to_thread(path.write_bytes, picture)


def enrichment_steps(
    *, transcribes: bool, describes: bool, translates: bool, enrichment: Enrichment | None = None
) -> tuple[StepSpec, ...]:
    """The steps for what providers are set up for. Without ``enrichment`` they can be planned (the API does that), not
    run."""
    memory_bytes = enrichment.memory_bytes if enrichment is not None else 0

    def needs(outlook: StepOutlook) -> Needs:
        duration_s = float(str(outlook.inputs[MEDIA].get("duration_s") or 0.0))
        sound = Needs(scratch_bytes=int(duration_s * WAV_BYTES_PER_S), memory_bytes=memory_bytes)
        return source_needs(outlook) + sound

    wanted: list[tuple[bool, EnrichmentStep, tuple[str, ...], str, float, float]] = [
        (transcribes, TranscribeStep(enrichment), ("subtitles",), TRANSCRIPT, 2.0, 0.15),
        (describes, DescribeStep(enrichment), ("transcribe", "subtitles", "poster"), DESCRIPTION, 0.5, 0.02),
        (translates, TranslateStep(enrichment), ("transcribe", "subtitles"), TRANSLATIONS, 0.5, 0.02),
    ]
    return tuple(
        StepSpec(
            name=step.name,
            open=opened(cast("StepHandler", step)),
            consumes=(MEDIA,),
            produces=(product,),
            after=after,
            resource=Resource.AI,
            timeout_s=1800.0,
            timeout_per_media_s=per_media_s,
            retry=RetryPolicy(max_attempts=4, first_delay_s=15.0, max_delay_s=900.0),
            optional=True,
            weight=weight,
            needs=needs if step.name == TRANSCRIBE_STEP else None,
        )
        for on, step, after, product, per_media_s, weight in wanted
        if on
    )
