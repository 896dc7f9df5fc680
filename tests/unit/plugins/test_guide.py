"""The examples of ``docs/plugins.md`` work as printed."""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from echo_core.adapters.plugin_registry import PluginRegistry
from echo_core.adapters.settings_sources import load_settings

TEXT = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text()
FILES = dict(re.findall(r"(?s)\n`([\w.]+)`:\n\n```\w+\n(.*?)```", TEXT))
PYTHON = re.findall(r"(?s)```python\n(.*?)```", TEXT)


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def example(site: Any) -> Any:
    """The plugin of the guide, installed under the metadata that the guide gives it."""
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    ((name, value),) = project["entry-points"]["echo.plugins"].items()
    site.install(
        name,
        FILES[f"{value}.py"],
        version=project["version"],
        distribution=project["name"],
        value=value,
        header="",
    )
    return site


def test_the_example_is_whole() -> None:
    assert sorted(FILES) == ["echo_fingerprint.py", "pyproject.toml", "test_fingerprint.py"]


async def test_the_example_loads_and_runs_with_its_configuration(example: Any, tmp_path: Path) -> None:
    (table,) = re.findall(r"(?s)```toml\n(\[plugins\..*?)```", TEXT)
    (tmp_path / "echo.toml").write_text(table)
    settings = load_settings(environ={}, cwd=tmp_path)
    registry = PluginRegistry.load(
        settings, secret=b"s" * 32, clock=FixedClock(), candidates=example.candidates(), strict=False
    )
    (report,) = registry.reports()
    assert (report.status, report.reason, report.version) == ("loaded", "", "0.1.0")
    (tmp_path / "source").write_bytes(b"a video")

    async def fetch_source() -> Path:
        return tmp_path / "source"

    context: Any = SimpleNamespace(fetch_source=fetch_source)
    (step,) = registry.steps()
    async with registry.open_step(step) as handler:
        result = await handler.run(context)
    assert result.output == {"algorithm": "blake2b", "digest": hashlib.blake2b(b"a video").hexdigest()}


async def test_the_test_of_the_example_passes(example: Any, tmp_path: Path) -> None:
    assert example.modules == {"echo_fingerprint"}
    namespace: dict[str, Any] = {}
    exec(FILES["test_fingerprint.py"], namespace)  # noqa: S102 - our own documentation
    await namespace["test_fingerprint_is_that_of_the_bytes"](tmp_path)


def imports() -> list[tuple[str, str]]:
    found = set()
    for block in PYTHON:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("echo_core"):
                found |= {(node.module or "", alias.name) for alias in node.names}
    found |= {(module, name) for module, name in re.findall(r"`(echo_core\.testing\.\w+)\.(\w+)`", TEXT)}
    return sorted(found)


@pytest.mark.parametrize(("module", "name"), imports())
def test_what_the_guide_names_exists(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_errors_and_fields_that_the_guide_names_exist() -> None:
    api = importlib.import_module("echo_core.plugin_api")
    for name in re.findall(r"`(\w+(?:Error|Spec|Context|Handler|Result|Config))`", TEXT):
        assert hasattr(api, name) or name in FILES["echo_fingerprint.py"], name
