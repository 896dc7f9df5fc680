"""Unlisted and public videos as anybody gets them: the API's answer, the poster, and the page that scrapers read."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import httpx2
import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_core.application.watching import ANYBODY, WatchPage
from echo_core.domain.ids import UserId, VideoId
from echo_core.domain.videos import Video, VideoStatus, Visibility
from echo_core.entrypoints.http.web import WebApp
from echo_core.entrypoints.http.web_files import Representation, WebFile, entity_tag_of, load_build
from echo_core.entrypoints.http.web_heads import MARKER, PageTemplate, video_head
from echo_core.testing.manual_clock import ManualClock
from tests.contract.http.test_playback import url, whole_video
from tests.fakes.api import LIMITS, OTHER, OWNER, FakeApi, bearer, uploaded

NEVER = UUID("01900000-0000-7000-8000-0000000000ff")
PAGE = f"<!doctype html><html><head><title>Echo</title>{MARKER}</head><body><div id=app></div></body></html>"
HOSTILE = "</title><script>alert(1)</script><meta name=\"x\" content='\" onload='alert(2)'>&amp;{0}\\1 %s"


def web_with(page: str = PAGE, *, public_url: str = LIMITS.public_url) -> WebApp:
    """The web application around a page; a build on disk has tests of its own."""
    body = page.encode()
    index = WebFile(
        media_type="text/html; charset=utf-8",
        plain=Representation(body=body, etag=entity_tag_of(body)),
        encoded={"br": Representation(body=b"br", etag='"br"', encoding="br")},
    )
    return WebApp({"/index.html": index}, public_url=public_url)


async def video_of(api: FakeApi, visibility: Visibility, *, playable: bool = True, **changes: object) -> UUID:
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
    if playable:
        await whole_video(api, video_id)
    video = api.database.tables.videos[video_id]
    said = {"title": "Sea lions", "duration_s": 62.4, "width": 1920, "height": 1080, **changes}
    api.database.tables.videos[video_id] = replace(video, visibility=visibility, **said)
    return video_id


async def get(api: FakeApi, path: str, web: WebApp | None = None, **headers: str) -> httpx2.Response:
    async with api.client(user=None, web=web) as client:
        return await client.get(path, headers=headers)


# --- the API ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", [Visibility.UNLISTED, Visibility.PUBLIC])
async def test_anybody_watches_what_is_unlisted_or_public(visibility: Visibility) -> None:
    api = FakeApi()
    video_id = await video_of(api, visibility, description="Two of them.", tags=("sea",))
    response = await get(api, f"/api/v1/watch/{video_id}")
    body = response.json()
    token = f"play%3A{ANYBODY}%3A{video_id}"
    assert response.headers["cache-control"] == "no-store"
    assert body.pop("createdAt")
    assert body == {
        "videoId": str(video_id),
        "title": "Sea lions",
        "description": "Two of them.",
        "tags": ["sea"],
        "language": "",
        "chapters": [],
        "durationSeconds": 62.4,
        "width": 1920,
        "height": 1080,
        "visibility": visibility.value,
        "playbackUrl": f"{url(video_id, '/master.m3u8')}?token={token}",
        "posterUrl": f"{url(video_id, '/poster.jpg')}?token={token}",
        "previewUrl": f"{url(video_id, '/preview.webp')}?token={token}",
        "storyboardUrl": f"{url(video_id, '/storyboard.vtt')}?token={token}",
        "captions": [
            {
                "name": "embedded-1",
                "url": f"{url(video_id, '/captions/embedded-1.vtt')}?token={token}",
                "language": "de",
                "title": "Deutsch",
                "forced": False,
                "automatic": False,
            }
        ],
    }


async def test_a_player_plays_what_the_watch_page_says_but_is_not_given_the_file() -> None:
    api = FakeApi()
    video_id = await video_of(api, Visibility.UNLISTED)
    shown = (await get(api, f"/api/v1/watch/{video_id}")).json()
    master = await get(api, shown["playbackUrl"])
    variant = m3u8.loads(master.text, uri=shown["playbackUrl"]).playlists[0].absolute_uri
    source = shown["playbackUrl"].replace("/master.m3u8", "")
    assert (master.status_code, (await get(api, variant)).status_code) == (200, 200)
    for address in (source, f"{source}&download=true"):
        answer = await get(api, address)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_what_nobody_else_may_watch_is_the_same_as_what_never_was() -> None:
    api = FakeApi()
    hidden = [
        await video_of(api, Visibility.PRIVATE),
        await video_of(api, Visibility.PUBLIC, playable=False),
        await video_of(api, Visibility.PUBLIC, deleted_at=api.clock.now()),
        NEVER,
    ]
    answers = [await get(api, f"/api/v1/watch/{video_id}") for video_id in hidden]
    assert {a.status_code for a in answers} == {404}
    assert len({str({**a.json(), "requestId": ""}) for a in answers}) == 1


async def test_a_video_that_becomes_private_while_it_is_looked_up_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    video_id = await video_of(api, Visibility.PRIVATE)

    async def owner_of_a_moment_ago(video_id: VideoId) -> UserId:
        return OWNER.id

    monkeypatch.setattr(api.database, "watchable_owner", owner_of_a_moment_ago)
    assert (await get(api, f"/api/v1/watch/{video_id}")).status_code == 404


async def test_a_token_of_the_watch_page_ends_with_the_video_being_public() -> None:
    api = FakeApi()
    video_id = await video_of(api, Visibility.PUBLIC)
    playback_url = (await get(api, f"/api/v1/watch/{video_id}")).json()["playbackUrl"]
    videos = api.database.tables.videos
    videos[video_id] = replace(videos[video_id], visibility=Visibility.PRIVATE)
    assert (await get(api, playback_url)).status_code == 404


@pytest.mark.parametrize("visibility", list(Visibility))
async def test_the_poster_alone_needs_no_token_where_anybody_may_watch(visibility: Visibility) -> None:
    api = FakeApi()
    video_id = await video_of(api, visibility)
    poster = await get(api, url(video_id, "/poster.jpg?v=1"))
    if visibility is Visibility.PRIVATE:
        assert (poster.status_code, poster.json()["code"]) == (401, "token_missing")
    else:
        assert poster.status_code == 302
        assert poster.headers["cross-origin-resource-policy"] == "cross-origin"
    # A credential that is bad stays bad, and that of somebody else sees what it always saw.
    assert (await get(api, url(video_id, "/poster.jpg?token=x"))).status_code == 401
    assert (await get(api, url(video_id, "/poster.jpg"), Authorization="Bearer x")).status_code == 401
    assert (await get(api, url(video_id, "/poster.jpg"), **bearer(OTHER))).status_code == 404
    for part in ("", "/master.m3u8", "/posters/poster-1.jpg", "/preview.webp", "/storyboard.vtt"):
        assert (await get(api, url(video_id, part))).status_code == 401
    assert (await get(api, url(NEVER, "/poster.jpg"))).status_code == 401


# --- the page --------------------------------------------------------------------------------------------------------


class Head(HTMLParser):
    """The title, the tags and the scripts of a page, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title = ""
        self.tags: dict[str, str] = {}
        self.seen: list[str] = []
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.seen.append(tag)
        self._in_title = tag == "title"
        assert not [name for name in found if name.startswith("on")]
        if tag == "meta":
            self.tags[found.get("property") or found.get("name") or ""] = found.get("content") or ""
        if tag == "link":
            self.tags[found["rel"] or ""] = found["href"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


@pytest.mark.parametrize("kind", ["watch", "embed"])
async def test_the_page_of_a_public_video_tells_scrapers_what_it_is(kind: str) -> None:
    api = FakeApi()
    video_id = await video_of(api, Visibility.PUBLIC, description="Two of\nthem.", tags=("sea", "lions"))
    home = "https://video.example"
    web = web_with(public_url=home)
    response = await get(api, f"/{kind}/{video_id}", web)
    head = Head(response.text)
    updated_at = api.database.tables.videos[video_id].updated_at
    poster = f"{home}/api/v1/stream/video/{video_id}/poster.jpg?v={updated_at.timestamp() * 1000:.0f}"
    embed = f"{home}/embed/{video_id}"
    created_at = api.database.tables.videos[video_id].created_at.isoformat()
    assert (response.status_code, head.title) == (200, "Sea lions")
    assert head.tags == {
        "canonical": f"{home}/watch/{video_id}",
        "description": "Two of them.",
        "og:site_name": "Echo",
        "og:type": "video.other",
        "og:url": f"{home}/watch/{video_id}",
        "og:title": "Sea lions",
        "og:description": "Two of them.",
        "og:image": poster,
        "og:image:secure_url": poster,
        "og:image:type": "image/jpeg",
        "og:image:width": "1280",
        "og:image:height": "720",
        "og:image:alt": "Sea lions",
        "og:video": embed,
        "og:video:url": embed,
        "og:video:secure_url": embed,
        "og:video:type": "text/html",
        "og:video:width": "1920",
        "og:video:height": "1080",
        "video:duration": "62",
        "video:release_date": created_at,
        "video:tag": "lions",
        "twitter:card": "player",
        "twitter:title": "Sea lions",
        "twitter:description": "Two of them.",
        "twitter:image": poster,
        "twitter:player": embed,
        "twitter:player:width": "1920",
        "twitter:player:height": "1080",
    }
    assert response.text.endswith("</head><body><div id=app></div></body></html>")
    assert MARKER not in response.text
    assert response.text.count("<title>") == 1


async def test_the_picture_that_scrapers_are_told_of_is_there() -> None:
    api = FakeApi()
    video_id = await video_of(api, Visibility.UNLISTED)
    web = web_with()
    head = Head((await get(api, f"/watch/{video_id}", web)).text)
    assert (await get(api, head.tags["og:image"])).status_code == 302
    # Without https no card may have a player.
    assert head.tags["twitter:card"] == "summary_large_image"
    assert "twitter:player" not in head.tags
    assert "og:video:secure_url" not in head.tags


async def test_unlisted_videos_are_for_no_search_engine() -> None:
    api = FakeApi()
    for visibility, robots in ((Visibility.UNLISTED, "noindex"), (Visibility.PUBLIC, None)):
        video_id = await video_of(api, visibility)
        web = web_with()
        head = Head((await get(api, f"/watch/{video_id}", web)).text)
        assert head.tags.get("robots") == robots


@pytest.mark.parametrize("page", [PAGE, PAGE.replace(MARKER, ""), "<HTML><p>no head"])
async def test_what_people_write_stays_text(page: str) -> None:
    api = FakeApi()
    video_id = await video_of(api, Visibility.PUBLIC, title=HOSTILE, description=HOSTILE, tags=(HOSTILE,))
    web = web_with(page)
    response = await get(api, f"/watch/{video_id}", web)
    head = Head(response.text)
    assert "script" not in head.seen
    assert "<script" not in response.text
    assert head.title == HOSTILE
    for name in ("description", "og:title", "og:description", "og:image:alt", "video:tag", "twitter:title"):
        assert head.tags[name] == HOSTILE


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80))
def test_no_title_makes_a_tag(title: str) -> None:
    page = PageTemplate(PAGE).with_head(video_head(_page(title), "http://echo.test")).decode()
    plain = PageTemplate(PAGE).with_head(video_head(_page("Sea lions"), "http://echo.test")).decode()
    assert Head(page).seen == Head(plain).seen


def _page(title: str) -> WatchPage:
    now = ManualClock().now()
    video = Video(
        id=VideoId(NEVER),
        owner_id=OWNER.id,
        status=VideoStatus.READY,
        title=title,
        filename="a.mp4",
        content_type="video/mp4",
        created_at=now,
        updated_at=now,
        visibility=Visibility.PUBLIC,
    )
    return WatchPage(video=video, artefacts=())


async def test_long_descriptions_are_cut_at_a_word() -> None:
    page = _page("x")
    page = replace(page, video=replace(page.video, description="sea lions " * 100))
    told = Head(f"<head>{video_head(page, 'http://echo.test')}</head>").tags["og:description"]
    assert len(told) <= 300
    assert told.endswith(("sea…", "lions…"))


@pytest.mark.parametrize("kind", ["watch", "embed"])
async def test_what_nobody_else_may_watch_has_the_plain_page_and_is_not_found(kind: str) -> None:
    api = FakeApi()
    private = await video_of(api, Visibility.PRIVATE, title="Secret")
    names = [str(private), str(NEVER), "x", NEVER.hex, f"{{{NEVER}}}", "x" * 300]
    web = web_with()
    answers = [await get(api, f"/{kind}/{name}", web) for name in names]
    assert {a.status_code for a in answers} == {404}
    assert len({a.text for a in answers}) == 1
    head = Head(answers[0].text)
    assert (head.title, head.tags) == ("Echo", {"robots": "noindex"})
    for answer in answers:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert ("x-frame-options" in answer.headers) == (kind == "watch")


async def test_a_video_has_one_address() -> None:
    api = FakeApi()
    video_id = await video_of(api, Visibility.PUBLIC)
    web = web_with()
    for name in (video_id.hex, f"{{{video_id}}}", f"urn:uuid:{video_id}"):
        assert (await get(api, f"/watch/{name}", web)).status_code == 404
    for name in (str(video_id), str(video_id).upper(), f"{video_id}/"):
        head = Head((await get(api, f"/watch/{name}", web)).text)
        assert head.tags["canonical"] == f"http://echo.test/watch/{video_id}"


async def test_while_the_database_is_away_the_page_comes_and_says_that_it_is_for_now() -> None:
    api = FakeApi()
    api.database.down = True
    web = web_with()
    response = await get(api, f"/watch/{NEVER}", web)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.text.startswith("<!doctype html>")


async def test_a_page_that_a_browser_has_is_sent_again_when_the_video_has_changed() -> None:
    api = FakeApi()
    video_id = await video_of(api, Visibility.PUBLIC)
    web = web_with()
    first = await get(api, f"/watch/{video_id}", web)
    again = await get(api, f"/watch/{video_id}", web, **{"If-None-Match": first.headers["etag"]})
    videos = api.database.tables.videos
    videos[video_id] = replace(videos[video_id], title="Seals")
    changed = await get(api, f"/watch/{video_id}", web, **{"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, changed.status_code) == (200, 304, 200)
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert Head(changed.text).title == "Seals"


async def test_only_the_page_of_a_video_asks_the_database(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE)
    api = FakeApi()
    api.database.down = True
    web = WebApp(load_build(tmp_path), public_url=LIMITS.public_url)
    for path in ("/watch", "/watch/", "/embed", "/watch/a/b", "/videos/x"):
        assert (await get(api, path, web)).text == PAGE
