"""The fake transcoder keeps the contract that the real one keeps."""

import asyncio
from pathlib import Path

import pytest

from echo_core.plugin_api import InspectRequest, LadderRequest, PlanLadder, Transcoder, UnavailableError
from echo_core.testing.fake_transcoder import FakeMedia, FakeTranscoder, write_fake_media
from echo_core.testing.transcoder_kit import TranscoderClips, TranscoderTests


class TestFakeTranscoder(TranscoderTests):
    @pytest.fixture
    def transcoder(self) -> Transcoder:
        return FakeTranscoder()

    @pytest.fixture
    def clips(self, tmp_path: Path) -> TranscoderClips:
        def write(name: str, media: FakeMedia) -> Path:
            directory = tmp_path / "clips" / name
            directory.mkdir(parents=True)
            return write_fake_media(directory / f"{name}.mp4", media, metadata="SECRET")

        return TranscoderClips(
            playable=write("playable", FakeMedia()),
            unplayable=write("unplayable", FakeMedia(playable=False)),
            silent=write("silent", FakeMedia(sound=False)),
            sound_only=write("sound_only", FakeMedia(picture=False)),
            secrets=(b"SECRET",),
        )


async def test_fails_as_told(tmp_path: Path) -> None:
    transcoder = FakeTranscoder(failures={"inspect": UnavailableError("busy")})
    with pytest.raises(UnavailableError, match="busy"):
        await transcoder.inspect(InspectRequest(path=write_fake_media(tmp_path / "a.mp4")))
    assert transcoder.calls == ["inspect"]


async def test_waits_while_held(tmp_path: Path) -> None:
    path = write_fake_media(tmp_path / "a.mp4")
    hold = asyncio.Event()
    transcoder = FakeTranscoder(hold=hold)
    media = await transcoder.inspect(InspectRequest(path=path))
    rungs = transcoder.plan_ladder(PlanLadder(media=media))
    started = asyncio.Event()
    request = LadderRequest(
        path=path, media=media, out_dir=tmp_path, rungs=rungs, on_progress=lambda fraction: started.set()
    )
    task = asyncio.create_task(transcoder.encode_ladder(request))
    await started.wait()
    assert not task.done()
    hold.set()
    assert (await task).renditions
