"""Suggestions of AI, and what it took, over HTTP."""

from __future__ import annotations

from itertools import groupby

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from echo_core.application.ai_usage import usage_of_user, usage_of_video
from echo_core.application.suggestions import (
    accept_suggestion,
    list_suggestions,
    reject_suggestion,
    suggest_again,
)
from echo_core.domain.ids import SuggestionId, VideoId
from echo_core.entrypoints.http import examples, responses, views
from echo_core.entrypoints.http.operations import Answer, Operation
from echo_core.entrypoints.http.parameters import path_uuid, read_body, read_query
from echo_core.entrypoints.http.requests import (
    AcceptSuggestionRequest,
    AIUsageQuery,
    ChapterRequest,
    SuggestAgainRequest,
    SuggestionListQuery,
)
from echo_core.entrypoints.http.state import services_of, user_of
from echo_core.plugin_api.json import JsonValue

PATH = "/api/v1/videos/{videoId}/suggestions"


def _video_id(request: Request) -> VideoId:
    return VideoId(path_uuid(request, "videoId"))


def _suggestion_id(request: Request) -> SuggestionId:
    return SuggestionId(path_uuid(request, "suggestionId"))


async def _list(request: Request) -> Response:
    query = read_query(request, SuggestionListQuery)
    found = await list_suggestions(services_of(request), user_of(request), _video_id(request), query.state)
    return responses.json_response(responses.SuggestionList(items=[views.suggestion(view) for view in found]))


async def _accept(request: Request) -> Response:
    body = await read_body(request, AcceptSuggestionRequest)
    value: JsonValue | None = None
    if isinstance(body.value, tuple):
        value = [
            {"start_s": one.start_seconds, "title": one.title} if isinstance(one, ChapterRequest) else one
            for one in body.value
        ]
    elif body.value is not None:
        value = body.value
    view = await accept_suggestion(
        services_of(request), user_of(request), _video_id(request), _suggestion_id(request), value
    )
    return responses.json_response(views.suggestion(view))


async def _reject(request: Request) -> Response:
    view = await reject_suggestion(services_of(request), user_of(request), _video_id(request), _suggestion_id(request))
    return responses.json_response(views.suggestion(view))


async def _again(request: Request) -> Response:
    body = await read_body(request, SuggestAgainRequest)
    view = await suggest_again(services_of(request), user_of(request), _video_id(request), body.steps)
    return responses.json_response(views.job(view), 202)


async def _video_usage(request: Request) -> Response:
    usage = await usage_of_video(services_of(request), user_of(request), _video_id(request))
    return responses.json_response(
        responses.VideoAIUsage(
            items=[views.ai_call(call) for call in usage.calls], totals=views.ai_totals(usage.totals)
        )
    )


async def _usage(request: Request) -> Response:
    query = read_query(request, AIUsageQuery)
    services = services_of(request)
    usage = await usage_of_user(services, user_of(request), query.days)
    days = []
    for day, rows in groupby(usage.days, key=lambda one: one.day):
        of_day = list(rows)
        by_provider = [
            responses.AIModelUsage(
                provider=one.provider, model=one.model, **msgspec.structs.asdict(views.ai_totals(one.totals))
            )
            for one in of_day
        ]
        totals = views.ai_totals(usage.of(day))
        days.append(responses.AIDay(date=day, by_provider=by_provider, **msgspec.structs.asdict(totals)))
    return responses.json_response(
        responses.AIUsage(
            today=views.ai_totals(usage.of(usage.today)),
            days=days,
            budget_per_day_usd=services.ai.budgets.per_day_usd,
            budget_per_video_usd=services.ai.budgets.per_video_usd,
        )
    )


OPERATIONS = (
    Operation(
        id="listSuggestions",
        method="GET",
        path=PATH,
        handler=_list,
        summary="What AI suggests for a video",
        description="Newest first, with what the video has in the same field now. `state=pending`: those that wait.",
        tag="suggestions",
        query=SuggestionListQuery,
        answers={
            200: Answer(
                description="The suggestions.", model=responses.SuggestionList, example=examples.SUGGESTION_LIST
            )
        },
        problems={404: ("not_found",), 422: ("validation_failed",)},
    ),
    Operation(
        id="suggestAgain",
        method="POST",
        path=f"{PATH}/rerun",
        handler=_again,
        summary="Ask AI again",
        description=(
            "Runs the steps `transcribe`, `describe`, `translate` and `embed` again, or those that are named, and what "
            "depends on them. What a person has written stays; new suggestions wait for a decision."
        ),
        tag="suggestions",
        body=SuggestAgainRequest,
        body_optional=True,
        body_example={"steps": ["describe"]},
        answers={202: Answer(description="It runs again.", model=responses.Job, example=examples.JOB)},
        problems={404: ("not_found",), 409: ("ai_not_configured", "job_unfinished")},
    ),
    Operation(
        id="acceptSuggestion",
        method="POST",
        path=f"{PATH}/{{suggestionId}}/accept",
        handler=_accept,
        summary="Take a suggestion over",
        description="With `value`: what you have made of it. The field counts as edited by a person from then on.",
        tag="suggestions",
        body=AcceptSuggestionRequest,
        body_optional=True,
        body_example={"value": "A day at the lake"},
        answers={200: Answer(description="It is taken over.", model=responses.Suggestion, example=examples.SUGGESTION)},
        problems={
            404: ("not_found",),
            409: ("suggestion_decided",),
            422: ("invalid_chapters", "invalid_suggestion_value"),
        },
    ),
    Operation(
        id="rejectSuggestion",
        method="POST",
        path=f"{PATH}/{{suggestionId}}/reject",
        handler=_reject,
        summary="Turn a suggestion down",
        tag="suggestions",
        answers={200: Answer(description="It is gone.", model=responses.Suggestion, example=examples.SUGGESTION)},
        problems={404: ("not_found",), 409: ("suggestion_decided",)},
    ),
    Operation(
        id="getVideoAiUsage",
        method="GET",
        path="/api/v1/videos/{videoId}/ai-usage",
        handler=_video_usage,
        summary="What AI took for a video",
        tag="suggestions",
        answers={
            200: Answer(description="Calls and sums.", model=responses.VideoAIUsage, example=examples.VIDEO_AI_USAGE)
        },
        problems={404: ("not_found",)},
    ),
    Operation(
        id="getMyAiUsage",
        method="GET",
        path="/api/v1/users/me/ai-usage",
        handler=_usage,
        summary="What AI took for my videos, by day",
        tag="suggestions",
        query=AIUsageQuery,
        answers={200: Answer(description="The days.", model=responses.AIUsage, example=examples.AI_USAGE)},
        problems={422: ("validation_failed",)},
    ),
)
