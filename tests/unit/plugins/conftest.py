"""Throw-away distributions: a module, its metadata and its entry point, in a directory of the test's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from textwrap import dedent

import pytest

HEADER = """
from contextlib import asynccontextmanager
from pydantic import BaseModel, SecretStr
from echo_core.plugin_api import *

@asynccontextmanager
async def opener(context):
    yield None
"""


class Site:
    """Installed plugins of one test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modules: set[str] = set()

    def install(
        self,
        name: str,
        body: str,
        *,
        version: str = "1.0",
        distribution: str = "",
        value: str = "",
        header: str = HEADER,
    ) -> None:
        """Install a distribution with one plugin whose module has this body."""
        module = value.partition(":")[0] or f"echo_test_{name.lower().replace('-', '_')}_{len(self.modules)}"
        self.modules.add(module)
        (self.path / f"{module}.py").write_text(header + dedent(body))
        distribution = distribution or f"echo-{name}"
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[echo.plugins]\n{name} = {value or module}\n")

    def candidates(self) -> list[EntryPoint]:
        """The entry points, as ``importlib.metadata`` finds them."""
        found: list[Distribution] = list(distributions(path=[str(self.path)]))
        return [entry for distribution in found for entry in distribution.entry_points.select(group="echo.plugins")]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Site(path)
    yield made
    for module in made.modules:
        sys.modules.pop(module, None)


@pytest.fixture
def install(site: Site) -> Callable[..., None]:
    return site.install
