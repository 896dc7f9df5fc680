"""From what use cases return to what answers say. Long, because each answer has one function and no other reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from echo_core.application import jobs as job_use_cases
from echo_core.application.playback import PlaybackUrls, poster_name, posters_of
from echo_core.application.searching import Part, SearchResult
from echo_core.application.suggestions import SuggestionView, newest_of_each_field, viewed
from echo_core.application.videos import VideoDetails
from echo_core.application.watching import WatchPage
from echo_core.domain import jobs, videos
from echo_core.domain.ai_calls import AICallRecord, AITotals
from echo_core.domain.artefacts import RENDITION_KIND, Artefact
from echo_core.domain.caption_tracks import CaptionTrack, listed_tracks
from echo_core.domain.errors import ConflictError
from echo_core.domain.ids import VideoId
from echo_core.entrypoints.http import responses
from echo_core.plugin_api.json import JsonObject, JsonValue
from echo_core.plugin_api.storage import UploadTicket
from echo_core.plugin_api.transcoder import AudioStream, MediaInfo, VideoStream

HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
MEDIA_PRODUCT = "media"
WATCH_FIELDS = (
    "video_id",
    "title",
    "description",
    "tags",
    "language",
    "chapters",
    "duration_seconds",
    "width",
    "height",
    "created_at",
    "visibility",
)
"""What of a video is for everybody: not its file, nor its size, nor how it came to be."""

_media = TypeAdapter(MediaInfo)


def upload_target(ticket: UploadTicket) -> responses.UploadTarget:
    """How to send the bytes."""
    return responses.UploadTarget(
        protocol=ticket.protocol,
        method=ticket.method,
        headers=ticket.headers,
        chunk_size_bytes=ticket.chunk_size_bytes,
        expires_at=ticket.expires_at,
    )


def _fresh(url: str, updated_at: datetime) -> str:
    """Another address after each change, lest a browser shows the picture that it remembers."""
    return f"{url}&v={updated_at.timestamp() * 1000:.0f}"


def video_item(video: videos.VideoSummary, poster_url: Callable[[VideoId], str]) -> responses.VideoItem:
    """A row of a list."""
    return responses.VideoItem(
        video_id=video.id,
        status=video.status,
        title=video.title,
        filename=video.filename,
        visibility=video.visibility,
        created_at=video.created_at,
        updated_at=video.updated_at,
        duration_seconds=video.duration_s,
        width=video.width,
        height=video.height,
        size_bytes=video.size_bytes,
        playable=video.playable,
        poster_url=_fresh(poster_url(video.id), video.updated_at) if video.has_poster else None,
        job_id=video.job_id,
        percent=video.percent,
    )


def found_video(result: SearchResult, poster_url: Callable[[VideoId], str]) -> responses.FoundVideo:
    """A row of what was found."""
    video = result.video
    return responses.FoundVideo(
        video_id=video.id,
        title=video.title,
        title_parts=[_part(part) for part in result.title],
        status=video.status,
        poster_url=_fresh(poster_url(video.id), video.updated_at) if video.has_poster else None,
        duration_seconds=video.duration_s,
        created_at=video.created_at,
        score=video.score,
        matched=list(result.matched),
        hits=[
            responses.SearchHit(
                start_seconds=hit.start_s,
                end_seconds=hit.end_s,
                track=hit.track,
                parts=[_part(part) for part in hit.parts],
            )
            for hit in result.hits
        ],
    )


def _part(part: Part) -> responses.TextPart:
    return responses.TextPart(text=part.text, match=part.match)


def job(view: job_use_cases.JobView) -> responses.Job:
    """A job with its steps."""
    return responses.Job(
        job_id=view.job.id,
        video_id=view.job.video_id,
        state=view.job.state,
        percent=view.percent,
        eta_seconds=view.eta_s,
        queue_position=view.queue_position,
        cancel_requested=view.job.cancel_requested,
        created_at=view.job.created_at,
        finished_at=view.job.finished_at,
        error=_failure(view.job.first_error),
        steps=[_step(step) for step in view.job.steps],
    )


def _step(step: jobs.Step) -> responses.StepItem:
    done = step.state is jobs.StepState.SUCCEEDED
    return responses.StepItem(
        name=step.name,
        state=step.state,
        attempt=step.attempt,
        percent=100.0 if done else round(100.0 * step.progress, 1),
        optional=step.optional,
        started_at=step.started_at,
        finished_at=step.finished_at,
        error=_failure(step.error),
        skipped_reason=step.skipped_reason or None,
        warnings=step.warnings,
    )


def _failure(error: jobs.StepError | None) -> responses.StepFailure | None:
    if error is None:
        return None
    return responses.StepFailure(code=error.code, message=error.message, remedy=error.remedy, log_tail=error.log_tail)


def _upload_problem(error: ConflictError | None) -> responses.StepFailure | None:
    if error is None:
        return None
    return responses.StepFailure(code=error.code, message=error.message, remedy=error.remedy, log_tail=())


def _video_fields(video: videos.Video) -> dict[str, object]:
    return {
        "video_id": video.id,
        "status": video.status,
        "title": video.title,
        "description": video.description,
        "tags": video.tags,
        "language": video.language,
        "visibility": video.visibility,
        "chapters": [responses.ChapterItem(start_seconds=c.start_s, title=c.title) for c in video.chapters],
        "poster": video.poster,
        "edited_fields": sorted(video.edited_fields),
        "version": video.version,
        "filename": video.filename,
        "content_type": video.content_type,
        "size_bytes": video.size_bytes,
        "duration_seconds": video.duration_s,
        "width": video.width,
        "height": video.height,
        "created_at": video.created_at,
        "updated_at": video.updated_at,
    }


def video(entity: videos.Video) -> responses.Video:
    """A video's own facts."""
    return responses.Video(**_video_fields(entity))  # type: ignore[arg-type]  # one list of fields for both models


def video_details(details: VideoDetails, urls: PlaybackUrls) -> responses.VideoDetails:
    """All that a video's page shows."""
    products = details.job.job.products if details.job is not None else {}
    return responses.VideoDetails(
        **_video_fields(details.video),  # type: ignore[arg-type]  # as above
        playable=urls.playback_url is not None,
        playback_url=urls.playback_url,
        poster_url=urls.poster_url,
        preview_url=urls.preview_url,
        storyboard_url=urls.storyboard_url,
        source_url=urls.source_url,
        job=job(details.job) if details.job is not None else None,
        upload_problem=_upload_problem(details.quarantine),
        media=_media_facts(products.get(MEDIA_PRODUCT)),
        renditions=[_rendition(a) for a in details.artefacts if a.kind == RENDITION_KIND],
        posters=[_poster(a, urls, chosen=a is urls.poster) for a in posters_of(details.artefacts)],
        captions=captions(listed_tracks(details.tracks, details.artefacts), urls.of),
        suggestions=[suggestion(view) for view in viewed(newest_of_each_field(details.suggestions), details.video)],
        ai=ai_totals(details.ai),
        publications=[],
    )


def watch_page(page: WatchPage, urls: PlaybackUrls) -> responses.WatchPage:
    """What anybody sees of a video."""
    shown = _video_fields(page.video)
    return responses.WatchPage(
        **{name: shown[name] for name in WATCH_FIELDS},  # type: ignore[arg-type]  # as above
        playback_url=urls.playback_url,
        poster_url=urls.poster_url,
        preview_url=urls.preview_url,
        storyboard_url=urls.storyboard_url,
        captions=[
            responses.ShownCaptions(**_shown_captions(track, urls.of))
            for track in listed_tracks(page.tracks, page.artefacts)
        ],
    )


def _poster(artefact: Artefact, urls: PlaybackUrls, *, chosen: bool) -> responses.PosterItem:
    number = _numbers(artefact)
    return responses.PosterItem(
        name=poster_name(artefact),
        url=urls.of(f"posters/{artefact.name}"),
        at_seconds=number("at_s"),
        width=int(number("width")),
        height=int(number("height")),
        chosen=chosen,
    )


def _caption(track: CaptionTrack, url_of: Callable[[str], str]) -> responses.CaptionItem:
    return responses.CaptionItem(
        **_shown_captions(track, url_of),
        srt_url=url_of(f"captions/{track.name}.srt") if track.version else None,
        source=track.source,
        edited=track.edited,
        provider=track.provider,
        version=track.version,
    )


def _shown_captions(track: CaptionTrack, url_of: Callable[[str], str]) -> dict[str, Any]:
    return {
        "name": track.name,
        "url": url_of(f"captions/{track.name}.vtt"),
        "language": track.language,
        "title": track.title,
        "forced": track.forced,
        "automatic": track.source.automatic and not track.edited,
    }


def captions(tracks: Sequence[CaptionTrack], url_of: Callable[[str], str]) -> list[responses.CaptionItem]:
    """Captions as a list shows them; ``url_of`` gives the address of a part of the video."""
    return [_caption(track, url_of) for track in tracks]


def caption_track(track: CaptionTrack) -> responses.CaptionTrack:
    """Captions with their cues."""
    return responses.CaptionTrack(
        name=track.name,
        language=track.language,
        title=track.title,
        forced=track.forced,
        source=track.source,
        edited=track.edited,
        provider=track.provider,
        model=track.model,
        version=track.version,
        updated_at=track.updated_at,
        cues=[responses.CueItem(start_seconds=cue.start_s, end_seconds=cue.end_s, text=cue.text) for cue in track.cues],
    )


def suggestion(view: SuggestionView) -> responses.Suggestion:
    """A suggestion beside what the video has."""
    it = view.suggestion
    return responses.Suggestion(
        id=it.id,
        field=it.field,
        value=_suggested(it.field, it.value),
        current=_suggested(it.field, view.current),
        state=it.state,
        provider=it.provider,
        model=it.model,
        prompt_version=it.prompt_version,
        evidence=[responses.EvidenceItem(start_seconds=e.start_s, end_seconds=e.end_s) for e in it.evidence],
        cost_usd=it.cost_usd,
        locked=view.locked,
        auto=it.auto,
        created_at=it.created_at,
        decided_at=it.decided_at,
    )


def _suggested(field: str, value: JsonValue) -> Any:
    if field == "chapters" and isinstance(value, Sequence):
        return [_suggested_chapter(one) for one in value if isinstance(one, Mapping)]
    return value


def _suggested_chapter(value: Mapping[str, JsonValue]) -> responses.ChapterItem:
    return responses.ChapterItem(start_seconds=float(str(value["start_s"])), title=str(value["title"]))


def ai_totals(totals: AITotals) -> responses.AITotals:
    """What AI took."""
    return responses.AITotals(
        calls=totals.calls,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        media_seconds=totals.media_s,
        cost_usd=totals.cost_usd,
    )


def ai_call(call: AICallRecord) -> responses.AICall:
    """One call."""
    return responses.AICall(
        step=call.step,
        capability=call.capability,
        provider=call.provider,
        model=call.usage.model,
        prompt_version=call.usage.prompt_version,
        input_tokens=call.usage.input_tokens,
        output_tokens=call.usage.output_tokens,
        media_seconds=call.usage.media_s,
        cost_usd=call.usage.cost_usd,
        state="settled" if call.settled else "reserved",
        at=call.at,
    )


def _numbers(artefact: Artefact) -> Callable[[str], float]:
    def number(fact: str) -> float:
        value = artefact.facts.get(fact)
        return float(value) if isinstance(value, int | float) else 0.0

    return number


def _rendition(artefact: Artefact) -> responses.RenditionItem:
    number = _numbers(artefact)
    sound = artefact.facts.get("type") == "audio"
    return responses.RenditionItem(
        name=artefact.name.rpartition(".")[0] or artefact.name,
        type=str(artefact.facts.get("type", "")),
        codecs=str(artefact.facts.get("codecs", "")),
        width=int(number("width")) or None,
        height=int(number("height")) or None,
        fps=number("fps") or None,
        peak_bitrate_bps=int(number("peak_bitrate_bps")),
        average_bitrate_bps=int(number("average_bitrate_bps")),
        duration_seconds=number("duration_s"),
        size_bytes=artefact.size_bytes,
        copied=bool(artefact.facts.get("copied", False)),
        language=str(artefact.facts.get("language", "")) if sound else None,
        title=str(artefact.facts.get("title", "")) if sound else None,
    )


def _media_facts(output: JsonObject | None) -> responses.MediaFacts | None:
    if output is None:
        return None
    try:
        media = _media.validate_python(output)
    except ValidationError:
        # A plugin's own inspect step may tell other facts; the page then does without.
        return None
    return responses.MediaFacts(
        container=media.container,
        duration_seconds=media.duration_s,
        bitrate_bps=media.bitrate_bps,
        video=_picture(media.video) if media.video is not None else None,
        audio=[_sound(track) for track in media.audio],
        warnings=media.warnings,
    )


def _picture(stream: VideoStream) -> responses.PictureFacts:
    return responses.PictureFacts(
        codec=stream.codec,
        width=stream.width,
        height=stream.height,
        fps=stream.fps,
        bitrate_bps=stream.bitrate_bps,
        rotation_deg=stream.rotation_deg,
        hdr=stream.transfer in HDR_TRANSFERS,
    )


def _sound(stream: AudioStream) -> responses.SoundFacts:
    return responses.SoundFacts(
        codec=stream.codec,
        channels=stream.channels,
        sample_rate_hz=stream.sample_rate_hz,
        bitrate_bps=stream.bitrate_bps,
        language=stream.language,
        title=stream.title,
    )
