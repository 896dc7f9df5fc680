"""The plugins of a running Echo: which are there, which are selected, and how their specs are opened.

    registry = PluginRegistry.load(settings, secret=load_instance_secret(settings), clock=clock, kernel_steps=(...))
    async with registry.open_storage() as storage, registry.open_transcoder() as transcoder:
        ...

``load`` refuses the start (``ConfigurationError``) if a selected backend cannot be had or a table of the configuration
is wrong; any other broken plugin costs one warning.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from functools import partial
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, TypeVar, cast

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.plugin_config import PluginConfigs
from echo_core.adapters.plugin_loader import PluginStatus, load_plugins, report_failure
from echo_core.adapters.plugin_selection import selection_issues, without_absent_defaults
from echo_core.adapters.plugin_specs import OpenableSpec, RegisteredSpec, origins_problem
from echo_core.adapters.secrets import derive_key
from echo_core.adapters.settings import Settings
from echo_core.adapters.settings_errors import ConfigurationError, did_you_mean
from echo_core.application.pipeline import PipelineError, RegisteredStep, ordered
from echo_core.application.services import PluginReport
from echo_core.plugin_api.ai import AIProvider
from echo_core.plugin_api.context import Clock, PluginContext
from echo_core.plugin_api.errors import InvalidRequestError, NotSupportedError
from echo_core.plugin_api.events import EventHandler
from echo_core.plugin_api.identity import IdentityContext, IdentityProvider
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
from echo_core.plugin_api.steps import StepHandler
from echo_core.plugin_api.storage import StorageBackend
from echo_core.plugin_api.transcoder import Transcoder

if TYPE_CHECKING:
    from typer import Typer

SpecT = TypeVar(
    "SpecT",
    StorageSpec,
    TranscoderSpec,
    AIProviderSpec,
    IdentitySpec,
    StepSpec,
    EventHandlerSpec,
    RoutesSpec,
    CommandsSpec,
)
OpenedT = TypeVar("OpenedT")
ContextT = TypeVar("ContextT", bound=PluginContext)


class PluginRegistry:
    """Plugins as loaded once at start. Made by ``load``."""

    def __init__(
        self, statuses: Sequence[PluginStatus], configs: PluginConfigs, settings: Settings, secret: bytes, clock: Clock
    ) -> None:
        self.statuses = tuple(_with_refusals(status, configs) for status in statuses)
        self._refused_commands = {
            entry.name: (before.name, after.reason)
            for before, after in zip(statuses, self.statuses, strict=True)
            if after.state == "failed"
            for entry in before.specs
            if isinstance(entry.spec, CommandsSpec)
        }
        self._configs = configs
        self._settings = settings
        self._secret = secret
        self._clock = clock

    @classmethod
    def load(
        cls,
        settings: Settings,
        *,
        secret: bytes,
        clock: Clock,
        kernel_steps: tuple[RegisteredStep, ...] = (),
        candidates: Iterable[EntryPoint] | None = None,
        strict: bool = True,
    ) -> PluginRegistry:
        """Import, check and configure all plugins. Blocking; imports their code.

        A plugin whose steps do not fit behind ``kernel_steps`` counts as failed. ``strict=False`` is for commands that
        only list or explain: problems then show as reasons in ``statuses`` and nothing is refused. ``candidates``
        stands for the installed entry points.
        """
        statuses = load_plugins(settings.plugins, candidates=candidates)
        configs = PluginConfigs(settings, statuses)
        statuses = tuple(
            report_failure(status, reason) if (reason := configs.unconfigured.get(status.name)) else status
            for status in statuses
        )
        statuses = _with_fitting_steps(statuses, kernel_steps)
        issues = [*configs.issues, *selection_issues(settings, statuses)]
        if issues and strict:
            raise ConfigurationError(issues)
        return cls(statuses, configs, settings, secret, clock)

    def open_storage(self, name: str | None = None) -> AbstractAsyncContextManager[StorageBackend]:
        """The storage that ``storage.backend`` selects, or another one that is configured.

        Raises ``ConfigurationError`` if the other one lacks its table, ``InvalidRequestError`` (``unknown_storage``)
        if no plugin provides it.
        """
        if name in (None, self._settings.storage.backend):
            plugin, spec = self._find(StorageSpec, self._settings.storage.backend)
            return self._open(plugin, spec, self._context_of(plugin, spec), spec.open, StorageBackend)
        provided = {spec.name: (plugin, spec) for plugin, spec in self.of_type(StorageSpec)}
        if name not in provided:
            raise InvalidRequestError(
                f"No working plugin provides a storage {name!r}{did_you_mean(str(name), provided)}",
                code="unknown_storage",
                remedy=f"Name one of: {', '.join(sorted(provided))}; 'echoctl plugins' tells why others do not work.",
            )
        plugin, spec = provided[str(name)]
        if issues := self._configs.problems.get((plugin, spec.config_model)):
            raise ConfigurationError(issues)
        return self._open(plugin, spec, self._context_of(plugin, spec), spec.open, StorageBackend)

    def storage_origins(self) -> tuple[str, ...]:
        """Where browsers read and write the objects of the selected storage, beside the public address."""
        plugin, spec = self._find(StorageSpec, self._settings.storage.backend)
        if not callable(spec.browser_origins):
            return spec.browser_origins
        origins = spec.browser_origins(self._configs.of(plugin, spec.config_model))
        if problem := origins_problem(origins):
            raise TypeError(f"storage {spec.name!r} of plugin {plugin!r}: {problem}")
        return origins

    def open_transcoder(self) -> AbstractAsyncContextManager[Transcoder]:
        """The transcoder that ``transcoder.backend`` selects."""
        plugin, spec = self._find(TranscoderSpec, self._settings.transcoder.backend)
        return self._open(plugin, spec, self._context_of(plugin, spec), spec.open, Transcoder)

    @property
    def settings(self) -> Settings:
        """The settings, without what only their defaults name and no plugin provides."""
        return without_absent_defaults(self._settings, self.statuses)

    def open_ai_provider(self, name: str) -> AbstractAsyncContextManager[AIProvider]:
        """One of the providers that ``[ai]`` names."""
        plugin, spec = self._find(AIProviderSpec, name)
        return self._open(plugin, spec, self._context_of(plugin, spec), spec.open, AIProvider)

    def find_identity(self) -> tuple[str, IdentitySpec] | None:
        """(plugin, spec) of the identity that ``auth.identity`` selects; None where it selects none."""
        return self._find(IdentitySpec, self._settings.identity) if self._settings.identity else None

    def open_identity(self, database: AsyncEngine) -> AbstractAsyncContextManager[IdentityProvider]:
        """The identity that ``find_identity`` finds. ``database``: a pool of the login role of its plugin."""
        plugin, spec = self._find(IdentitySpec, self._settings.identity)
        plain = self._context_of(plugin, spec)
        context = IdentityContext(
            **{entry.name: getattr(plain, entry.name) for entry in fields(plain)},
            database=database.execution_options(isolation_level="READ COMMITTED"),
            issuer=self._settings.issuer,
            audience=self._settings.auth.audience,
            role=self._settings.auth.role,
            production=self._settings.is_production,
        )
        return self._open(plugin, spec, context, spec.open, IdentityProvider)

    def open_step(self, step: RegisteredStep) -> AbstractAsyncContextManager[StepHandler]:
        """The handler of a plugin's step."""
        # StepHandler is a protocol: its one method can be looked for, its type cannot.
        context = self._context_of(step.plugin, step.spec)
        return self._open(step.plugin, step.spec, context, step.spec.open, None, method="run")

    def open_event_handler(self, handler: RegisteredSpec) -> AbstractAsyncContextManager[EventHandler]:
        """One of ``event_handlers()``."""
        spec = cast("EventHandlerSpec", handler.spec)
        return self._open(handler.plugin, spec, self._context_of(handler.plugin, spec), spec.open, EventHandler)

    def find_commands(self, name: str) -> tuple[Typer, PluginContext] | None:
        """The commands of that name and what they run with.

        Raises ``NotSupportedError`` (``plugin_not_configured``) if their plugin's table is missing or refused.
        """
        if name in self._refused_commands:
            plugin, reason = self._refused_commands[name]
            raise _not_configured(plugin, f"{reason}.", "Correct")
        for plugin, spec in self.of_type(CommandsSpec):
            if (spec.name or plugin) == name:
                try:
                    return spec.app, self._context(plugin, self._configs.of(plugin, spec.config_model))
                except LookupError as error:
                    raise _not_configured(plugin, "it has no configuration.", "Write") from error
        return None

    def steps(self) -> tuple[RegisteredStep, ...]:
        """The steps of plugins, unordered; they fit behind the kernel's (``pipeline.ordered`` accepts them)."""
        return tuple(RegisteredStep(plugin=plugin, spec=spec) for plugin, spec in self.of_type(StepSpec))

    def event_handlers(self) -> tuple[RegisteredSpec, ...]:
        """The event handlers of plugins, in a stable order."""
        return tuple(
            RegisteredSpec(plugin=plugin, kind="event_handler", spec=spec)
            for plugin, spec in self.of_type(EventHandlerSpec)
        )

    def of_type(self, kind: type[SpecT]) -> tuple[tuple[str, SpecT], ...]:
        """(plugin, spec) of every loaded plugin, ordered by plugin; also ``RoutesSpec`` and ``CommandsSpec``."""
        return tuple(
            (entry.plugin, entry.spec)
            for status in self.statuses
            for entry in status.specs
            if isinstance(entry.spec, kind)
        )

    def reports(self) -> tuple[PluginReport, ...]:
        """Every installed plugin, as users see it."""
        selected = {
            ("storage", self._settings.storage.backend),
            ("transcoder", self._settings.transcoder.backend),
            ("identity", self._settings.identity),
            *(("ai_provider", name) for name in self._settings.ai.providers),
        }
        return tuple(_report(status, selected) for status in self.statuses)

    def _find(self, kind: type[SpecT], name: str) -> tuple[str, SpecT]:
        for plugin, spec in self.of_type(kind):
            if getattr(spec, "name", None) == name:
                return plugin, spec
        raise ConfigurationError(selection_issues(self._settings, self.statuses))

    def _context_of(self, plugin: str, spec: OpenableSpec) -> PluginContext:
        return self._context(plugin, self._configs.of(plugin, spec.config_model))

    def _context(self, plugin: str, config: BaseModel) -> PluginContext:
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        return PluginContext(
            plugin=plugin,
            config=config,
            data_dir=self._settings.data_dir,
            routes_url=f"{self._settings.public_url}/plugins/{plugin}",
            clock=self._clock,
            derive_key=partial(_plugin_key, self._secret, plugin),
            page_origins=self._settings.page_origins,
        )

    @asynccontextmanager
    async def _open(
        self,
        plugin: str,
        spec: OpenableSpec,
        context: ContextT,
        opener: Callable[[ContextT], AbstractAsyncContextManager[OpenedT]],
        wanted: type[OpenedT] | None,
        *,
        method: str = "",
    ) -> AsyncGenerator[OpenedT]:
        what = f"{type(spec).__name__.removesuffix('Spec')} {spec.name!r} of plugin {plugin!r}"
        manager = opener(context)
        if not isinstance(manager, AbstractAsyncContextManager):
            if inspect.iscoroutine(manager):
                manager.close()
            raise TypeError(f"{what}: open returned a {type(manager).__name__}, not an async context manager")
        async with manager as opened:
            fits = isinstance(opened, wanted) if wanted is not None else callable(getattr(opened, method, None))
            if not fits:
                expected = wanted.__name__ if wanted is not None else f"an object with {method}()"
                raise TypeError(f"{what}: open gave a {type(opened).__name__}, not {expected}")
            yield opened


def _with_refusals(status: PluginStatus, configs: PluginConfigs) -> PluginStatus:
    issues = configs.refused.get(status.name)
    return status.failed("its configuration is refused: " + "; ".join(map(str, issues))) if issues else status


def _not_configured(plugin: str, why: str, do: str) -> NotSupportedError:
    return NotSupportedError(
        f"The commands of the plugin {plugin} cannot be used: {why}",
        code="plugin_not_configured",
        remedy=f"{do} its table [plugins.{plugin}] in echo.toml.",
    )


def _plugin_key(secret: bytes, plugin: str, label: str) -> bytes:
    return derive_key(secret, f"plugin:{plugin}:{label}")


def _with_fitting_steps(
    statuses: tuple[PluginStatus, ...], kernel_steps: tuple[RegisteredStep, ...]
) -> tuple[PluginStatus, ...]:
    """Fail the plugins whose steps cannot be placed, and no others."""

    def steps_of(*some: PluginStatus) -> tuple[RegisteredStep, ...]:
        return tuple(
            RegisteredStep(plugin=entry.plugin, spec=entry.spec)
            for status in some
            for entry in status.specs
            if isinstance(entry.spec, StepSpec)
        )

    problems: dict[str, str] = {}
    accepted: tuple[RegisteredStep, ...] = kernel_steps
    waiting = [status for status in statuses if steps_of(status)]
    try:
        ordered(accepted + steps_of(*waiting))
    except PipelineError:
        placed = True
        while placed:  # one plugin may live on the products of another, whatever their names
            placed = False
            for status in tuple(waiting):
                try:
                    ordered(accepted + steps_of(status))
                except PipelineError as error:
                    problems[status.name] = str(error)
                else:
                    accepted += steps_of(status)
                    waiting.remove(status)
                    placed = True
        problems = {status.name: problems[status.name] for status in waiting}
    return tuple(report_failure(s, problems[s.name]) if s.name in problems else s for s in statuses)


def _report(status: PluginStatus, selected: set[tuple[str, str]]) -> PluginReport:
    provides: dict[str, tuple[str, ...]] = {}
    capabilities: dict[str, dict[str, list[str]]] = {}
    for entry in status.specs:
        if entry.name not in provides.get(entry.kind, ()):
            provides[entry.kind] = (*provides.get(entry.kind, ()), entry.name)
        if isinstance(entry.spec, StorageSpec | TranscoderSpec | AIProviderSpec):
            capabilities.setdefault(entry.kind, {})[entry.name] = sorted(entry.spec.capabilities)
        if isinstance(entry.spec, AIProviderSpec) and entry.spec.limitations:
            capabilities.setdefault("limitations", {})[entry.name] = list(entry.spec.limitations)
    return PluginReport(
        name=status.name,
        version=status.version,
        status=status.state,
        reason=status.reason,
        provides=provides,
        capabilities=capabilities,
        selected=any((entry.kind, entry.name) in selected for entry in status.specs),
    )
