"""What hooks may return, and the checks that a spec passes before anything relies on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TypeAlias, cast

from pydantic import BaseModel

from echo_core.domain.jobs import SOURCE
from echo_core.plugin_api.ai import Capability
from echo_core.plugin_api.identity import Migration
from echo_core.plugin_api.specs import (
    AIProviderSpec,
    CommandsSpec,
    EventHandlerSpec,
    IdentitySpec,
    RoutesSpec,
    StepSpec,
    StorageSpec,
    TranscoderSpec,
)
from echo_core.plugin_api.steps import Resource, RetryPolicy

OpenableSpec: TypeAlias = StorageSpec | TranscoderSpec | AIProviderSpec | IdentitySpec | StepSpec | EventHandlerSpec
AnySpec: TypeAlias = OpenableSpec | RoutesSpec | CommandsSpec

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_BROWSER_ORIGIN = re.compile(r"https?://(?:\*\.)?[a-z0-9.-]+(?::[0-9]{1,5})?")
"""A source of a Content-Security-Policy, into which nothing else may slip."""
MAX_NAME_LENGTH = 63
"""Characters; names go into environment variables, URLs and table columns."""


@dataclass(frozen=True, slots=True)
class Hook:
    """The kind of thing that a hook registers, as reports name it, and the type of its spec."""

    kind: str
    type: type[AnySpec]


HOOKS: Mapping[str, Hook] = MappingProxyType(
    {
        "echo_register_storage": Hook("storage", StorageSpec),
        "echo_register_transcoders": Hook("transcoder", TranscoderSpec),
        "echo_register_ai_providers": Hook("ai_provider", AIProviderSpec),
        "echo_register_identity": Hook("identity", IdentitySpec),
        "echo_register_steps": Hook("step", StepSpec),
        "echo_register_event_handlers": Hook("event_handler", EventHandlerSpec),
        "echo_register_routes": Hook("routes", RoutesSpec),
        "echo_register_commands": Hook("commands", CommandsSpec),
    }
)


class SpecError(Exception):
    """A spec that cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredSpec:
    """A spec and the plugin that brought it."""

    plugin: str
    kind: str
    spec: AnySpec

    @property
    def is_named(self) -> bool:
        """Whether the spec has a name of its own, which is unique among all plugins."""
        return isinstance(self.spec, OpenableSpec)

    @property
    def name(self) -> str:
        """The spec's name; for routes where they are mounted."""
        if isinstance(self.spec, OpenableSpec):
            return self.spec.name
        if isinstance(self.spec, CommandsSpec):
            return self.spec.name or self.plugin
        return f"/plugins/{self.plugin}"


def is_name(name: object) -> bool:
    """Whether this may name a plugin or a spec: lower-case words joined by single underscores."""
    return isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name) is not None


def checked_spec(hook: str, spec: object) -> AnySpec:
    """The spec, if it is of the hook's type and its fields make sense. Raises ``SpecError``."""
    wanted = HOOKS[hook].type
    if not isinstance(spec, wanted):
        raise SpecError(f"{hook} returned a {type(spec).__name__}, not a {wanted.__name__}")
    where = f"{wanted.__name__} {getattr(spec, 'name', '')!r} of {hook}" if hasattr(spec, "name") else hook
    problem = _problem(spec)
    if problem:
        raise SpecError(f"{where}: {problem}")
    return spec


def _problem(spec: AnySpec) -> str:
    if isinstance(spec, RoutesSpec):
        return _routes_problem(spec)
    if isinstance(spec, CommandsSpec):
        from typer import Typer  # only plugins that bring commands pay for it

        if not isinstance(spec.app, Typer):
            return f"app is a {type(spec.app).__name__}, not a Typer app"
        if not _is_config_model(spec.config_model):
            return "config_model is not a pydantic model"
        return "" if spec.name == "" or is_name(spec.name) else "name must be lower-case words joined by '_'"
    if not is_name(spec.name):
        return "name must be lower-case words joined by '_', starting with a letter"
    if not callable(spec.open):
        return "open is not callable"
    if not _is_config_model(spec.config_model):
        return "config_model is not a pydantic model"
    if isinstance(spec, StepSpec):
        return _step_problem(spec)
    if isinstance(spec, EventHandlerSpec):
        if not _are_names(spec.types):
            return "types must be a tuple of strings"
        return "" if _is_number(spec.timeout_s) and spec.timeout_s > 0 else "timeout_s must be above 0"
    if isinstance(spec, IdentitySpec):
        return _identity_problem(spec)
    if not isinstance(spec.capabilities, frozenset) or not _are_names(tuple(spec.capabilities)):
        return "capabilities must be a frozenset of strings"
    if isinstance(spec, AIProviderSpec):
        return _ai_problem(spec)
    if isinstance(spec, StorageSpec) and not callable(spec.browser_origins):
        return origins_problem(spec.browser_origins)
    return ""


def origins_problem(browser_origins: object) -> str:
    """What is wrong with origins that go into a Content-Security-Policy; empty: nothing."""
    if _are_origins(browser_origins):
        return ""
    return "browser_origins must be a tuple of origins such as 'https://storage.example'"


def _is_config_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _routes_problem(spec: RoutesSpec) -> str:
    from starlette.routing import BaseRoute  # only plugins that bring routes pay for it

    if not isinstance(spec.routes, list | tuple) or not all(isinstance(route, BaseRoute) for route in spec.routes):
        return "routes must be a list of Starlette routes"
    return "" if spec.auth in {"user", "none"} else "auth must be 'user' or 'none'"


def _identity_problem(spec: IdentitySpec) -> str:
    if not isinstance(spec.migrations, tuple) or not all(isinstance(step, Migration) for step in spec.migrations):
        return "migrations must be a tuple of Migrations"
    names = [step.name for step in spec.migrations]
    return "" if len(set(names)) == len(names) else "two migrations have the same name"


def _ai_problem(spec: AIProviderSpec) -> str:
    if unknown := spec.capabilities - set(Capability):
        return f"unknown capabilities: {', '.join(sorted(unknown))}"
    return "" if _are_names(spec.limitations) else "limitations must be a tuple of strings"


def _step_problem(spec: StepSpec) -> str:
    if spec.name == SOURCE:  # artefacts lie under their step's name, beside the upload
        return f"name {SOURCE!r} is taken: uploads are stored under it"
    for entry in fields(spec):
        if entry.name in {"consumes", "produces", "after"} and not _are_names(getattr(spec, entry.name)):
            return f"{entry.name} must be a tuple of strings"
    if not isinstance(spec.resource, Resource):
        return "resource must be a Resource"
    if (
        not isinstance(spec.retry, RetryPolicy)
        or not _is_number(spec.retry.max_attempts)
        or spec.retry.max_attempts < 1
    ):
        return "retry must be a RetryPolicy with max_attempts of at least 1"
    if not _is_number(spec.timeout_s) or spec.timeout_s <= 0:
        return "timeout_s must be above 0"
    for name in ("timeout_per_media_s", "weight"):
        value = getattr(spec, name)
        if not _is_number(value) or value < 0:
            return f"{name} must not be below 0"
    return ""


def _are_names(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) and name for name in value)


def _are_origins(value: object) -> bool:
    return _are_names(value) and all(_BROWSER_ORIGIN.fullmatch(origin) for origin in cast("tuple[str, ...]", value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
