"""One installation for all tests of this folder: starting it takes longer than any of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import make_clip
from tests.scale.hosts import why_not
from tests.scale.installation import Installation


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    if reason := why_not():
        pytest.skip(reason)
    with Installation(tmp_path_factory.mktemp("scale")) as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of picture and sound."""
    return make_clip(tmp_path_factory.mktemp("clips") / "short.mp4")


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough that its encode can be caught in the act."""
    return make_clip(tmp_path_factory.mktemp("clips") / "long.mp4", seconds=15, size="480x360")
