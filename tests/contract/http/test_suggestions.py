from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from echo_core.application.services import AISetup
from echo_core.domain.ai_calls import AICallRecord, Budgets
from echo_core.domain.ids import VideoId, new_ai_call_id, new_suggestion_id
from echo_core.domain.suggestions import Suggestion, SuggestionState
from echo_core.plugin_api.ai import Capability, TimeSpan, Usage
from tests.fakes.api import OTHER, OWNER, PIPELINE, FakeApi, ai_step, bearer, uploaded

AI = AISetup(
    serving={Capability.DESCRIBE: ("local",)}, budgets=Budgets(per_video_usd=1.0, per_day_usd=5.0), translate_to=("de",)
)
WITH_AI = replace(PIPELINE, process=(*PIPELINE.process, ai_step("transcribe"), ai_step("describe")))


def suggest(api: FakeApi, video_id: str, field: str = "title", value: object = "A day out") -> str:
    suggestion = Suggestion(
        id=new_suggestion_id(),
        video_id=VideoId(UUID(video_id)),
        owner_id=OWNER.id,
        field=field,
        value=value,  # type: ignore[arg-type]
        state=SuggestionState.PENDING,
        provider="local",
        model="m",
        prompt_version="1",
        evidence=(TimeSpan(start_s=1.0, end_s=2.5),),
        cost_usd=0.25,
        created_at=api.clock.now(),
    )
    api.database.tables.suggestions[suggestion.id] = suggestion
    return str(suggestion.id)


async def a_video(api: FakeApi, client: httpx2.AsyncClient) -> str:
    return str((await uploaded(api, client))[0])


def path(video_id: str, rest: str = "") -> str:
    return f"/api/v1/videos/{video_id}/suggestions{rest}"


async def test_a_suggestion_stands_beside_what_the_video_has_with_where_it_comes_from() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id = await a_video(api, client)
        suggest(api, video_id, "chapters", [{"start_s": 0.0, "title": "Start"}])
        suggest(api, video_id)
        await client.put(f"/api/v1/videos/{video_id}/metadata", json={"title": "Mine"})
        title, chapters = (await client.get(path(video_id))).json()["items"]
        details = (await client.get(f"/api/v1/videos/{video_id}/details")).json()
    assert (title["value"], title["current"], title["locked"], title["state"]) == ("A day out", "Mine", True, "pending")
    assert title["evidence"] == [{"startSeconds": 1.0, "endSeconds": 2.5}]
    assert (title["provider"], title["model"], title["promptVersion"], title["costUsd"]) == ("local", "m", "1", 0.25)
    assert (chapters["value"], chapters["current"]) == ([{"startSeconds": 0.0, "title": "Start"}], [])
    assert {s["field"] for s in details["suggestions"]} == {"title", "chapters"}


async def test_accepting_sets_the_field_as_if_its_owner_had() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id = await a_video(api, client)
        chapters = suggest(api, video_id, "chapters", [{"start_s": 0.0, "title": "Start"}])
        accepted = await client.post(path(video_id, f"/{suggest(api, video_id)}/accept"))
        assert (accepted.status_code, accepted.json()["state"], accepted.json()["auto"]) == (200, "accepted", False)
        await client.post(path(video_id, f"/{chapters}/accept"), json={})
        video = (await client.get(f"/api/v1/videos/{video_id}/details")).json()
        assert (video["title"], video["chapters"]) == ("A day out", [{"startSeconds": 0.0, "title": "Start"}])
        assert (video["editedFields"], video["version"]) == (["chapters", "title"], 3)
        again = await client.post(path(video_id, f"/{chapters}/reject"))
        assert (again.status_code, again.json()["code"]) == (409, "suggestion_decided")
        assert (await client.get(path(video_id, "?state=pending"))).json()["items"] == []
    assert api.database.tables.events[-1].type == "video.updated"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "  My\nown title "),
        ("description", "Two\nlines"),
        ("tags", ["one", "two"]),
        ("chapters", [{"startSeconds": 0, "title": "A"}, {"startSeconds": 2.5, "title": "B"}]),
        ("language", "pt-BR"),
    ],
)
async def test_what_the_owner_has_made_of_it_is_taken(field: str, value: Any) -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id = await a_video(api, client)
        suggestion = suggest(api, video_id, field, [] if field in {"tags", "chapters"} else "x")
        edited = await client.post(path(video_id, f"/{suggestion}/accept"), json={"value": value})
        assert (edited.status_code, edited.json()["state"]) == (200, "edited"), edited.text
        video = (await client.get(f"/api/v1/videos/{video_id}/details")).json()
    assert video[field] == ("My own title" if field == "title" else value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("title", ["a"]), ("title", ""), ("tags", "a"), ("chapters", ["a"]), ("language", "not a language")],
)
async def test_a_value_of_another_shape_is_refused(field: str, value: Any) -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id = await a_video(api, client)
        suggestion = suggest(api, video_id, field, [] if field in {"tags", "chapters"} else "x")
        refused = await client.post(path(video_id, f"/{suggestion}/accept"), json={"value": value})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_suggestion_value")
        assert (await client.get(path(video_id, "?state=pending"))).json()["items"]


async def test_a_rejected_suggestion_changes_nothing() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id = await a_video(api, client)
        rejected = await client.post(path(video_id, f"/{suggest(api, video_id)}/reject"))
        assert rejected.json()["state"] == "rejected"
        assert (await client.get(f"/api/v1/videos/{video_id}/details")).json()["title"] == "My film"


async def test_asking_again_needs_a_provider_and_a_job_that_has_ended() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id = await a_video(api, client)
        none = await client.post(path(video_id, "/rerun"))
        assert (none.status_code, none.json()["code"]) == (409, "ai_not_configured")
        api.pipeline = WITH_AI
    async with api.client() as client:
        busy = await client.post(path(video_id, "/rerun"), json={"steps": ["describe"]})
        assert (busy.status_code, busy.json()["code"]) == (409, "job_unfinished")
        api.change_job(api.job_of(UUID(video_id)).cancel(api.clock.now()))
        job = (await client.post(path(video_id, "/rerun"), json={"steps": ["describe"]})).json()
    states = {step["name"]: step["state"] for step in job["steps"]}
    assert states["describe"] == "pending", "a video from before there were such steps gets it"
    assert states["inspect"] == "queued", "what it needs was never made"
    assert "transcribe" not in states


async def test_somebody_elses_suggestions_are_not_there() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id = await a_video(api, client)
        suggestion = suggest(api, video_id)
        headers = bearer(OTHER)
        answers = [
            await client.get(path(video_id), headers=headers),
            await client.post(path(video_id, f"/{suggestion}/accept"), headers=headers),
            await client.post(path(video_id, f"/{suggestion}/reject"), headers=headers),
            await client.get(f"/api/v1/videos/{video_id}/ai-usage", headers=headers),
        ]
    assert {answer.status_code for answer in answers} == {404}


async def test_what_ai_took_is_told_by_video_and_by_day() -> None:
    api = FakeApi(ai=AI)
    async with api.client() as client:
        video_id = await a_video(api, client)
        for age, cost in ((timedelta(), 0.25), (timedelta(), 0.5), (timedelta(days=1), 1.0)):
            usage = Usage(model="m", prompt_version="1", input_tokens=100, output_tokens=5, cost_usd=cost)
            call = AICallRecord(
                id=new_ai_call_id(),
                video_id=VideoId(UUID(video_id)),
                step="describe",
                capability="describe",
                provider="gemini",
                usage=usage,
                settled=cost != 0.5,
                at=api.clock.now() - age,
            )
            api.database.tables.ai_calls.append((OWNER.id, call))
        video = (await client.get(f"/api/v1/videos/{video_id}/ai-usage")).json()
        mine = (await client.get("/api/v1/users/me/ai-usage?days=7")).json()
        details = (await client.get(f"/api/v1/videos/{video_id}/details")).json()
        other = (await client.get("/api/v1/users/me/ai-usage", headers=bearer(OTHER))).json()
        instance = (await client.get("/api/v1/instance")).json()
    assert [(call["costUsd"], call["state"]) for call in video["items"]] == [
        (0.25, "settled"),
        (0.5, "reserved"),
        (1.0, "settled"),
    ]
    assert video["totals"] == details["ai"] == {**details["ai"], "calls": 3, "inputTokens": 300, "costUsd": 1.75}
    assert [(day["costUsd"], len(day["byProvider"])) for day in mine["days"]] == [(0.75, 2), (1.0, 1)]
    assert (mine["today"]["costUsd"], mine["budgetPerDayUsd"]) == (0.75, 5.0)
    assert (other["today"]["costUsd"], other["days"]) == (0.0, [])
    assert (instance["ai"]["describe"], instance["ai"]["translateTo"]) == (["local"], ["de"])
