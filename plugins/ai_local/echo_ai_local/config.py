"""Configuration of the plugin: ``[plugins.ai_local]``. Imports nothing of the model's."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, field_validator

MIB = 1024**2


class LocalAIConfig(BaseModel):
    """Which model listens, and how much of the machine it may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path | None = Field(
        None, description="directory of another CTranslate2 Whisper model; otherwise the bundled base model"
    )
    model_sha256: str = Field(
        "", pattern=r"^([0-9a-f]{64})?$", description="what model.bin of that directory must have; empty: not checked"
    )
    model_cache: str = Field("models", description="folder below data_dir where the bundled model is put together")
    threads: int = Field(0, ge=0, le=64, description="threads; 0: as many as there are processors, 4 at most")
    nice: int = Field(10, ge=0, le=19, description="lowers the priority of its process")
    beam_size: int = Field(5, ge=1, le=10, description="guesses that are followed at once; 1 is faster, less accurate")
    memory_limit_bytes: int = Field(2048 * MIB, ge=512 * MIB, description="memory that its process may ask for")
    slice_s: float = Field(180.0, ge=30, le=1200, description="seconds of sound at a time; each is kept when done")
    slice_timeout_factor: float = Field(20.0, gt=0, description="seconds of work allowed per second of sound")
    idle_s: float = Field(60.0, ge=0, description="the process ends when nobody needed it for so long")

    @field_validator("model_cache")
    @classmethod
    def _below_data_dir(cls, folder: str) -> str:
        path = PurePosixPath(folder)
        if not folder or path.is_absolute() or ".." in path.parts:
            raise ValueError("model_cache must be a folder below data_dir, such as 'models'")
        return folder
