"""``echo.toml`` and ``docs/configuration.md`` say what the models say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from echo_ai_gemini.config import GeminiConfig
from echo_ai_local.config import LocalAIConfig
from echo_identity_local.config import IdentityConfig
from echo_storage_gcs.config import GcsConfig
from echo_storage_local.config import LocalStorageConfig
from echo_transcode_ffmpeg.config import FfmpegConfig
from pydantic import BaseModel, SecretStr

from echo_core.adapters.settings import Settings
from echo_core.adapters.settings_sources import RESERVED, default_config_path, load_settings, variable_name

ROOT = Path(__file__).parents[2]
ECHO_TOML = ROOT / "echo.toml"
REFERENCE = ROOT / "docs" / "configuration.md"
BUNDLED: dict[str, type[BaseModel]] = {
    "ai_gemini": GeminiConfig,
    "ai_local": LocalAIConfig,
    "identity_local": IdentityConfig,
    "storage_gcs": GcsConfig,
    "storage_local": LocalStorageConfig,
    "transcode_ffmpeg": FfmpegConfig,
}


def as_toml(value: object) -> object:
    if isinstance(value, BaseModel):
        return {name: as_toml(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return [as_toml(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def with_defaults(model: type[BaseModel]) -> BaseModel:
    """The model as it is when nothing is set; what has to be set has no value."""
    needed = {name: None for name, field in model.model_fields.items() if field.is_required()}
    return model.model_construct(None, **needed)


def leaves(table: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if not isinstance(table, dict) or (prefix and not table):
        yield prefix, table
        return
    for name, value in table.items():
        yield from leaves(value, f"{prefix}.{name}" if prefix else name)


def test_echo_toml_holds_every_key_with_its_default() -> None:
    assert tomllib.loads(ECHO_TOML.read_text()) == as_toml(Settings())


def test_echo_toml_loads_as_the_default() -> None:
    settings = load_settings(environ={"ECHO_CONFIG": str(ECHO_TOML)}, cwd=Path("/nonexistent"))
    assert settings.model_copy(update={"data_dir": Path("data")}).model_dump() == Settings().model_dump()


def test_the_default_file_is_found() -> None:
    assert default_config_path().read_text() == ECHO_TOML.read_text()


@pytest.mark.parametrize("plugin", BUNDLED)
def test_echo_toml_shows_every_key_of_the_bundled_plugins(plugin: str) -> None:
    blocks = [block for block in ECHO_TOML.read_text().split("\n\n") if f"# [plugins.{plugin}" in block]
    text = "\n".join(blocks)
    table = tomllib.loads(re.sub(r"(?m)^# (?!#)", "", text))["plugins"][plugin]
    defaults = dict(leaves(as_toml(with_defaults(BUNDLED[plugin]))))
    assert dict(leaves(table)) == {name: value for name, value in defaults.items() if value is not None}
    unset = re.findall(r"(?m)^# ## (\w+) = ", text)
    assert sorted(unset) == sorted(name for name, value in defaults.items() if value is None)


def test_echo_toml_explains_every_key() -> None:
    above = ""
    for line in ECHO_TOML.read_text().splitlines():
        if re.match(r"(# )?(## )?\w+ = ", line):
            assert re.match(r"#( #)? [^#\s]", above), f"no comment above: {line}"
        above = line


def test_no_line_of_echo_toml_is_too_wide() -> None:
    assert max(map(len, ECHO_TOML.read_text().splitlines())) <= 120


def test_reference_has_a_row_for_every_key_and_no_other() -> None:
    rows = re.findall(r"(?m)^\| `([a-z0-9_.]+)` \| `(.*?)` \| (\S.*) \|$", REFERENCE.read_text())
    documented = {key: default for key, default, _ in rows}
    expected = {key: as_shown(value) for key, value in leaves(as_toml(Settings()))}
    assert documented == expected
    assert len(rows) == len(documented)


def test_reference_names_the_reserved_variables() -> None:
    text = REFERENCE.read_text()
    assert all(f"`{name}`" in text for name in RESERVED)
    assert f"`{variable_name('http.port')}`" in text


def as_shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).replace("'", '"')


@pytest.mark.parametrize("block", re.findall(r"(?s)```toml\n(.*?)```", REFERENCE.read_text()))
def test_examples_of_the_reference_load(tmp_path: Path, block: str) -> None:
    (tmp_path / "echo.toml").write_text(block)
    assert load_settings(environ={}, cwd=tmp_path).issuer == "https://abcdefgh.supabase.co/auth/v1"
