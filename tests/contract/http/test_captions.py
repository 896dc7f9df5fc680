from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2
import pytest

from echo_core.domain.caption_tracks import CaptionSource, CaptionTrack
from echo_core.domain.captions import Cue
from echo_core.domain.ids import VideoId
from tests.contract.http.test_playback import whole_video
from tests.fakes.api import OTHER, OWNER, FakeApi, bearer, uploaded

VTT = "WEBVTT\n\n00:01.000 --> 00:02.500\nGuten Tag\n\n00:03.000 --> 00:04.000\nund <i>willkommen</i>\n"
SRT = "1\n00:00:01,000 --> 00:00:02,500\nGuten Tag\n"


def heard(video_id: UUID, **changes: Any) -> CaptionTrack:
    """What a machine has heard."""
    track = CaptionTrack(
        video_id=VideoId(video_id),
        owner_id=OWNER.id,
        name="auto-en",
        language="en",
        source=CaptionSource.TRANSCRIBED,
        provider="local",
        model="base",
        cues=(
            Cue(start_s=0.5, end_s=2.0, text="Hello there", word_starts_s=(0.5, 1.5)),
            Cue(start_s=2.5, end_s=4.0, text="a < b & c", word_starts_s=(2.5, 2.7, 2.9, 3.0, 3.1)),
        ),
        created_at=FakeApi().clock.now(),
        updated_at=FakeApi().clock.now(),
    )
    return replace(track, **changes)


async def with_captions(api: FakeApi, client: httpx2.AsyncClient) -> str:
    video_id, _ = await uploaded(api, client)
    track = heard(video_id)
    api.database.tables.tracks[track.video_id, track.name] = track
    return f"/api/v1/videos/{video_id}"


async def test_captions_are_listed_with_their_files_wherever_they_came_from() -> None:
    api = FakeApi()
    async with api.client() as client:
        base = await with_captions(api, client)
        await whole_video(api, UUID(base.rpartition("/")[2]))
        items = (await client.get(f"{base}/captions")).json()["items"]
        assert (await client.get(f"{base}/details")).json()["captions"] == items
        assert [(i["name"], i["source"], i["automatic"], i["version"]) for i in items] == [
            ("auto-en", "transcribed", True, 1),
            ("embedded-1", "embedded", False, 0),
        ]
        vtt = await client.get(items[0]["url"], headers={"Authorization": ""})
        srt = await client.get(f"{items[0]['srtUrl']}&download=true", headers={"Authorization": ""})
        file = await client.get(items[1]["url"])
        assert items[1]["srtUrl"] is None
    assert vtt.headers["content-type"].startswith("text/vtt")
    assert vtt.text.startswith("WEBVTT\n\n00:00:00.500 --> 00:00:02.000\nHello there\n")
    assert "a &lt; b &amp; c" in vtt.text
    assert srt.text.startswith("1\n00:00:00,500 --> 00:00:02,000\nHello there\n")
    assert "attachment" in srt.headers["content-disposition"]
    assert file.status_code == 302


async def test_players_find_captions_in_the_master_playlist() -> None:
    api = FakeApi()
    async with api.client() as client:
        base = await with_captions(api, client)
        await api.add_rendition(UUID(base.rpartition("/")[2]))
        details = (await client.get(f"{base}/details")).json()
        master = (await client.get(details["playbackUrl"])).text
        line = next(line for line in master.splitlines() if "SUBTITLES" in line and "URI" in line)
        assert 'LANGUAGE="en"' in line
        uri = line.partition('URI="')[2].partition('"')[0]
        address = httpx2.URL(details["playbackUrl"]).join(uri)
        playlist = (await client.get(address)).text
        text = next(line for line in playlist.splitlines() if line and not line.startswith("#"))
        assert (await client.get(address.join(text))).text.startswith("WEBVTT")


@pytest.mark.parametrize("text", [VTT, SRT, "\ufeff" + VTT.replace("\n", "\r\n")], ids=["vtt", "srt", "windows"])
async def test_captions_that_were_written_elsewhere_are_taken_in(text: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        base = await with_captions(api, client)
        made = await client.post(f"{base}/captions", json={"language": "de", "title": "Deutsch", "text": text})
        assert made.status_code == 201, made.text
        assert made.headers["etag"] == '"1"'
        track = made.json()
        again = await client.post(f"{base}/captions", json={"language": "de", "text": text})
        assert (track["name"], again.json()["name"]) == ("de", "de-2")
        assert track["cues"][0] == {"startSeconds": 1.0, "endSeconds": 2.5, "text": "Guten Tag"}
        assert all("<" not in cue["text"] for cue in track["cues"])
        taken = await client.post(f"{base}/captions", json={"language": "de", "text": text, "name": "de"})
        assert (taken.status_code, taken.json()["code"]) == (409, "captions_exist")


@pytest.mark.parametrize(
    "text", ["hello", "WEBVTT\n\n", "WEBVTT\n\n00:05.000 --> 00:02.000\nx\n", "1\n00:00:01 -> 2\nx\n"]
)
async def test_what_is_no_captions_is_refused_with_the_place(text: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        base = await with_captions(api, client)
        refused = await client.post(f"{base}/captions", json={"language": "de", "text": text})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_captions")
    assert refused.json()["remedy"]


async def test_an_edit_belongs_to_the_person_and_is_guarded_by_the_version() -> None:
    api = FakeApi()
    async with api.client() as client:
        base = await with_captions(api, client)
        url = f"{base}/captions/auto-en"
        read = await client.get(url)
        cues = read.json()["cues"]
        cues[0]["text"] = "Hello,\nworld"
        changed = await client.put(url, json={"cues": cues}, headers={"If-Match": read.headers["etag"]})
        late = await client.put(url, json={"cues": cues[:1]}, headers={"If-Match": read.headers["etag"]})
        assert changed.status_code == 200, changed.text
        assert (changed.json()["edited"], changed.json()["version"], changed.headers["etag"]) == (True, 2, '"2"')
        assert (late.status_code, late.json()["code"]) == (412, "version_mismatch")
        same = await client.put(url, json={"cues": cues})
        assert same.json()["version"] == 2, "saying what is there changes nothing"
    kept = api.database.tables.tracks[VideoId(UUID(base.rpartition("/")[2])), "auto-en"]
    assert kept.cues[1].word_starts_s == (2.5, 2.7, 2.9, 3.0, 3.1), "times of words stay where the text does"
    assert [e.type for e in api.database.tables.events].count("video.updated") >= 1


@pytest.mark.parametrize(
    "cues",
    [
        [],
        [{"startSeconds": 3, "endSeconds": 2, "text": "x"}],
        [{"startSeconds": 2, "endSeconds": 3, "text": "x"}, {"startSeconds": 1, "endSeconds": 1.5, "text": "y"}],
    ],
    ids=["none", "backwards", "unordered"],
)
async def test_cues_that_make_no_sense_are_refused_and_nothing_is_lost(cues: list[dict[str, Any]]) -> None:
    api = FakeApi()
    async with api.client() as client:
        url = f"{await with_captions(api, client)}/captions/auto-en"
        refused = await client.put(url, json={"cues": cues})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_captions")
        assert len((await client.get(url)).json()["cues"]) == 2


async def test_captions_are_deleted_but_not_those_of_the_file() -> None:
    api = FakeApi()
    async with api.client() as client:
        base = await with_captions(api, client)
        video_id = VideoId(UUID(base.rpartition("/")[2]))
        file = heard(video_id, name="embedded-1", source=CaptionSource.EMBEDDED)
        api.database.tables.tracks[video_id, file.name] = file
        assert (await client.delete(f"{base}/captions/auto-en")).status_code == 204
        assert (await client.delete(f"{base}/captions/auto-en")).status_code == 404
        kept = await client.delete(f"{base}/captions/embedded-1")
        assert (kept.status_code, kept.json()["code"]) == (409, "captions_embedded")
        await client.put(f"{base}/captions/embedded-1", json={"title": "Mine"})
        assert (await client.delete(f"{base}/captions/embedded-1")).status_code == 204


async def test_somebody_elses_captions_are_not_there() -> None:
    api = FakeApi()
    async with api.client() as client:
        base = await with_captions(api, client)
        headers = bearer(OTHER)
        answers = [
            await client.get(f"{base}/captions", headers=headers),
            await client.get(f"{base}/captions/auto-en", headers=headers),
            await client.post(f"{base}/captions", json={"language": "de", "text": VTT}, headers=headers),
            await client.put(f"{base}/captions/auto-en", json={"title": "x"}, headers=headers),
            await client.delete(f"{base}/captions/auto-en", headers=headers),
        ]
    assert {answer.status_code for answer in answers} == {404}
