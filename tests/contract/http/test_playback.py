from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urljoin, urlsplit
from uuid import UUID

import m3u8
import pytest

from echo_core.domain.ids import VideoId
from echo_core.plugin_api.transcoder import Segment
from tests.fakes.api import LIMITS, OTHER, OWNER, FakeApi, bearer, begin, uploaded

PARTS = [
    "",
    "/master.m3u8",
    "/renditions/720p.m3u8",
    "/poster.jpg",
    "/posters/poster-1.jpg",
    "/preview.webp",
    "/captions/embedded-1.m3u8",
    "/captions/embedded-1.vtt",
    "/storyboard.vtt",
    "/storyboard/sheet-000.jpg",
]


def url(video_id: UUID | str, part: str = "") -> str:
    return f"http://echo.test/api/v1/stream/video/{video_id}{part}"


async def whole_video(api: FakeApi, video_id: UUID) -> None:
    await api.add_rendition(video_id)
    await api.add_rendition(video_id, "audio", type="audio", codecs="mp4a.40.2", width=0, height=0, fps=0, channels=2)
    for number in (1, 2, 3):
        facts = {"at_s": 10.0 * number, "score": 0.9 if number == 2 else 0.1, "width": 1280, "height": 720}
        await api.add_artefact(video_id, "poster", f"poster-{number}.jpg", content_type="image/jpeg", facts=facts)
    await api.add_artefact(video_id, "preview", "preview.webp", content_type="image/webp")
    facts = {"language": "de", "title": "Deutsch", "forced": False}
    await api.add_artefact(
        video_id,
        "captions",
        "embedded-1.vtt",
        content_type="text/vtt",
        facts=facts,
        segments=(Segment(duration_s=7.5, offset_bytes=0, length_bytes=40),),
    )
    index = await api.add_artefact(video_id, "storyboard", "storyboard.vtt", generation="")
    api.storage.store(
        index.storage_key, b"WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nsheet-000.jpg#xywh=0,0,160,90\n", "text/vtt"
    )
    await api.add_artefact(video_id, "storyboard_sheet", "sheet-000.jpg", content_type="image/jpeg")


async def test_a_player_follows_the_playlists_with_nothing_but_the_address() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await whole_video(api, video_id)
        playback_url = (await client.get(f"/api/v1/videos/{video_id}/details")).json()["playbackUrl"]
    async with api.client(user=None) as player:
        master = await player.get(playback_url)
        parsed = m3u8.loads(master.text, uri=playback_url)
        variant = await player.get(urljoin(playback_url, parsed.playlists[0].uri))
        sound = await player.get(urljoin(playback_url, parsed.media[0].uri))
    assert master.headers["content-type"].startswith("application/vnd.apple.mpegurl")
    assert master.headers["cache-control"] == "private, no-store"
    assert (variant.status_code, sound.status_code) == (200, 200)
    media = m3u8.loads(variant.text)
    assert media.is_endlist
    assert [s.byterange for s in media.segments] == ["600@100", "400@700"]
    assert media.segment_map[0].byterange == "100@0"
    grant = api.storage.grants[_grant(media.segments[0].uri)]
    assert grant.subject == f"videos/{video_id}/encode/1/720p.mp4"
    assert grant.generation == "1"


async def test_what_another_storage_had_pinned_is_read_here_without_a_pin() -> None:
    """The instance has moved: the objects were copied, and nobody here knows the generations of the storage before."""
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await whole_video(api, video_id)
        tables = api.database.tables
        before = {"backend": "the-one-before", "generation": "of-the-one-before"}
        tables.artefacts[:] = [replace(a, **before) for a in tables.artefacts]
        source = tables.uploads[VideoId(UUID(str(video_id)))]
        tables.uploads[source.video_id] = replace(source, **before)
        for part in ("/renditions/720p.m3u8", "/poster.jpg", "/storyboard.vtt", ""):
            assert (await client.get(url(video_id, part))).status_code in {200, 302}
    assert len(api.storage.grants) >= 3
    assert {grant.generation for grant in api.storage.grants.values() if grant.access == "read"} == {None}


def _grant(signed_url: str) -> str:
    parts = urlsplit(signed_url)
    return next(iter(parse_qs(parts.query).values()), [parts.path.rpartition("/")[2]])[0]


async def test_a_bearer_token_opens_playlists_too_and_their_addresses_carry_a_playback_token() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await whole_video(api, video_id)
        master = await client.get(url(video_id, "/master.m3u8"))
    assert f"token=play%3A{OWNER.id}%3A{video_id}" in master.text


@pytest.mark.parametrize("part", PARTS)
async def test_every_part_needs_a_token_of_its_own_video(part: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        other_id, _ = await uploaded(api, client)
        await whole_video(api, video_id)
        whole = url(video_id, part)
        token = f"play:{OWNER.id}:{video_id}"
        good = await client.get(whole, params={"token": token}, headers={"Authorization": ""})
        head = await client.head(whole, params={"token": token}, headers={"Authorization": ""})
        none = await client.get(whole, headers={"Authorization": ""})
        wrong = await client.get(whole, params={"token": f"play:{OWNER.id}:{other_id}"})
        stranger = await client.get(whole, params={"token": f"play:{OTHER.id}:{video_id}"})
        foreign = await client.get(whole, headers=bearer(OTHER))
    assert good.status_code in {200, 302}
    assert head.status_code == good.status_code
    if good.status_code == 302:  # what it leads to is signed for what will be sent there
        for answer, method in ((good, "GET"), (head, "HEAD")):
            (signature,) = parse_qs(urlsplit(answer.headers["location"]).query)["token"]
            assert api.storage.grants[signature].method == method
    assert (none.status_code, wrong.status_code) == (401, 401)
    assert (stranger.status_code, foreign.status_code) == (404, 404)


@pytest.mark.parametrize(
    "part",
    [
        "/poster.jpg",
        "/posters/poster-3.jpg",
        "/preview.webp",
        "/captions/embedded-1.vtt",
        "/storyboard/sheet-000.jpg",
        "",
    ],
)
async def test_bytes_come_from_signed_urls_of_the_storage(part: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await whole_video(api, video_id)
        response = await client.get(url(video_id, part))
    assert response.status_code == 302
    assert response.headers["location"].startswith(api.storage.base_url)
    assert response.headers["cache-control"] == "private, max-age=60"
    grant = list(api.storage.grants.values())[-1]
    assert grant.generation
    assert grant.filename is None
    assert grant.expires_at_s == api.clock.now().timestamp() + LIMITS.url_expires_in_s


async def test_the_source_can_be_saved_under_its_name() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await client.get(url(video_id), params={"download": "true"})
    assert list(api.storage.grants.values())[-1].filename == "My film.mp4"


async def test_the_storyboard_points_at_its_sheets_with_the_token() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await whole_video(api, video_id)
        index = await client.get(url(video_id, "/storyboard.vtt"))
        line = next(line for line in index.text.splitlines() if "#xywh" in line)
        sheet = await client.get(urljoin(url(video_id, "/storyboard.vtt"), line), headers={"Authorization": ""})
    assert index.headers["content-type"].startswith("text/vtt")
    assert line.endswith("#xywh=0,0,160,90")
    assert sheet.status_code == 302


async def test_what_is_not_made_yet_says_so() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        answers = {part: await client.get(url(begun["videoId"], part)) for part in PARTS}
    codes = {part: (a.status_code, a.json()["code"]) for part, a in answers.items()}
    assert codes[""] == codes["/master.m3u8"] == (409, "video_not_playable")
    assert {codes[part] for part in PARTS if part not in {"", "/master.m3u8"}} == {(404, "not_found")}


@pytest.mark.parametrize("name", ["%00", "..%2f..%2fx", "a b", "é", "x" * 600])
async def test_names_of_parts_cannot_be_anything(name: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        playlist = await client.get(url(video_id, f"/renditions/{name}.m3u8"))
        sheet = await client.get(url(video_id, f"/storyboard/{name}"))
    assert (playlist.status_code, sheet.status_code) == (404, 404)


async def test_an_audio_only_video_plays_its_sound() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await api.add_rendition(video_id, "audio", type="audio", codecs="mp4a.40.2", channels=2)
        master = m3u8.loads((await client.get(url(video_id, "/master.m3u8"))).text)
    assert [p.stream_info.codecs for p in master.playlists] == ["mp4a.40.2"]
    assert master.media == []


async def test_a_deleted_video_stops_playing() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await whole_video(api, video_id)
        await client.delete(f"/api/v1/videos/{video_id}")
        answers = [await client.get(url(video_id, part)) for part in PARTS]
    assert {a.status_code for a in answers} == {404}


async def test_the_best_picture_is_the_poster_until_the_owner_chooses_another() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await whole_video(api, video_id)
        details = f"/api/v1/videos/{video_id}/details"
        before = (await client.get(details)).json()
        (listed,) = (await client.get("/api/v1/videos")).json()["items"]
        api.clock.advance(1.0)
        refused = await client.put(f"/api/v1/videos/{video_id}/metadata", json={"poster": "poster-7"})
        chosen = await client.put(f"/api/v1/videos/{video_id}/metadata", json={"poster": "poster-3"})
        after = (await client.get(details)).json()
        poster = await client.get(url(video_id, "/poster.jpg"))
        (listed_again,) = (await client.get("/api/v1/videos")).json()["items"]
        direct = await client.get(after["posterUrl"])
        await client.put(f"/api/v1/videos/{video_id}/metadata", json={"poster": ""})
        again = (await client.get(details)).json()
    assert [(p["name"], p["chosen"]) for p in before["posters"]] == [
        ("poster-1", False),
        ("poster-2", True),
        ("poster-3", False),
    ]
    assert [p["atSeconds"] for p in before["posters"]] == [10.0, 20.0, 30.0]
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_poster")
    assert "poster-1, poster-2, poster-3" in refused.json()["remedy"]
    assert (chosen.status_code, chosen.json()["poster"]) == (200, "poster-3")
    assert [p["name"] for p in after["posters"] if p["chosen"]] == ["poster-3"]
    for answer in (poster, direct):
        assert api.storage.grants[_grant(answer.headers["location"])].subject.endswith("poster-3.jpg")
    assert listed["posterUrl"] != listed_again["posterUrl"], "a browser would show what it remembers"
    assert "/poster.jpg?" in before["posterUrl"]
    assert again["posterUrl"] == before["posterUrl"]


async def test_captions_are_offered_with_their_language() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await whole_video(api, video_id)
        details = (await client.get(f"/api/v1/videos/{video_id}/details")).json()
    (caption,) = details["captions"]
    assert (caption["name"], caption["language"], caption["title"]) == ("embedded-1", "de", "Deutsch")
    async with api.client(user=None) as player:
        master = m3u8.loads((await player.get(details["playbackUrl"])).text, uri=details["playbackUrl"])
        (track,) = [media for media in master.media if media.type == "SUBTITLES"]
        assert (track.language, track.name, track.default) == ("de", "Deutsch", "NO")
        playlist = m3u8.loads((await player.get(track.absolute_uri)).text)
        text = await player.get(caption["url"])
    assert [segment.duration for segment in playlist.segments] == [7.5]
    assert text.status_code == 302


async def test_sounds_are_offered_in_the_order_of_their_tracks() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await api.add_rendition(video_id)
        for number, language in ((10, "it"), (2, "en"), (1, "fr")):
            name = "audio" if number == 1 else f"audio-{number}"
            await api.add_rendition(
                video_id, name, type="audio", codecs="mp4a.40.2", language=language, width=0, height=0
            )
        master = m3u8.loads((await client.get(url(video_id, "/master.m3u8"))).text)
    assert [(media.language, media.default) for media in master.media] == [("fr", "YES"), ("en", "NO"), ("it", "NO")]
    assert len({media.name for media in master.media}) == 3
