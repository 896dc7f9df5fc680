"""Scratch directories of runs that a test makes one after another."""

from __future__ import annotations

from pathlib import Path


def fresh(scratch: Path) -> Path:
    """A directory of one run, as a process has: a thread that was cancelled may still write into the one before."""
    directory = scratch / f"run-{len(list(scratch.iterdir()))}"
    directory.mkdir()
    return directory


def is_empty(directory: Path) -> bool:
    return not list(directory.iterdir())
