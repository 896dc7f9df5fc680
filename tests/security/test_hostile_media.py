"""Hostile files through the real plugin and the real ffmpeg: nothing is fetched, nothing disclosed, and all ends."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from echo_transcode_ffmpeg import arguments, posters, running
from echo_transcode_ffmpeg.config import GIB, FfmpegConfig
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

from echo_core.plugin_api import (
    AudioStream,
    EchoError,
    ExtractAudioRequest,
    InspectRequest,
    LadderRequest,
    MediaInfo,
    PackageRequest,
    PlanLadder,
    PosterRequest,
    StoryboardRequest,
    VideoStream,
)
from echo_core.testing.transcoder_kit import children, files_below
from tests.security import hostile_media as hostile

pytestmark = pytest.mark.integration

SECRET = b"CANARY-2f1c9 postgresql://owner:hunter2@db"
CONFINED = FfmpegConfig(preset="ultrafast", memory_limit_bytes=GIB, nice=0)
LISTS_ALONE = CONFINED.model_copy(update={"sandbox_network": "off", "sandbox_files": "off", "sandbox_calls": "off"})
FORGED = MediaInfo(
    container="mov,mp4,m4a,3gp,3g2,mj2",
    duration_s=2.0,
    size_bytes=1000,
    video=VideoStream(codec="h264", width=160, height=90, fps=10.0, profile="Main", pixel_format="yuv420p"),
    audio=(AudioStream(codec="aac", channels=1, sample_rate_hz=44100, profile="LC"),),
)
"""What a file would have to look like to be worked on at all: as if it had deceived ``inspect``."""


class Listener:
    """A loopback server that notes who came; hostile files name it."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        hits = self.hits

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hits.append(self.path)
                self.send_error(404)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@dataclass
class Shown:
    """All that anybody could see of a file's processing."""

    codes: list[str] = field(default_factory=list)
    text: str = ""
    outputs: dict[str, bytes] = field(default_factory=dict)

    def add(self, error: EchoError) -> None:
        self.codes.append(error.code)
        self.text += " ".join((error.message, error.remedy, *error.log_tail))


async def inspected(transcoder: FfmpegTranscoder, path: Path) -> tuple[MediaInfo | None, Shown]:
    shown = Shown()
    try:
        return await transcoder.inspect(InspectRequest(path=path)), shown
    except EchoError as error:
        shown.add(error)
        return None, shown


async def work_on(transcoder: FfmpegTranscoder, path: Path, out: Path, *, forged: bool = False) -> Shown:
    """Everything that a pipeline does with a source; ``forged``: as if inspect had let it pass."""
    found, shown = await inspected(transcoder, path)
    if found is None and not forged:
        return shown
    media = found or FORGED
    rungs = transcoder.plan_ladder(PlanLadder(media=media, short_sides=(48,)))
    calls = {
        "package": lambda d: transcoder.package(PackageRequest(path=path, media=media, out_dir=d)),
        "ladder": lambda d: transcoder.encode_ladder(LadderRequest(path=path, media=media, out_dir=d, rungs=rungs)),
        "poster": lambda d: transcoder.posters(PosterRequest(path=path, media=media, out_dir=d)),
        "storyboard": lambda d: transcoder.storyboard(StoryboardRequest(path=path, media=media, out_dir=d)),
        "audio": lambda d: transcoder.extract_audio(ExtractAudioRequest(path=path, media=media, out_dir=d)),
    }
    for name, call in calls.items():
        directory = out / name
        directory.mkdir(parents=True)
        try:
            await call(directory)
        except EchoError as error:
            shown.add(error)
    shown.outputs = {str(p.relative_to(out)): p.read_bytes() for p in files_below(out)}
    return shown


@pytest.fixture(scope="module")
def confined() -> FfmpegTranscoder:
    return FfmpegTranscoder(CONFINED)


@pytest.fixture(scope="module")
def lists_alone() -> FfmpegTranscoder:
    return FfmpegTranscoder(LISTS_ALONE)


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return hostile.normal_mp4(tmp_path_factory.mktemp("normal") / "normal.mp4")


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("neighbour") / "n.ts"
    return hostile.ffmpeg(f"{hostile.PICTURE} {hostile.SOUND} {hostile.X264} -c:a aac", path)


def scene(root: Path, neighbour: bytes) -> tuple[Path, Path, Path]:
    """A secret, a neighbour's video beside the hostile file's place, and that place."""
    (root / "secret").write_bytes(SECRET)
    (root / "in").mkdir()
    (root / "in" / "neighbour.ts").write_bytes(neighbour)
    return root / "secret", root / "in" / "neighbour.ts", root / "in" / "film.mp4"


SCRIPTS = sorted(hostile.scripts("http://x", Path("/s"), Path("/n")))


@pytest.mark.parametrize("script", SCRIPTS)
async def test_the_lists_alone_follow_no_script(
    tmp_path: Path, listener: Listener, neighbour: bytes, script: str, lists_alone: FfmpegTranscoder
) -> None:
    secret, other, path = scene(tmp_path, neighbour)
    path.write_text(hostile.scripts(listener.url, secret, other)[script])
    shown = await work_on(lists_alone, path, tmp_path / "out")
    assert shown.codes == ["media_unreadable"]
    assert SECRET.decode() not in shown.text
    assert str(tmp_path) not in shown.text
    assert listener.hits == []


@pytest.mark.parametrize("script", ["hls neighbour", "ffconcat neighbour"])
async def test_what_deceived_inspect_is_followed_by_no_later_step(
    tmp_path: Path, listener: Listener, neighbour: bytes, script: str, lists_alone: FfmpegTranscoder
) -> None:
    secret, other, path = scene(tmp_path, neighbour)
    path.write_text(hostile.scripts(listener.url, secret, other)[script])
    shown = await work_on(lists_alone, path, tmp_path / "out", forged=True)
    assert shown.codes == ["media_unreadable", *["media_undecodable"] * 5]
    assert all(not content for content in shown.outputs.values())
    assert listener.hits == []


@pytest.mark.parametrize("script", ["hls neighbour, absolute", "hls http", "ffconcat neighbour"])
async def test_the_sandbox_alone_holds_where_the_lists_would_not(
    tmp_path: Path,
    listener: Listener,
    neighbour: bytes,
    script: str,
    confined: FfmpegTranscoder,
    lists_alone: FfmpegTranscoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret, other, path = scene(tmp_path, neighbour)
    path.write_text(hostile.scripts(listener.url, secret, other)[script])
    everything = {"protocol_whitelist": "file,http,tcp,crypto,data", "allowed_extensions": "ALL"}
    everything = {} if script.startswith("ffconcat") else everything
    monkeypatch.setattr(arguments, "INPUT", everything)
    monkeypatch.setattr(arguments, "PROBE", everything)
    confinement = (await confined._found()).confinement
    if not (confinement.landlock and confinement.network):
        pytest.skip("this system permits too little of the sandbox")
    assert (await inspected(confined, path))[1].codes == ["media_unreadable"]
    assert listener.hits == []
    followed, _ = await inspected(lists_alone, path)
    assert followed is not None or listener.hits  # with neither it is followed
    listener.hits.clear()


async def test_a_track_that_lies_in_another_file_is_not_opened(
    tmp_path: Path, neighbour: bytes, normal: bytes, lists_alone: FfmpegTranscoder
) -> None:
    _, other, path = scene(tmp_path, neighbour)
    path.write_bytes(hostile.with_external_track(normal, other))
    shown = await work_on(lists_alone, path, tmp_path / "out")
    assert set(shown.codes) == {"media_undecodable"}
    # The sound is the file's own; of the picture, which is the neighbour's, there is nothing.
    made = {name for name, content in shown.outputs.items() if content and not name.startswith("audio/speech-")}
    sounds = {f"{step}/audio.{kind}" for step in ("ladder", "package") for kind in ("mp4", "m3u8")}
    assert made <= sounds


async def test_a_decoder_that_nobody_needs_never_sees_a_file(tmp_path: Path, lists_alone: FfmpegTranscoder) -> None:
    path = tmp_path / "film.mkv"
    hostile.ffmpeg(f"{hostile.PICTURE} -pix_fmt gbrp -c:v magicyuv", path)
    shown = await work_on(lists_alone, path, tmp_path / "out", forged=True)
    assert shown.codes[0] == "media_codec_unsupported"
    assert len(shown.codes) == 6
    assert not any(shown.outputs.values())


async def test_attachments_and_titles_write_nothing_and_stay_behind(
    tmp_path: Path, listener: Listener, confined: FfmpegTranscoder
) -> None:
    (tmp_path / "attached.ttf").write_bytes(SECRET)
    (tmp_path / "captions.ass").write_text(
        "[Script Info]\n[V4+ Styles]\n[Events]\nFormat: Start, End, Text\n"
        f"Dialogue: 0:00:00.00,0:00:02.00,{{\\fn{listener.url}/font}}x\n"
    )
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "film.mkv"
    hostile.ffmpeg(
        f"{hostile.PICTURE} {hostile.SOUND} -i {tmp_path}/captions.ass {hostile.X264} -c:a aac "
        f"-attach {tmp_path}/attached.ttf -metadata:s:t mimetype=font/ttf -metadata:s:t filename=../../planted "
        "-metadata title=;%n$(id)../../-i -metadata:s:a language=../../x",
        path,
    )
    before = files_below(tmp_path)
    shown = await work_on(confined, path, tmp_path / "out")
    assert shown.codes == []
    assert SECRET not in b"".join(shown.outputs.values())
    assert files_below(tmp_path) - before == {tmp_path / "out" / n for n in shown.outputs}
    assert listener.hits == []


@pytest.mark.parametrize(
    "name",
    ["-i", "-f lavfi", "concat:a|b", "pipe:0", "data:x", "%03d.mp4", "a'b\"c\\d;$(id)`id`\n.mp4", "\u202e4pm.exe"],
)
async def test_a_name_is_only_ever_a_name(tmp_path: Path, normal: bytes, name: str, confined: FfmpegTranscoder) -> None:
    path = tmp_path / name
    path.write_bytes(normal)
    media = await confined.inspect(InspectRequest(path=path))
    out = tmp_path / f"out {name.replace('/', '')}"
    out.mkdir()
    assert (await confined.posters(PosterRequest(path=path, media=media, out_dir=out)))[0].picture.path.exists()


@pytest.mark.parametrize(
    ("claim", "codes"),
    [
        ("duration", {"media_too_long"}),
        ("tracks", {"media_too_many_streams", "media_unreadable"}),
        ("box", set()),
        ("rate", set()),
        ("picture", {"media_too_large"}),
    ],
)
async def test_what_a_header_claims_costs_nothing(
    tmp_path: Path, normal: bytes, claim: str, codes: set[str], confined: FfmpegTranscoder
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(
        {
            "duration": lambda: hostile.with_endless_duration(normal),
            "tracks": lambda: hostile.with_many_tracks(normal, 3000),
            "box": lambda: hostile.with_enormous_box(normal),
            "rate": lambda: hostile.with_absurd_rate(tmp_path / "x.avi"),
            "picture": lambda: hostile.enormous_from_the_start(tmp_path / "x.mov"),
        }[claim]()
    )
    shown = await work_on(confined, path, tmp_path / "out")
    if codes:
        assert set(shown.codes) <= codes
        assert shown.codes
    assert sum(map(len, shown.outputs.values())) < 50 * 1024 * 1024


@pytest.mark.matrix(16)
async def test_a_bomb_ends_with_a_code_while_others_are_served(
    tmp_path: Path, normal: bytes, confined: FfmpegTranscoder
) -> None:
    bomb, mine = tmp_path / "bomb.mov", tmp_path / "mine.mp4"
    hostile.bomb(bomb)
    mine.write_bytes(normal)
    impatient = FfmpegTranscoder(CONFINED.model_copy(update={"stall_timeout_s": 10.0}))
    exploded, served = await asyncio.gather(
        work_on(impatient, bomb, tmp_path / "bomb"), work_on(confined, mine, tmp_path / "mine")
    )
    assert served.codes == []
    # What comes first on this machine: no memory, or no progress.
    assert set(exploded.codes) <= {"transcode_killed", "transcode_stalled", "media_undecodable", "media_no_audio"}
    assert {"transcode_killed", "transcode_stalled"} & set(exploded.codes)


POISON = {
    "crash": "kill -SEGV $$",
    "hang": "while :; do :; done",
    "hang while talking": "while :; do echo frame=$((n=n+1)); done",
    "complain without end": "while :; do echo error error error >&2; done",
}


@pytest.mark.parametrize(
    ("poison", "code"),
    [
        ("crash", "transcode_crashed"),
        ("hang", "transcode_stalled"),
        ("hang while talking", "transcode_timeout"),
        ("complain without end", "transcode_stalled"),
    ],
)
@pytest.mark.matrix(16)
async def test_a_poisoned_ffmpeg_ends_within_its_limit_with_a_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    normal: bytes,
    poison: str,
    code: str,
) -> None:
    monkeypatch.setattr(posters, "PICTURE_TIMEOUT_S", 1.0 if code == "transcode_timeout" else 30.0)
    program = tmp_path / "ffmpeg"
    program.write_text(
        "#!/bin/sh\ncase $1 in\n-version) echo ffmpeg version 7.1;;\n"
        "-encoders) echo ' V..... libx264 x'; echo ' A..... aac x';;\n-filters) ;;\n"
        f"*) {POISON[poison]};;\nesac\n"
    )
    program.chmod(0o755)
    path = tmp_path / "film.mp4"
    path.write_bytes(normal)
    stall_timeout_s = 0.5 if code == "transcode_stalled" else 30.0
    poisoned = FfmpegTranscoder(CONFINED.model_copy(update={"ffmpeg": program, "stall_timeout_s": stall_timeout_s}))
    before = children()
    with pytest.raises(EchoError) as caught:
        await poisoned.posters(PosterRequest(path=path, media=FORGED, out_dir=tmp_path))
    assert caught.value.code == code
    assert sum(map(len, caught.value.log_tail)) < 50_000
    assert children() <= before


@pytest.mark.matrix(16)
async def test_an_output_that_grows_without_end_is_cut_off_with_a_code(
    tmp_path: Path, normal: bytes, confined: FfmpegTranscoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "GIB", 20_000)
    monkeypatch.setattr(running, "OUTPUT_FACTOR", 0)
    path = tmp_path / "film.mp4"
    path.write_bytes(normal)
    (tmp_path / "out").mkdir()
    media = await confined.inspect(InspectRequest(path=path))
    with pytest.raises(EchoError) as caught:
        await confined.extract_audio(ExtractAudioRequest(path=path, media=media, out_dir=tmp_path / "out"))
    assert (caught.value.code, caught.value.retryable) == ("transcode_output_too_large", False)
    assert max(p.stat().st_size for p in (tmp_path / "out").iterdir()) <= 20_000


def test_the_listener_would_have_noticed(listener: Listener) -> None:
    with socket.create_connection(("127.0.0.1", int(listener.url.rpartition(":")[2])), 5) as client:
        client.sendall(b"GET /seen HTTP/1.0\r\n\r\n")
        assert b"404" in client.recv(100)
    assert listener.hits.pop() == "/seen"
