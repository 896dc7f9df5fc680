"""Search over real PostgreSQL, as callers see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork
from echo_core.domain.caption_tracks import CaptionSource, CaptionTrack
from echo_core.domain.captions import Cue
from echo_core.domain.ids import new_video_id
from echo_core.domain.searches import QuestionVector
from echo_core.domain.users import User
from echo_core.domain.videos import Video, VideoStatus
from echo_core.plugin_api.errors import UnavailableError
from tests.fakes.api import OTHER, OWNER, FakeApi

pytestmark = pytest.mark.integration

AT = datetime(2026, 3, 14, tzinfo=UTC)
URL = "/api/v1/search"


async def add(worker: PostgresWorkerUnitsOfWork, title: str, owner: User = OWNER, **changes: Any) -> Video:
    video = Video(
        id=new_video_id(),
        owner_id=owner.id,
        status=VideoStatus.READY,
        title=title,
        filename="a.mp4",
        content_type="video/mp4",
        created_at=AT,
        updated_at=AT,
        **changes,
    )
    async with worker.for_worker() as uow:
        await uow.videos.add(video)
    return video


def said(*texts: str, every_s: float = 4.0) -> tuple[Cue, ...]:
    """Cues one after another, without the times of words."""
    return tuple(Cue(start_s=n * every_s, end_s=(n + 1) * every_s, text=text) for n, text in enumerate(texts))


async def caption(
    worker: PostgresWorkerUnitsOfWork, video: Video, cues: Sequence[Cue], language: str = "en", name: str = "auto-en"
) -> None:
    async with worker.for_worker() as uow:
        await uow.caption_tracks.put(
            CaptionTrack(
                video_id=video.id,
                owner_id=video.owner_id,
                name=name,
                language=language,
                source=CaptionSource.TRANSCRIBED,
                cues=tuple(cues),
                created_at=AT,
                updated_at=AT,
            )
        )


async def find(client: httpx2.AsyncClient, q: str, **params: Any) -> dict[str, Any]:
    answer = await client.get(URL, params={"q": q, **params})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def titles(client: httpx2.AsyncClient, q: str) -> list[str]:
    return [item["title"] for item in (await find(client, q))["items"]]


def matching(parts: list[dict[str, Any]]) -> list[str]:
    return [part["text"] for part in parts if part["match"]]


async def test_a_match_in_the_title_comes_before_tags_description_and_speech(client, worker):
    speech = await add(worker, "One")
    await caption(worker, speech, said("we went to Lisbon"))
    await add(worker, "Two", description="About Lisbon.")
    await add(worker, "Three", tags=("Lisbon",))
    await add(worker, "Lisbon, a holiday")
    await add(worker, "Lisbon again")
    await add(worker, "Elsewhere")
    found = await find(client, "lisbon")
    assert [(item["title"], item["matched"]) for item in found["items"]] == [
        ("Lisbon again", ["title"]),
        ("Lisbon, a holiday", ["title"]),
        ("Three", ["tags"]),
        ("Two", ["description"]),
        ("One", ["speech"]),
    ]
    assert found["items"][1]["titleParts"] == [
        {"text": "Lisbon", "match": True},
        {"text": ", a holiday", "match": False},
    ]
    assert found["semantic"] is False
    assert found["nextCursor"] is None


@pytest.mark.parametrize(
    ("language", "text", "asked"),
    [
        ("en", "They were running through the cities", "run city"),
        ("de", "Wir fuhren durch die alten Städte", "stadt"),
        ("de", "Wir fuhren durch die alten STÄDTE", "städte"),
        ("es", "Estamos corriendo por las ciudades", "ciudad"),
        ("fr", "Nous mangions des pommes", "pomme"),
        ("pt-BR", "As casas NÃO eram antigas", "casa não"),
        ("ru", "Мы видели старые города", "город"),
        ("tr", "Kitaplar masada", "kitap"),
        ("xx", "Nobody knows this Zweisprachigkeit", "zweisprachigkeit"),
        ("en", "the meeting with Müller and Żaneta", "müller żaneta"),
        ("en", "to be or not to be", "the to be"),
        ("ja", "今日は機械学習について話します", "機械学習"),
        ("zh", "我们今天讨论人工智能的历史", "人工智能"),
        ("zh", "我们今天讨论人工智能的历史", "史"),
        ("th", "วันนี้เราพูดถึงปัญญาประดิษฐ์", "ปัญญา"),
        ("ko", "오늘은 인공지능에 대해 이야기합니다", "인공지능"),
    ],
)
async def test_words_are_found_as_their_language_has_them(client, worker, language, text, asked):
    video = await add(worker, "One")
    if asked == "the to be":
        asked = "to be"
    await caption(worker, video, said(text), language)
    (item,) = (await find(client, asked))["items"]
    (hit,) = item["hits"]
    assert "".join(part["text"] for part in hit["parts"]) == text
    assert matching(hit["parts"])


async def test_a_language_does_not_loosen_what_is_asked_of_another(client, worker):
    """``die`` means nothing in German, and very much in English."""
    hard = await add(worker, "English")
    await caption(worker, hard, said("this is hard work"))
    german = await add(worker, "Deutsch")
    await caption(worker, german, said("das ist hard rock"), "de", "auto-de")
    assert await titles(client, "die hard") == ["Deutsch"]


async def test_phrases_alternatives_and_what_must_not_be_there(client, worker):
    first = await add(worker, "First")
    await caption(worker, first, said("a new house in York", "and then it rained"))
    second = await add(worker, "Second")
    await caption(worker, second, said("a new day in New York", "the sun was out"))
    assert await titles(client, "new york") == ["Second", "First"]
    assert await titles(client, '"new york"') == ["Second"]
    assert await titles(client, "york -rain") == ["Second"]
    assert await titles(client, 'york -"new york"') == ["First"]
    assert await titles(client, "rain or sun") == ["Second", "First"]
    assert await titles(client, "rain sun") == []


async def test_words_on_both_sides_of_a_cue_are_found_together(client, worker):
    video = await add(worker, "One")
    await caption(worker, video, said(*(f"line number{n} word{n}" for n in range(40))))
    for n in range(39):
        (item,) = (await find(client, f"word{n} number{n + 1}"))["items"]
        assert abs(item["hits"][0]["startSeconds"] - n * 4) < 4


async def test_a_hit_starts_when_the_word_is_said(client, worker):
    video = await add(worker, "One")
    times = (10.0, 10.5, 11.25, 13.0, 17.75)
    cues = (
        *said("something else", "before it"),
        Cue(start_s=10.0, end_s=18.0, text="one two\nthree four five", word_starts_s=times),
        Cue(start_s=20.0, end_s=30.0, text="alpha beta gamma delta epsilon"),
    )
    await caption(worker, video, cues)
    for word, at_s in zip(("one", "two", "three", "four", "five"), times, strict=True):
        (item,) = (await find(client, word))["items"]
        assert [(hit["startSeconds"], hit["track"]) for hit in item["hits"]] == [(at_s, "auto-en")]
        assert matching(item["hits"][0]["parts"]) == [word]
    (item,) = (await find(client, "epsilon"))["items"]
    assert item["hits"][0]["startSeconds"] == pytest.approx(20 + 10 * 23 / 31)


async def test_the_time_of_a_phrase_is_not_that_of_one_of_its_words_before_it(client, worker):
    video = await add(worker, "One")
    cue = Cue(start_s=0, end_s=8, text="a new day in New York", word_starts_s=(0, 1, 2, 3, 4, 5))
    await caption(worker, video, [cue])
    (item,) = (await find(client, '"new york"'))["items"]
    assert item["hits"][0]["startSeconds"] == 4


async def test_five_hits_at_most_each_moment_once_in_order(client, worker):
    video = await add(worker, "One")
    await caption(worker, video, said(*["the word"] * 60))
    (item,) = (await find(client, "word"))["items"]
    starts = [hit["startSeconds"] for hit in item["hits"]]
    assert len(starts) == 5
    assert starts == sorted(set(starts))


async def test_nobody_finds_what_is_not_theirs_nor_what_is_deleted(api, client, worker):
    theirs = await add(worker, "Secret theirs", OTHER)
    await caption(worker, theirs, said("a secret said"))
    mine = await add(worker, "Secret mine")
    await caption(worker, mine, said("a secret said"))
    assert await titles(client, "secret") == ["Secret mine"]
    async with api.client(OTHER) as other:
        assert await titles(other, "secret") == ["Secret theirs"]
        assert await titles(other, "secret -mine") == ["Secret theirs"]
    async with worker.for_worker() as uow:
        await uow.videos.save(replace(await uow.videos.get(mine.id), deleted_at=AT))
    assert await titles(client, "secret") == []
    async with api.client(None) as nobody:
        assert (await nobody.get(URL, params={"q": "secret"})).status_code == 401


async def test_what_is_edited_is_found_as_it_is_now(client, worker):
    video = await add(worker, "Before")
    await caption(worker, video, said(*(f"apple number{n}" for n in range(30))))
    await caption(worker, video, said("only pears"))
    assert await titles(client, "apple") == []
    assert await titles(client, "pear") == ["Before"]
    async with worker.for_worker() as uow:
        stored = await uow.videos.get(video.id)
        await uow.videos.save(replace(stored, title="After", tags=("fruit",), language="en"))
    assert await titles(client, "before") == []
    assert await titles(client, "fruits") == ["After"]
    async with worker.for_worker() as uow:
        await uow.caption_tracks.remove(video.id, "auto-en")
    assert await titles(client, "pear") == []


async def test_pages_follow_each_other_while_videos_are_added(client, worker):
    added = [await add(worker, f"Walk {n}") for n in range(7)]
    for n in range(4):
        await caption(worker, await add(worker, f"Talk {n}"), said("a walk"))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await find(client, "walk", limit=3, **cursor)
        seen += [item["title"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
        await add(worker, "Walk, a newer one")
    assert seen == [f"Walk {n}" for n in range(len(added))][::-1] + [f"Talk {n}" for n in range(4)][::-1]


@pytest.mark.parametrize(
    "q",
    [
        "'; drop table echo.videos; --",
        "a & b | !c <-> d :*",
        "\\ ' '' \" ( ) )( walk",
        '"unclosed phrase',
        "<script>alert(1)</script>",
        "walk:* 'walk'",
        "%_%",
        "'人工' & ' 智能",
        "\ue000walk\ue001",
        "x" * 200,
        "or walk or or",
        "walk -",
        "\u202ewalk\x01\x1b",
        "english:01900000-0000-7000-8000-00000000000b",
    ],
)
async def test_no_text_breaks_out_of_being_looked_for(client, worker, q):
    await add(worker, "A <b>walk</b> \ue000in\ue001 the park")
    theirs = await add(worker, "walk", OTHER)
    found = await find(client, q)
    assert all(item["videoId"] != str(theirs.id) for item in found["items"])
    for item in found["items"]:
        assert "".join(part["text"] for part in item["titleParts"]) == item["title"]


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({}, 422, "empty_search"),
        ({"q": ""}, 422, "empty_search"),
        ({"q": " \t "}, 422, "empty_search"),
        ({"q": "!?"}, 422, "empty_search"),
        ({"q": "-rain"}, 422, "empty_search"),
        ({"q": "\0"}, 422, "empty_search"),
        ({"q": "x" * 201}, 422, "validation_failed"),
        ({"q": "a", "limit": "51"}, 422, "validation_failed"),
        ({"q": "a", "cursor": "AAAA"}, 400, "invalid_cursor"),
        ({"q": "a", "cursor": "é"}, 400, "invalid_cursor"),
    ],
)
async def test_what_cannot_be_looked_for_is_refused_with_what_to_do(client, params, status, code):
    answer = await client.get(URL, params=params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["remedy"]


class Meanings:
    """Turns texts about the sea to one side and all others to another."""

    def __init__(self) -> None:
        self.down = False

    def of(self, text: str) -> tuple[float, ...]:
        return (0.8, 0.6, 0.0) if any(word in text for word in ("ocean", "waves", "sea")) else (0.0, 0.0, 1.0)

    async def embed(self, user: User, text: str) -> QuestionVector | None:
        if self.down:
            raise UnavailableError("The provider is away.")
        return QuestionVector(space="tiny/3", values=self.of(text))

    async def fill(self, worker: PostgresWorkerUnitsOfWork, *videos: Video) -> None:
        for video in videos:
            async with worker.for_worker() as uow:
                passages = await uow.passages.list_unembedded(video.id, "tiny/3", 100)
                await uow.passages.put_embeddings(passages, "tiny/3", [self.of(p.text) for p in passages])
                assert await uow.passages.list_unembedded(video.id, "tiny/3", 100) == []


@pytest.mark.parametrize("extension", [True, False])
async def test_what_is_near_in_meaning_is_found_with_pgvector_and_without(api, worker, database, extension):
    if not extension:
        database.server.run("drop extension vector", database=database.name)
    api.embedder = meanings = Meanings()
    named, near, far = await add(worker, "The sea"), await add(worker, "Holiday"), await add(worker, "Cooking")
    theirs = await add(worker, "The sea of another", OTHER)
    await caption(worker, near, said(*["bread"] * 10, "big waves came", *["bread"] * 10))
    await caption(worker, far, said("more bread"))
    await meanings.fill(worker, named, near, far, theirs)
    async with api.client() as client:
        found = await find(client, "sea")
        assert found["semantic"] is True
        assert [(item["title"], item["matched"]) for item in found["items"]] == [
            ("The sea", ["title", "meaning"]),
            ("Holiday", ["meaning"]),
        ]
        (hit,) = found["items"][1]["hits"]
        assert hit["startSeconds"] <= 40 < hit["endSeconds"]
        assert matching(hit["parts"]) == []
        first = await find(client, "sea", limit=1)
        second = await find(client, "sea", limit=1, cursor=first["nextCursor"])
        assert [item["title"] for item in second["items"]] == ["Holiday"]
        meanings.down = True
        plain = await find(client, "sea")
        assert ([item["title"] for item in plain["items"]], plain["semantic"]) == (["The sea"], False)
        answer = await client.get(URL, params={"q": "sea", "cursor": first["nextCursor"]})
        assert (answer.status_code, answer.json()["code"]) == (503, "search_changed")


async def test_an_edited_text_loses_its_vector_and_others_keep_theirs(worker):
    video = await add(worker, "One")
    await caption(worker, video, said(*(f"line {n}" for n in range(40))))
    await Meanings().fill(worker, video)
    await caption(worker, video, said(*(f"line {n}" for n in range(39)), "another line"))
    async with worker.for_worker() as uow:
        (left,) = await uow.passages.list_unembedded(video.id, "tiny/3", 100)
    assert left.text.endswith("another line")


async def test_the_api_of_a_user_cannot_write_passages(api: FakeApi, database: Any) -> None:
    import asyncpg

    connection = await asyncpg.connect(database.api_url)
    try:
        await connection.execute("begin; set local role authenticated")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("delete from echo.passages")
    finally:
        await connection.close()
