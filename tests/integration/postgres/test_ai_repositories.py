"""Caption tracks, suggestions, calls to AI providers and what is remembered of them, in PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from echo_core.domain.ai_calls import AITotals, Budgets, NewAICall, RememberedPart
from echo_core.domain.caption_tracks import CaptionSource, CaptionTrack
from echo_core.domain.captions import Cue
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import new_ai_call_id, new_suggestion_id
from echo_core.domain.suggestions import Suggestion, SuggestionState
from echo_core.domain.videos import Video
from echo_core.plugin_api.ai import TimeSpan, Usage

pytestmark = pytest.mark.integration

AT = datetime(2026, 3, 14, tzinfo=UTC)
BUDGETS = Budgets(per_video_usd=1.0, per_day_usd=1.5)


def new_track(video: Video, name: str = "auto-en") -> CaptionTrack:
    cues = (Cue(start_s=0.5, end_s=2.0, text="Hello\nthere", word_starts_s=(0.5, 1.25)),)
    return CaptionTrack(
        video_id=video.id,
        owner_id=video.owner_id,
        name=name,
        language="en",
        source=CaptionSource.TRANSCRIBED,
        provider="local",
        model="base",
        cues=cues,
        created_at=AT,
        updated_at=AT,
    )


def new_suggestion(video: Video, field: str = "title", value: object = "A day out") -> Suggestion:
    return Suggestion(
        id=new_suggestion_id(),
        video_id=video.id,
        owner_id=video.owner_id,
        field=field,
        value=value,  # type: ignore[arg-type]
        state=SuggestionState.PENDING,
        provider="local",
        model="m",
        prompt_version="1",
        evidence=(TimeSpan(start_s=1.0, end_s=2.5),),
        cost_usd=0.25,
        created_at=AT,
    )


def new_call(video: Video, cost_usd: float = 0.4) -> NewAICall:
    usage = Usage(model="m", prompt_version="1", input_tokens=100, output_tokens=20, media_s=60.0, cost_usd=cost_usd)
    return NewAICall(
        id=new_ai_call_id(),
        owner_id=video.owner_id,
        video_id=video.id,
        step="transcribe",
        capability="transcribe",
        provider="gemini",
        at_most=usage,
    )


@pytest.fixture
async def video(api, alice, new_video):
    made = new_video(alice)
    async with api.for_user(alice) as uow:
        await uow.videos.add(made)
    return made


async def test_a_track_comes_back_as_it_was_put_and_is_replaced_by_name(worker, api, alice, video):
    track = new_track(video)
    async with worker.for_worker() as uow:
        await uow.caption_tracks.put(track)
        await uow.caption_tracks.put(new_track(video, "auto-de"))
    async with api.for_user(alice) as uow:
        found = await uow.caption_tracks.find(video.id, "auto-en")
        assert found is not None
        assert (found.cues, found.source, found.provider) == (track.cues, CaptionSource.TRANSCRIBED, "local")
        bare = await uow.caption_tracks.list_for_video(video.id)
        assert [(one.name, one.cues) for one in bare] == [("auto-de", ()), ("auto-en", ())]
        changed = new_track(video).__class__(
            **{**{f: getattr(found, f) for f in found.__slots__}, "title": "Mine", "version": 2}
        )
        await uow.caption_tracks.put(changed)
        (_, again) = await uow.caption_tracks.list_for_video(video.id, cues=True)
        assert (again.title, again.version, again.cues) == ("Mine", 2, track.cues)
        assert again.updated_at > found.updated_at
        await uow.caption_tracks.remove(video.id, "auto-en")
        with pytest.raises(UnknownEntityError):
            await uow.caption_tracks.remove(video.id, "auto-en")


async def test_a_newer_suggestion_supersedes_the_pending_one_of_its_field(worker, api, alice, video):
    first, tags = new_suggestion(video), new_suggestion(video, "tags", ["one", "two\x00"])
    second = new_suggestion(video, value="A night out")
    async with worker.for_worker() as uow:
        for one in (first, tags, second):
            await uow.suggestions.add(one)
    async with api.for_user(alice) as uow:
        newest, middle, oldest = await uow.suggestions.list_for_video(video.id, 10)
        assert (newest.value, newest.state) == ("A night out", SuggestionState.PENDING)
        assert middle.value == ["one", "two�"]
        assert (oldest.state, oldest.decided_at is not None) == (SuggestionState.SUPERSEDED, True)
        assert newest.evidence == (TimeSpan(start_s=1.0, end_s=2.5),)
        accepted = (await uow.suggestions.get(video.id, newest.id, for_update=True)).decided(
            SuggestionState.ACCEPTED, AT
        )
        await uow.suggestions.save(accepted)
        assert await uow.suggestions.get(video.id, newest.id) == accepted
        with pytest.raises(UnknownEntityError):
            await uow.suggestions.get(video.id, new_suggestion_id())


async def reserve(worker, call):
    async with worker.for_worker() as uow:
        return await uow.ai_calls.reserve(call, BUDGETS)


async def test_no_more_is_reserved_than_is_left_for_the_video_and_for_the_day(worker, api, alice, video, new_video):
    first = new_call(video)
    assert await reserve(worker, first) == ""
    assert await reserve(worker, new_call(video)) == ""
    assert await reserve(worker, new_call(video)) == "video"
    other = new_video(alice)
    async with api.for_user(alice) as uow:
        await uow.videos.add(other)
    assert await reserve(worker, new_call(other, 0.6)) == ""
    assert await reserve(worker, new_call(other, 0.2)) == "day"
    assert await reserve(worker, new_call(other, 0.0)) == "", "what costs nothing needs no budget"
    async with worker.for_worker() as uow:
        await uow.ai_calls.settle(first.id, Usage(model="m-001", input_tokens=90, output_tokens=10, cost_usd=0.1))
    assert await reserve(worker, new_call(other, 0.2)) == ""
    async with api.for_user(alice) as uow:
        totals = await uow.ai_calls.totals(video.id)
        assert totals == AITotals(
            calls=2, input_tokens=190, output_tokens=30, media_s=60.0, cost_usd=pytest.approx(0.5)
        )
        newest, oldest = await uow.ai_calls.list_for_video(video.id)
        assert (oldest.settled, oldest.usage.model, newest.settled) == (True, "m-001", False)
        assert {day.model for day in await uow.ai_calls.days(alice.id, 7)} == {"m", "m-001"}


async def test_calls_at_the_same_moment_do_not_share_what_is_left_for_one(worker, video):
    answers = await asyncio.gather(*(reserve(worker, new_call(video, 0.6)) for _ in range(5)))
    assert sorted(answers) == ["", "video", "video", "video", "video"]


async def test_what_was_certainly_not_billed_is_free_again_and_what_was_settled_stays(worker, video):
    first, second = new_call(video, 0.9), new_call(video, 0.9)
    assert await reserve(worker, first) == ""
    async with worker.for_worker() as uow:
        await uow.ai_calls.release(first.id)
    assert await reserve(worker, second) == ""
    async with worker.for_worker() as uow:
        await uow.ai_calls.settle(second.id, second.at_most)
        await uow.ai_calls.release(second.id)
        assert (await uow.ai_calls.totals(video.id)).calls == 1


async def test_what_is_no_amount_cannot_get_into_the_sums(worker, video):
    with pytest.raises(Exception, match="amounts"):
        await reserve(worker, new_call(video, -1.0))
    assert [await reserve(worker, new_call(video, cost)) for cost in (float("nan"), float("inf"))] == ["video"] * 2


async def test_what_was_spent_outlives_its_video(worker, api, alice, video):
    await reserve(worker, new_call(video))
    async with worker.for_worker() as uow:
        await uow.videos.remove(video.id)
    async with api.for_user(alice) as uow:
        (day,) = await uow.ai_calls.days(alice.id, 1)
        assert day.totals.cost_usd == pytest.approx(0.4)


def part(video: Video, **changes: str) -> RememberedPart:
    fields = {"capability": "transcribe", "provider": "gemini", "key": "slice 1", "source": "a", **changes}
    return RememberedPart(video_id=video.id, **fields)


async def test_parts_are_remembered_for_one_source_of_one_video_until_the_whole_is_done(worker, video):
    async with worker.for_worker() as uow:
        for one, text in ((part(video), "one"), (part(video, source="b"), "two"), (part(video, key="2"), "three")):
            await uow.ai_calls.remember(one, video.owner_id, {"text": text})
        await uow.ai_calls.remember(part(video, capability="describe"), video.owner_id, {"text": "other"})
        assert await uow.ai_calls.recall(part(video, source="b")) == {"text": "two"}
        assert await uow.ai_calls.recall(part(video)) is None
        assert await uow.ai_calls.recall(part(video, source="b", provider="local")) is None
        await uow.ai_calls.forget(video.id, "transcribe")
        assert await uow.ai_calls.recall(part(video, source="b")) is None
        assert await uow.ai_calls.recall(part(video, capability="describe")) == {"text": "other"}
        await uow.videos.remove(video.id)
        assert await uow.ai_calls.recall(part(video, capability="describe")) is None
