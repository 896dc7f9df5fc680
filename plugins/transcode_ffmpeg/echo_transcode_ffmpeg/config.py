"""Configuration of the plugin: ``[plugins.transcode_ffmpeg]``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from echo_core.plugin_api import Codec

Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"]
Sandbox = Literal["auto", "required", "off"]
GIB = 1024**3


class FfmpegConfig(BaseModel):
    """How ffmpeg is found, how it encodes and how it is confined."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ffmpeg: Path | None = Field(None, description="the ffmpeg to use; otherwise the one on PATH, then the bundled one")
    ffprobe: Path | None = Field(None, description="the ffprobe to use; otherwise the one on PATH, then PyAV")
    preset: Preset = Field("veryfast", description="x264 preset: slower ones give smaller files for more CPU")
    crf: int = Field(23, ge=10, le=40, description="x264 quality: lower is better and larger")
    codecs: tuple[Codec, ...] = Field(
        ("h264",),
        description='of the picture: "h264", which every player needs, and if wanted "hevc" and "av1" beside it, for '
        "fewer bytes and about as much CPU again each",
    )
    per_title_from_s: float = Field(
        120.0, ge=0, description="videos from this length on get a rate factor that suits what they show"
    )
    audio_bitrate_bps: int = Field(128_000, ge=32_000, le=512_000, description="AAC, stereo")
    loudness_lufs: float | None = Field(
        None, ge=-31, le=-5, description="how loud sounds shall be (EBU R 128); otherwise they stay as they are"
    )
    threads: int = Field(0, ge=0, le=64, description="threads of each encoder; 0: as many as there are processors")
    nice: int = Field(10, ge=0, le=19, description="lowers the priority of encodes; other work by half as much")
    memory_limit_bytes: int = Field(6 * GIB, ge=GIB, description="address space of one ffmpeg")
    sandbox_network: Sandbox = Field(
        "auto", description="run ffmpeg without any network: where the system permits it, always, or not"
    )
    sandbox_files: Sandbox = Field(
        "auto", description="show ffmpeg its input, its output directory and libraries, and no other file (Landlock)"
    )
    sandbox_calls: Sandbox = Field(
        "auto", description="refuse ffmpeg sockets, other processes and the rarer calls of the kernel (seccomp)"
    )
    package_max_bitrate_bps: int = Field(12_000_000, gt=0, description="sources above it are encoded, never copied")
    probe_timeout_s: float = Field(30.0, gt=0)
    stall_timeout_s: float = Field(60.0, gt=0, description="an encode that makes no progress for so long is ended")
    encode_timeout_factor: float = Field(20.0, gt=0, description="seconds of encoding allowed per second of media")

    @field_validator("codecs")
    @classmethod
    def _with_h264(cls, codecs: tuple[Codec, ...]) -> tuple[Codec, ...]:
        if "h264" not in codecs:
            raise ValueError("'h264' must be among the codecs: many players know no other")
        return tuple(dict.fromkeys(codecs))
