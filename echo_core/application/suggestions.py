"""Suggestions as their owner decides on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from echo_core.application.embedding import EMBED_STEP
from echo_core.application.enriching import (
    DESCRIBE_STEP,
    MAX_SUGGESTIONS,
    TRANSCRIBE_STEP,
    TRANSLATE_STEP,
)
from echo_core.application.job_changes import store_change, video_event
from echo_core.application.jobs import JobView, job_view
from echo_core.application.services import ApiServices
from echo_core.application.videos import check_chapters
from echo_core.domain.errors import ConflictError, UnknownEntityError
from echo_core.domain.ids import SuggestionId, VideoId
from echo_core.domain.jobs import JobKind
from echo_core.domain.suggestions import Suggestion, SuggestionState, checked_value, value_of, with_value
from echo_core.domain.users import User
from echo_core.domain.videos import Video
from echo_core.plugin_api.json import JsonValue

AI_STEPS = (TRANSCRIBE_STEP, DESCRIBE_STEP, TRANSLATE_STEP, EMBED_STEP)


@dataclass(frozen=True, kw_only=True, slots=True)
class SuggestionView:
    """A suggestion beside what the video has in that field now, and whether a person has set that."""

    suggestion: Suggestion
    current: JsonValue
    locked: bool


def viewed(suggestions: Sequence[Suggestion], video: Video) -> list[SuggestionView]:
    """Suggestions beside the video."""
    return [
        SuggestionView(suggestion=s, current=value_of(video, s.field), locked=s.field in video.edited_fields)
        for s in suggestions
    ]


def newest_of_each_field(suggestions: Sequence[Suggestion]) -> list[Suggestion]:
    """The one that waits, else the one that was decided last, for each field; of suggestions newest first."""
    found: dict[str, Suggestion] = {}
    for one in suggestions:
        if one.state is not SuggestionState.SUPERSEDED:
            found.setdefault(one.field, one)
    return list(found.values())


async def list_suggestions(
    services: ApiServices, user: User, video_id: VideoId, state: SuggestionState | None
) -> Sequence[SuggestionView]:
    """Newest first. Raises ``UnknownEntityError``."""
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id)
        found = await uow.suggestions.list_for_video(video_id, MAX_SUGGESTIONS)
    return viewed([s for s in found if state in (None, s.state)], video)


async def accept_suggestion(
    services: ApiServices, user: User, video_id: VideoId, suggestion_id: SuggestionId, value: JsonValue | None
) -> SuggestionView:
    """Take a suggestion over, or with a ``value`` what the owner has made of it: a person has set the field then.

    Raises ``UnknownEntityError``, ``IllegalChangeError`` (``suggestion_decided``), ``InvalidInputError``.
    """
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id, for_update=True)
        suggestion = await uow.suggestions.get(video_id, suggestion_id, for_update=True)
        state = SuggestionState.ACCEPTED if value in (None, suggestion.value) else SuggestionState.EDITED
        decided = suggestion.decided(state, await uow.jobs.now())
        if value is not None:
            decided = replace(decided, value=checked_value(suggestion.field, value))
        changed = with_value(video, suggestion.field, decided.value)
        check_chapters(changed.chapters, video.duration_s)
        changed = replace(changed, edited_fields=video.edited_fields | {suggestion.field}, version=video.version + 1)
        await uow.suggestions.save(decided)
        await uow.videos.save(changed)
        await uow.events.add([video_event("video.updated", changed)])
    return viewed([decided], changed)[0]


async def reject_suggestion(
    services: ApiServices, user: User, video_id: VideoId, suggestion_id: SuggestionId
) -> SuggestionView:
    """The owner does not want it. Raises ``UnknownEntityError``, ``IllegalChangeError`` (``suggestion_decided``)."""
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id, for_update=True)
        suggestion = await uow.suggestions.get(video_id, suggestion_id, for_update=True)
        decided = suggestion.decided(SuggestionState.REJECTED, await uow.jobs.now())
        await uow.suggestions.save(decided)
        await uow.events.add([video_event("video.updated", video)])
    return viewed([decided], video)[0]


async def suggest_again(services: ApiServices, user: User, video_id: VideoId, steps: Sequence[str]) -> JobView:
    """Run steps of AI again, all that this instance has if none is named. Videos from before there were any get them.

    Raises ``UnknownEntityError``, ``ConflictError`` (``ai_not_configured``), ``IllegalChangeError``
    (``job_unfinished``).
    """
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)
    planned = [entry.spec.name for entry in services.pipeline.process if entry.spec.name in AI_STEPS]
    wanted = [name for name in planned if not steps or name in steps]
    if not wanted:
        raise ConflictError(
            "No AI provider is set up for that here.",
            code="ai_not_configured",
            remedy="Name providers in [ai] of the configuration.",
        )
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)
        job = await uow.jobs.find_for_video(video_id, JobKind.PROCESS, for_update=True)
        if job is None:
            raise UnknownEntityError("This video has not been uploaded yet.", remedy="Complete its upload first.")
        now = await uow.jobs.now()
        video = await uow.videos.get(video_id)
        added = services.pipeline.missing_steps(job, wanted)
        grown = job.with_further(added, media_duration_s=video.duration_s or 0.0)
        return await job_view(uow, await store_change(uow, job, grown.rerun(wanted, now)))
