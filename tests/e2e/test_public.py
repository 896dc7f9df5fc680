"""A web application that Echo serves plays a video for anybody, in a frame of somebody else's page as well."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest

from tests.e2e.conftest import HERE, Browse, Clips, Instance, start_instance, stop_instance

pytestmark = pytest.mark.e2e

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>Echo</title><!--echo:head-->
<script defer src="/assets/hls-1.js"></script><script defer src="/assets/player-1.js"></script></head>
<body><img id="poster" alt=""><video id="video" muted playsinline width="640"></video></body></html>"""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An Echo with a small web application around the unmodified hls.js."""
    root = tmp_path_factory.mktemp("web")
    (root / "assets").mkdir()
    (root / "index.html").write_text(PAGE)
    shutil.copy(HERE / "node_modules" / "hls.js" / "dist" / "hls.min.js", root / "assets" / "hls-1.js")
    shutil.copy(HERE / "player.js", root / "assets" / "player-1.js")
    running = start_instance(tmp_path_factory.mktemp("echo"), ECHO_WEB__DIR=str(root), ECHO_HTTP__CORS_ORIGINS="")
    yield running
    stop_instance(running)


def played_video(web: Instance, clip: Path, visibility: str) -> str:
    api = web.api()
    video_id, job_id = api.upload(clip)
    assert api.wait_for_job(job_id)["state"] == "succeeded"
    said = {"visibility": visibility, "title": "Sea lions </title><script>window.inline = true</script>"}
    api.call("PUT", f"/api/v1/videos/{video_id}/metadata", expect=200, json=said)
    return video_id


def test_anybody_plays_an_unlisted_video_under_the_strict_policy_and_in_a_frame(
    web: Instance, clips: Clips, pages: str, browse: Browse
) -> None:
    video_id = played_video(web, clips.make("h264.mp4", seconds=8), "unlisted")
    alias = web.url.replace("127.0.0.1", "localhost")
    for address in (
        f"{web.url}/watch/{video_id}",
        f"{alias}/watch/{video_id}",
        f"{pages}/frame.html?{urlencode({'src': f'{web.url}/embed/{video_id}'})}",
        f"{pages}/frame.html?{urlencode({'src': f'{alias}/embed/{video_id}'})}",
    ):
        outcome = browse(address)
        assert float(str(outcome["time"])) > 2, outcome
        assert outcome["errors"] == []
        assert int(str(outcome["poster"])) > 0
        assert outcome["refused"] == ["script-src-elem inline"]
        assert outcome["inline"] is False
        assert outcome["title"] == "Sea lions </title><script>window.inline = true</script>"
        assert outcome.get("origin", web.url) == web.url


def test_what_becomes_private_plays_no_more(web: Instance, clips: Clips, browse: Browse) -> None:
    video_id = played_video(web, clips.make("h264.mp4", seconds=8), "public")
    shown = httpx2.get(f"{web.url}/api/v1/watch/{video_id}").json()
    assert httpx2.get(shown["playbackUrl"]).status_code == 200
    web.api().call("PUT", f"/api/v1/videos/{video_id}/metadata", expect=200, json={"visibility": "private"})
    assert httpx2.get(shown["playbackUrl"]).status_code == 404
    outcome = browse(f"{web.url}/watch/{video_id}")
    assert (outcome["status"], outcome["title"]) == (404, "Echo")
