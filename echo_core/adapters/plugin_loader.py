"""Loads plugins: ``load_plugins(settings.plugins)`` imports every entry point of group ``echo.plugins`` and collects
its specs.

Each plugin passes the same stations: disabled? → version pin → import → register → hooks known, none of them a
coroutine → specs collected and checked → no name taken. What fails at a station is reported once, with the plugin and
the reason, and the others go on. Whether Echo may start without it is for ``PluginRegistry`` to say.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

import pluggy

from echo_core.adapters.plugin_specs import HOOKS, RegisteredSpec, SpecError, checked_spec, is_name
from echo_core.adapters.settings import PluginsSettings
from echo_core.adapters.settings_errors import did_you_mean
from echo_core.plugin_api.hooks import ENTRY_POINT_GROUP, PROJECT, EchoHooks

_log = logging.getLogger("echo.plugins")

RESERVED_NAMES = frozenset({"kernel", *PluginsSettings.model_fields})
"""``kernel`` stands for Echo's own steps; the others are keys of ``[plugins]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginStatus:
    """What became of one plugin. ``reason``: one sentence, empty if loaded."""

    name: str
    version: str
    distribution: str
    state: Literal["loaded", "disabled", "failed"]
    reason: str = ""
    specs: tuple[RegisteredSpec, ...] = field(default=(), repr=False)

    def failed(self, reason: str) -> PluginStatus:
        """The same plugin, out of use for that reason."""
        return replace(self, state="failed", reason=reason, specs=())

    @property
    def label(self) -> str:
        """The plugin as messages name it: with its distribution and version."""
        return f"{self.name!r} ({self.distribution} {self.version})" if self.distribution else repr(self.name)


class PluginLoadError(Exception):
    """A plugin cannot be used; the message is the reason."""


def load_plugins(
    settings: PluginsSettings, *, candidates: Iterable[EntryPoint] | None = None
) -> tuple[PluginStatus, ...]:
    """Every installed plugin, by name, with its checked specs. Blocking; never raises for a plugin's fault.

    ``candidates`` stands for the installed entry points.
    """
    found = entry_points(group=ENTRY_POINT_GROUP) if candidates is None else candidates
    ordered = sorted(found, key=lambda candidate: (candidate.name, candidate.value))
    names = [candidate.name for candidate in ordered]
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(EchoHooks)
    statuses = []
    for candidate in ordered:
        twice = [_distribution(other)[0] or other.value for other in ordered if other.name == candidate.name]
        clash = f"several distributions bring a plugin of this name: {', '.join(twice)}; uninstall all but one"
        statuses.append(_load(manager, candidate, settings, clash if names.count(candidate.name) > 1 else ""))
    return without_clashes(tuple(statuses))


def without_clashes(statuses: Sequence[PluginStatus]) -> tuple[PluginStatus, ...]:
    """Fail every plugin that brings a storage, transcoder, step or event handler of a name that another one brings.

    All of them, not the later one: which backend an instance gets must not depend on the order of the alphabet.
    """
    owners: dict[tuple[str, str], list[PluginStatus]] = {}
    for status in statuses:
        for kind, name in {(entry.kind, entry.name) for entry in status.specs if entry.is_named}:
            owners.setdefault((kind, name), []).append(status)
    failed: dict[int, str] = {}
    for (kind, name), group in owners.items():
        if len(group) > 1:
            labels = " and ".join(status.label for status in group)
            reason = f"the {kind} {name!r} is brought by plugins {labels}; disable one: plugins.disabled = [...]"
            failed.update((id(status), reason) for status in group)
    return tuple(report_failure(s, failed[id(s)]) if id(s) in failed else s for s in statuses)


def report_failure(status: PluginStatus, reason: str, error: BaseException | None = None) -> PluginStatus:
    """The failed status, after the one warning that a failing plugin causes."""
    _log.warning(
        "plugin.failed: %s: %s",
        status.name,
        reason,
        exc_info=error,
        extra={"plugin": status.name, "plugin_version": status.version, "reason": reason},
    )
    return status.failed(reason)


def _load(manager: pluggy.PluginManager, candidate: EntryPoint, settings: PluginsSettings, clash: str) -> PluginStatus:
    distribution, version = _distribution(candidate)
    status = PluginStatus(name=candidate.name, version=version, distribution=distribution, state="loaded")
    if candidate.name in settings.disabled:
        return replace(status, state="disabled", reason="disabled by plugins.disabled")
    try:
        if clash:
            raise PluginLoadError(clash)
        _check_name(candidate.name)
        _check_version(candidate.name, version, settings)
        module = candidate.load()
        manager.register(module, name=candidate.name)
        return replace(status, specs=_collect(manager, candidate.name, module))
    except (PluginLoadError, SpecError) as error:
        reason, cause = str(error), None
    except pluggy.PluginValidationError as error:
        reason, cause = " ".join(str(error).split()), None
    # Whatever a plugin's module does on import, Echo goes on; sys.exit() is no exception.
    except (Exception, SystemExit) as error:
        reason, cause = f"{type(error).__name__}: {error}", error
    return report_failure(status, reason, cause)


def _distribution(candidate: EntryPoint) -> tuple[str, str]:
    return (candidate.dist.name, candidate.dist.version) if candidate.dist is not None else ("", "")


def _check_name(name: str) -> None:
    if not is_name(name) or name in RESERVED_NAMES:
        raise PluginLoadError(
            f"{name!r} cannot be the name of a plugin: use lower-case letters, digits and single '_', starting with a "
            f"letter, and none of {', '.join(sorted(RESERVED_NAMES))}"
        )


def _check_version(name: str, version: str, settings: PluginsSettings) -> None:
    wanted = settings.versions.get(name)
    if wanted is not None and wanted != version:
        raise PluginLoadError(
            f"version {version or 'unknown'} is installed, but plugins.versions.{name} insists on {wanted}; "
            "install that version or change the setting"
        )


def _collect(manager: pluggy.PluginManager, name: str, module: object) -> tuple[RegisteredSpec, ...]:
    callers = manager.get_hookcallers(module) or []
    for hook in HOOKS:
        plain = inspect.getattr_static(module, hook, None)
        if inspect.isfunction(plain) and hook not in {caller.name for caller in callers}:
            raise PluginLoadError(f"{hook} is not marked with @hookimpl")
    if not callers:
        raise PluginLoadError("it implements no hook; see docs/plugins.md")
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    specs: list[RegisteredSpec] = []
    for caller in callers:
        implementations = [i for i in caller.get_hookimpls() if i.plugin is module]
        if not caller.has_spec():
            if all(implementation.optionalhook for implementation in implementations):
                continue  # meant for a newer Echo
            raise PluginLoadError(f"{caller.name} is not a hook of this Echo{did_you_mean(caller.name, HOOKS)}")
        for implementation in implementations:
            _check_synchronous(caller.name, implementation.function)
        results = manager.subset_hook_caller(caller.name, remove_plugins=others)()
        specs += _registered(name, caller.name, results)
    return _without_twins(specs)


def _check_synchronous(hook: str, function: object) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginLoadError(f"{hook} is async; hooks run once at start and return specs, awaiting is for open()")
    if inspect.isgeneratorfunction(function):
        raise PluginLoadError(f"{hook} is a generator; return a list of specs")


def _registered(plugin: str, hook: str, results: Sequence[object]) -> list[RegisteredSpec]:
    wanted = HOOKS[hook].type.__name__
    if not results:  # pluggy leaves None out
        raise PluginLoadError(f"{hook} returned None; return a list of {wanted}")
    specs = []
    for result in results:
        if inspect.iscoroutine(result):
            result.close()
        if not isinstance(result, list | tuple):
            raise PluginLoadError(f"{hook} returned a {type(result).__name__}; return a list of {wanted}")
        specs += [RegisteredSpec(plugin=plugin, kind=HOOKS[hook].kind, spec=checked_spec(hook, s)) for s in result]
    return specs


def _without_twins(specs: list[RegisteredSpec]) -> tuple[RegisteredSpec, ...]:
    seen: set[tuple[str, str]] = set()
    for entry in specs:
        which = "" if entry.kind == "commands" else entry.name
        if entry.kind != "routes" and (entry.kind, which) in seen:
            what = "commands" if entry.kind == "commands" else f"the {entry.kind} {entry.name!r}"
            raise PluginLoadError(f"it registers {what} twice")
        seen.add((entry.kind, which))
    return tuple(specs)
