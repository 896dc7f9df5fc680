"""The configuration of plugins: ``[plugins.<plugin>]`` as the models that their specs name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from echo_core.adapters.plugin_loader import PluginStatus
from echo_core.adapters.plugin_specs import OpenableSpec
from echo_core.adapters.settings import Settings
from echo_core.adapters.settings_errors import ConfigurationIssue, did_you_mean
from echo_core.adapters.settings_tables import FILE_SUFFIX, validate_table
from echo_core.plugin_api.specs import AIProviderSpec, CommandsSpec, IdentitySpec, NoConfig, StorageSpec, TranscoderSpec


class PluginConfigs:
    """Every loaded plugin's table, checked.

    ``issues``: what is wrong with tables that somebody wrote, or that a selected backend lacks. ``unconfigured``: why a
    plugin cannot work without a table that nobody wrote, by plugin; no reason to refuse the start. ``refused``: the
    issues of plugins that are there, by plugin. ``problems``: what a table lacks, whether or not anybody needs it now.

    A table is one for all specs of a plugin. Specs with ``NoConfig`` do not mind what others read from it; where
    several models are named, each gets the keys that it knows, and a key must be known to one.
    """

    def __init__(self, settings: Settings, statuses: Sequence[PluginStatus]) -> None:
        self.issues: list[ConfigurationIssue] = []
        self.refused: dict[str, list[ConfigurationIssue]] = {}
        self.unconfigured: dict[str, str] = {}
        self.problems: dict[tuple[str, type[BaseModel]], list[ConfigurationIssue]] = {}
        self._configs: dict[tuple[str, type[BaseModel]], BaseModel] = {}
        self._settings = settings
        for status in statuses:
            self._check(status)
        self.issues += _issues_of_missing_plugins(settings, [status.name for status in statuses])

    def of(self, plugin: str, model: type[BaseModel]) -> BaseModel:
        """The configuration of a plugin as that model. Raises ``LookupError`` if it was refused."""
        if model is NoConfig:
            return NoConfig()
        try:
            return self._configs[plugin, model]
        except KeyError:
            raise LookupError(f"plugin {plugin!r} is not configured") from None

    def _check(self, status: PluginStatus) -> None:
        if status.state != "loaded":
            return
        table = self._settings.plugins.section(status.name)
        written = status.name in self._settings.plugins.sections
        specs = [entry.spec for entry in status.specs if isinstance(entry.spec, OpenableSpec | CommandsSpec)]
        models: list[type[BaseModel]] = list(
            dict.fromkeys(spec.config_model for spec in specs if spec.config_model is not NoConfig)
        )
        parts = _shares(table, models)
        found: dict[ConfigurationIssue, None] = {}
        models = models or [NoConfig]
        for model, part in zip(models, parts, strict=True):
            config, issues = validate_table(
                model, part, prefix=f"plugins.{status.name}", origins=self._settings.origins, closed=True
            )
            if config is not None:
                self._configs[status.name, model] = config
                continue
            self.problems[status.name, model] = list(issues)
            needed = [spec for spec in specs if spec.config_model is model and not _is_unselected(spec, self._settings)]
            if written or any(isinstance(spec, _SELECTED) for spec in needed):
                found |= dict.fromkeys(issues)
            elif needed:
                self.unconfigured[status.name] = "it is not configured: " + "; ".join(map(str, issues))
        if found:
            self.issues += found
            self.refused[status.name] = list(found)


_SELECTED = StorageSpec | TranscoderSpec | AIProviderSpec | IdentitySpec
"""What does nothing unless the configuration names it, and is needed then."""


def _is_unselected(spec: OpenableSpec | CommandsSpec, settings: Settings) -> bool:
    if isinstance(spec, CommandsSpec):
        return True  # they tell when they are called
    if isinstance(spec, StorageSpec):
        return spec.name != settings.storage.backend
    if isinstance(spec, AIProviderSpec):
        return spec.name not in settings.ai.providers
    if isinstance(spec, IdentitySpec):
        return spec.name != settings.identity
    return isinstance(spec, TranscoderSpec) and spec.name != settings.transcoder.backend


def _shares(table: Mapping[str, object], models: Sequence[type[BaseModel]]) -> list[dict[str, object]]:
    """The part of the table for each model; keys that none knows go to all, so that they are refused."""
    if len(models) < 2:
        return [dict(table)]
    known = [_keys(model) for model in models]
    strange = {name for name in table if not any(name in keys for keys in known)}
    return [{name: value for name, value in table.items() if name in keys or name in strange} for keys in known]


def _keys(model: type[BaseModel]) -> set[str]:
    names = set(model.model_fields) | {field.alias for field in model.model_fields.values() if field.alias}
    return names | {name + FILE_SUFFIX for name in model.model_fields}


def _issues_of_missing_plugins(settings: Settings, installed: Sequence[str]) -> list[ConfigurationIssue]:
    issues = []
    named = dict.fromkeys(f"plugins.{name}" for name in settings.plugins.sections)
    named |= dict.fromkeys(f"plugins.versions.{name}" for name in settings.plugins.versions)
    named |= dict.fromkeys(f"plugins.disabled.{name}" for name in settings.plugins.disabled)
    for key in named:
        group, _, name = key.rpartition(".")
        if name not in installed:
            near = did_you_mean(name, installed)
            shown = "plugins.disabled" if group == "plugins.disabled" else key
            problem = f"no plugin {name!r} is installed{near or '; install its distribution or remove this'}"
            issues.append(ConfigurationIssue(shown, problem, settings.origins.describe(shown)))
    return issues
