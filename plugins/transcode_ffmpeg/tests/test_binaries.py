"""Which ffmpeg is used, and what is said when none can be."""

import os
import subprocess
from pathlib import Path

import pytest
from echo_transcode_ffmpeg import binaries
from echo_transcode_ffmpeg.binaries import find_tools
from echo_transcode_ffmpeg.config import FfmpegConfig

from echo_core.plugin_api import UnavailableError


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def test_an_old_ffmpeg_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ffmpeg", "ffprobe"):
        program(tmp_path / name, f"echo '{name} version 4.4.2-0ubuntu Copyright'")
    monkeypatch.setenv("PATH", str(tmp_path))
    tools = await find_tools(FfmpegConfig())
    assert tools.ffmpeg.parent != tmp_path
    assert tools.ffprobe is None


async def test_the_configured_ffmpeg_is_used(tmp_path: Path) -> None:
    listing = (
        "case $1 in -version) echo 'ffmpeg version N-1-gabc';; *) echo ' V..... libx264 x'; echo ' A..... aac x';; esac"
    )
    mine = program(tmp_path / "mine", listing)
    tools = await find_tools(FfmpegConfig(ffmpeg=mine))
    assert (tools.ffmpeg, tools.ffmpeg_version, tools.can_tonemap) == (mine, "N-1-gabc", False)


@pytest.mark.parametrize("option", ["ffmpeg", "ffprobe"])
async def test_a_configured_program_that_does_not_run_is_named(tmp_path: Path, option: str) -> None:
    with pytest.raises(UnavailableError, match=str(tmp_path)) as caught:
        await find_tools(FfmpegConfig(**{option: tmp_path / "missing"}))
    assert f"transcode_ffmpeg.{option}" in caught.value.remedy


async def test_an_ffmpeg_without_the_encoders_is_refused(tmp_path: Path) -> None:
    mine = program(tmp_path / "mine", "echo 'ffmpeg version 7.1'")
    with pytest.raises(UnavailableError) as caught:
        await find_tools(FfmpegConfig(ffmpeg=mine))
    assert caught.value.code == "ffmpeg_incomplete"
    assert "libx264" in caught.value.message


def test_the_bundled_ffmpeg_is_found_without_running_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs outside of the confinement gets the whole environment, secrets included."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("it was run")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    found = binaries._bundled()
    assert found is not None
    assert os.access(found, os.X_OK)


async def test_no_ffmpeg_at_all_is_told_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_bundled", lambda: None)
    with pytest.raises(UnavailableError) as caught:
        await find_tools(FfmpegConfig())
    assert caught.value.code == "ffmpeg_missing"
    assert "imageio-ffmpeg" in caught.value.remedy
