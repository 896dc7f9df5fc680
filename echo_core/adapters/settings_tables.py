"""Checks one table of the configuration against its model; the kernel's settings and plugins' tables alike."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError

from echo_core.adapters.settings_errors import ConfigurationIssue, Origins, did_you_mean

ModelT = TypeVar("ModelT", bound=BaseModel)

FILE_SUFFIX = "_file"
MAX_SECRET_FILE_BYTES = 64 * 1024
"""Larger than any key or service account file; keeps a wrong path (a device, a log) from being swallowed."""

_SECRETS = (SecretStr, SecretBytes, Secret)
_LISTS = (list, tuple, set, frozenset)


def validate_table(
    model: type[ModelT], table: Mapping[str, object], *, prefix: str, origins: Origins, closed: bool = False
) -> tuple[ModelT | None, list[ConfigurationIssue]]:
    """The table as a model, or None and everything that is wrong with it, by full dotted key.

    A secret may be given as ``<key>_file``: then it is the file's content without the last line end. Where a source
    knows only strings, lists may be JSON or comma separated, and tables JSON. ``closed`` refuses unknown keys whatever
    the model says. No message holds a secret.
    """
    prepared, issues = _prepare(model, table, prefix, origins)
    try:
        instance = model.model_validate(prepared, extra="forbid" if closed else None)
    except ValidationError as error:
        secrets = set(_secret_values(model, prepared))
        failed = {issue.key for issue in issues}
        # The exception itself must not travel on: its text quotes the input.
        for problem in error.errors(include_url=False, include_context=False):
            issue = _issue(model, problem["type"], problem["msg"], problem["loc"], prefix, origins, secrets)
            if issue.key not in failed:
                issues.append(issue)
        return None, issues
    return (None if issues else instance), issues


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a model: leaves and tables."""
    for name, field in model.model_fields.items():
        key = _join(prefix, name)
        yield key
        if (inner := _model_of(field.annotation)) is not None:
            yield from known_keys(inner, key)
        elif is_secret(field.annotation):
            yield key + FILE_SUFFIX


def is_secret(annotation: object) -> bool:
    """Whether a field of this type holds a secret."""
    return any(
        (isinstance(kind, type) and issubclass(kind, _SECRETS)) or get_origin(kind) is Secret
        for kind in _members(annotation)
    )


def _prepare(
    model: type[BaseModel], table: Mapping[str, object], prefix: str, origins: Origins
) -> tuple[dict[str, object], list[ConfigurationIssue]]:
    prepared: dict[str, object] = {}
    issues: list[ConfigurationIssue] = []
    for name, value in table.items():
        key = _join(prefix, name)
        field = model.model_fields.get(name)
        secret_name = name.removesuffix(FILE_SUFFIX)
        secret = model.model_fields.get(secret_name) if field is None and secret_name != name else None
        if secret is not None and is_secret(secret.annotation):
            if _wins(key, name=secret_name, table=table, prefix=prefix, origins=origins, issues=issues):
                content = _read_secret(value, key, origins, issues)
                if content is not None:
                    prepared[secret_name] = content
        elif field is None:
            prepared[name] = _from_text(dict, value, key, origins) if model.model_config.get("extra") else value
        elif name not in prepared:  # else a secret's file of higher rank was there before
            inner = _model_of(field.annotation)
            value = _from_text(field.annotation, value, key, origins)
            if inner is not None and isinstance(value, Mapping):
                value, inner_issues = _prepare(inner, value, key, origins)
                issues += inner_issues
            prepared[name] = value
    return prepared, issues


def _wins(
    file_key: str,
    *,
    name: str,
    table: Mapping[str, object],
    prefix: str,
    origins: Origins,
    issues: list[ConfigurationIssue],
) -> bool:
    """Whether ``<key>_file`` counts rather than ``<key>``: the source of higher rank does; both in one is an error."""
    if name not in table:
        return True
    key = _join(prefix, name)
    by_file, by_value = origins.of(file_key), origins.of(key)
    file_rank = by_file.rank if by_file else 0
    value_rank = by_value.rank if by_value else 0
    if file_rank == value_rank:
        issues.append(
            ConfigurationIssue(key, f"given twice, also as {file_key}; remove one", origins.describe(file_key))
        )
    return file_rank > value_rank


def _read_secret(value: object, key: str, origins: Origins, issues: list[ConfigurationIssue]) -> str | None:
    problem = ""
    if not isinstance(value, str) or not value:
        problem = "must be the path of a file"
    else:
        try:
            with Path(value).expanduser().open("rb") as file:
                content = file.read(MAX_SECRET_FILE_BYTES + 1)
            text = content.decode().removesuffix("\n").removesuffix("\r")
            if len(content) > MAX_SECRET_FILE_BYTES:
                problem = f"the file is larger than {MAX_SECRET_FILE_BYTES} bytes"
            elif not text:
                problem = "the file is empty"
            else:
                return text
        except UnicodeDecodeError:
            problem = "the file is not UTF-8 text"
        except (OSError, ValueError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
            problem = f"cannot read the file: {reason}"
    issues.append(ConfigurationIssue(key, problem, origins.describe(key)))
    return None


def _from_text(annotation: object, value: object, key: str, origins: Origins) -> object:
    origin = origins.of(key)
    if not isinstance(value, str) or origin is None or not origin.is_text:
        return value
    text = value.strip()
    members = _members(annotation)
    wants_list = any((get_origin(kind) or kind) in _LISTS for kind in members)
    wants_table = any((get_origin(kind) or kind) is dict or _is_model(kind) for kind in members)
    if (wants_list and text.startswith("[")) or (wants_table and text.startswith("{")):
        try:
            return json.loads(text)
        except ValueError:
            return value
    if wants_list:
        return [part.strip() for part in text.split(",") if part.strip()]
    return value


def _issue(
    model: type[BaseModel],
    kind: str,
    message: str,
    location: tuple[int | str, ...],
    prefix: str,
    origins: Origins,
    secrets: set[str],
) -> ConfigurationIssue:
    key = prefix
    for part in location:
        key = f"{key}[{part}]" if isinstance(part, int) else _join(key, part)
    plain_key = key.partition("[")[0]
    if kind == "extra_forbidden":
        parent = _model_at(model, location[:-1])
        table = key.rpartition(".")[0]
        near = did_you_mean(key, [_join(table, name) for name in (*parent.model_fields, *_file_keys(parent))])
        return ConfigurationIssue(key, f"unknown key{near}", origins.describe(plain_key))
    if kind == "missing":
        return ConfigurationIssue(key, "is required")
    problem = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if any(secret in problem for secret in secrets):
        problem = "is not a valid value"
    return ConfigurationIssue(key or "configuration", problem, origins.describe(plain_key))


def _secret_values(model: type[BaseModel], table: Mapping[str, object]) -> Iterator[str]:
    for name, value in table.items():
        field = model.model_fields.get(name)
        inner = _model_of(field.annotation) if field is not None else None
        if inner is not None and isinstance(value, Mapping):
            yield from _secret_values(inner, value)
        elif isinstance(value, str) and value and field is not None and is_secret(field.annotation):
            yield value


def _file_keys(model: type[BaseModel]) -> list[str]:
    return [name + FILE_SUFFIX for name, field in model.model_fields.items() if is_secret(field.annotation)]


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for part in location:
        field = model.model_fields.get(str(part))
        model = (_model_of(field.annotation) if field is not None else None) or BaseModel
    return model


def _model_of(annotation: object) -> type[BaseModel] | None:
    return next((kind for kind in _members(annotation) if _is_model(kind)), None)


def _is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _members(annotation: object) -> tuple[object, ...]:
    if get_origin(annotation) in {Union, types.UnionType}:
        return tuple(member for part in get_args(annotation) for member in _members(part))
    return (annotation,)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
