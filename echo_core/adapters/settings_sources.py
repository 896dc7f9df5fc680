"""Reads the settings: ``load_settings()`` is the only reader of the environment, and bootstrap its only caller.

Order, later wins: ``echo.toml``, then ``.env.<mode>``, then the environment.

- ``echo.toml``: the file that ``ECHO_CONFIG`` names, else ``./echo.toml``, else the default that comes with Echo. Keys
  that it leaves out keep their defaults.
- ``.env.<mode>``: beside the ``echo.toml`` in use, else in the working directory. ``ECHO_MODE`` names the mode; without
  it the mode is ``dev``, and then the file may be missing. Only its ``ECHO_…`` lines are looked at.
- Environment: ``ECHO_<SECTION>__<KEY>``; ``ECHO_<KEY>`` for keys outside a section.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

from echo_core.adapters.settings import Settings
from echo_core.adapters.settings_errors import (
    ConfigurationError,
    ConfigurationIssue,
    Origin,
    Origins,
    did_you_mean,
)
from echo_core.adapters.settings_tables import FILE_SUFFIX, is_secret, known_keys, validate_table

PREFIX = "ECHO_"
DELIMITER = "__"
DEFAULT_MODE = "dev"
RESERVED = {
    "ECHO_MODE": "names the .env.<mode> file",
    "ECHO_CONFIG": "path of echo.toml",
    "ECHO_URL": "address of the server, for echoctl",
    "ECHO_TOKEN": "bearer token, for echoctl",
}
"""Variables with a meaning of their own; everything else that starts with ``ECHO_`` is a setting."""

_TOML_RANK, _DOTENV_RANK, _ENVIRONMENT_RANK = 1, 2, 3


class _EnvironmentSettings(Settings, BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=DELIMITER, frozen=True, extra="forbid")


class _VariablesSource(EnvSettingsSource):
    """Nests given variables by their names; lists and secrets' files are left to ``validate_table``."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(_EnvironmentSettings)
        self.env_vars = {name.lower(): value for name, value in variables.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: object) -> object:
        """Tables may be JSON; anything else stays text."""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value


def load_settings(
    *, environ: Mapping[str, str] | None = None, config_path: Path | None = None, cwd: Path | None = None
) -> Settings:
    """All settings, checked, with ``data_dir`` absolute. Blocking; for the start of a process.

    ``environ`` stands for the process environment, ``config_path`` for ``ECHO_CONFIG``, ``cwd`` for the working
    directory. Raises ``ConfigurationError`` with everything that is wrong in any source.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    issues: list[ConfigurationIssue] = []
    origins = Origins()
    merged: dict[str, object] = {}

    toml_path = _toml_path(environ, config_path, cwd, issues)
    _merge(merged, _read_toml(toml_path, issues), Origin(_TOML_RANK, str(toml_path)), origins)
    beside = cwd if toml_path == default_config_path() else toml_path.parent
    dotenv_path, dotenv = _read_dotenv(environ, beside, issues)
    _merge_variables(merged, dotenv, _DOTENV_RANK, f"{dotenv_path}, ", origins, issues)
    variables = {n: v for n, v in environ.items() if n.startswith(PREFIX) and n not in RESERVED}
    _merge_variables(merged, variables, _ENVIRONMENT_RANK, "", origins, issues)

    settings, found = validate_table(Settings, merged, prefix="", origins=origins)
    if settings is None or issues:
        raise ConfigurationError(issues + found)
    settings = settings.model_copy(update={"data_dir": cwd / settings.data_dir.expanduser()})
    settings.remember_origins(origins, environ.get("ECHO_MODE", ""))
    return settings


def default_config_path() -> Path:
    """The ``echo.toml`` that comes with Echo: packaged, or in a checkout the one at its root."""
    package = Path(__file__).parents[1]
    packaged = package / "_defaults" / "echo.toml"
    return packaged if packaged.is_file() else package.parent / "echo.toml"


def variable_name(key: str) -> str:
    """The environment variable that sets a dotted key."""
    return PREFIX + DELIMITER.join(key.split(".")).upper()


def _toml_path(
    environ: Mapping[str, str], config_path: Path | None, cwd: Path, issues: list[ConfigurationIssue]
) -> Path:
    named = str(config_path) if config_path is not None else environ.get("ECHO_CONFIG", "")
    if named:
        path = cwd / Path(named).expanduser()
        if not path.is_file():
            issues.append(ConfigurationIssue(str(path), "there is no such file", "ECHO_CONFIG"))
        return path
    path = cwd / "echo.toml"
    return path if path.is_file() else default_config_path()


def _read_toml(path: Path, issues: list[ConfigurationIssue]) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}  # a named one was reported before
    except OSError as error:
        issues.append(ConfigurationIssue(str(path), f"cannot be read: {error.strerror}"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        issues.append(ConfigurationIssue(str(path), f"is not valid TOML: {reason}"))
    return {}


def _read_dotenv(
    environ: Mapping[str, str], directory: Path, issues: list[ConfigurationIssue]
) -> tuple[Path, dict[str, str]]:
    mode = environ.get("ECHO_MODE", "")
    path = directory / f".env.{mode or DEFAULT_MODE}"
    if mode and not mode.replace("-", "").replace("_", "").isalnum():
        issues.append(ConfigurationIssue("ECHO_MODE", "may hold letters, digits, '-' and '_' only", "the environment"))
        return path, {}
    if not path.is_file():
        if mode:
            problem = f"{path} does not exist; create it, or unset ECHO_MODE if this mode has no settings of its own"
            issues.append(ConfigurationIssue("ECHO_MODE", problem, "the environment"))
        return path, {}
    try:
        source = DotEnvSettingsSource(_EnvironmentSettings, env_file=path, case_sensitive=True)
    except (OSError, UnicodeDecodeError):
        issues.append(ConfigurationIssue(str(path), "cannot be read as UTF-8 text"))
        return path, {}
    variables: dict[str, str] = {}
    for name, value in source.env_vars.items():
        if name in RESERVED:
            issues.append(ConfigurationIssue(name, "belongs in the environment, not in this file", str(path)))
        elif name.startswith(PREFIX):
            variables[name] = value or ""
    return path, variables


def _merge_variables(
    merged: dict[str, object],
    variables: Mapping[str, str],
    rank: int,
    where: str,
    origins: Origins,
    issues: list[ConfigurationIssue],
) -> None:
    fields = Settings.model_fields
    nested: dict[str, str] = {}
    layer: dict[str, object] = {}
    for name, value in sorted(variables.items()):
        head, *rest = name[len(PREFIX) :].lower().split(DELIMITER)
        secret = fields.get(head.removesuffix(FILE_SUFFIX))
        if not rest and head.endswith(FILE_SUFFIX) and secret is not None and is_secret(secret.annotation):
            layer[head] = value
        elif head not in fields or (rest and not isinstance(fields[head].default, BaseModel)):
            near = did_you_mean(name, (variable_name(key) for key in known_keys(Settings)))
            issues.append(ConfigurationIssue(name, f"unknown setting{near}", where.rstrip(", ") or "the environment"))
        else:
            nested[name] = value
    layer |= _VariablesSource(nested)()

    def origin(key: str) -> Origin:
        while key and variable_name(key) not in variables:
            key = key.rpartition(".")[0]
        return Origin(rank, f"{where or 'environment variable '}{variable_name(key)}", is_text=True)

    _merge(merged, layer, origin, origins)


def _merge(
    into: dict[str, object],
    layer: Mapping[str, object],
    origin: Origin | Callable[[str], Origin],
    origins: Origins,
    prefix: str = "",
) -> None:
    for name, value in layer.items():
        key = f"{prefix}.{name}" if prefix else name
        below = into.get(name)
        if isinstance(value, Mapping) and value:
            if not isinstance(below, dict):
                below = into[name] = {}
            _merge(below, value, origin, origins, key)
        elif isinstance(value, Mapping) and isinstance(below, dict):
            continue  # an empty table adds nothing
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value
            origins.record(key, origin if isinstance(origin, Origin) else origin(key))
