"""Whether the backends that the configuration selects are there; what to do if not."""

from __future__ import annotations

from collections.abc import Sequence

from echo_core.adapters.plugin_loader import PluginStatus
from echo_core.adapters.settings import Settings
from echo_core.adapters.settings_errors import ConfigurationIssue, did_you_mean
from echo_core.plugin_api.ai import Capability
from echo_core.plugin_api.specs import AIProviderSpec


def selection_issues(settings: Settings, statuses: Sequence[PluginStatus]) -> list[ConfigurationIssue]:
    """What keeps the backends that are selected, and the identity, from being opened, with the plugin and the fix."""
    wanted = [
        ("storage", "storage.backend", settings.storage.backend),
        ("transcoder", "transcoder.backend", settings.transcoder.backend),
    ]
    if settings.identity:
        wanted.append(("identity", "auth.identity", settings.identity))
    issues = _ai_issues(settings, statuses)
    for kind, key, name in wanted:
        available = [entry.name for status in statuses for entry in status.specs if entry.kind == kind]
        if name not in available:
            problem = _explain(kind, key, name, available, statuses)
            issues.append(ConfigurationIssue(key, problem, settings.origins.describe(key)))
    return issues


def _ai_issues(settings: Settings, statuses: Sequence[PluginStatus]) -> list[ConfigurationIssue]:
    specs = {
        entry.name: entry.spec
        for status in statuses
        for entry in status.specs
        if isinstance(entry.spec, AIProviderSpec)
    }
    issues = []
    for capability in Capability:
        key = f"ai.{capability.value}"
        for name in settings.ai.serving(capability):
            if name not in specs and capability.value not in settings.ai.model_fields_set:
                continue  # nobody has asked for it: see ``without_absent_defaults``
            if name not in specs:
                problem = _explain("AI provider", key, name, list(specs), statuses)
            elif capability not in specs[name].capabilities:
                can = ", ".join(sorted(specs[name].capabilities)) or "nothing"
                problem = f"the AI provider {name!r} cannot {capability.value}; it can {can}"
            else:
                continue
            issues.append(ConfigurationIssue(key, problem, settings.origins.describe(key)))
    return issues


def without_absent_defaults(settings: Settings, statuses: Sequence[PluginStatus]) -> Settings:
    """The settings without AI providers that only the defaults name and no plugin provides: an installation without
    them does without."""
    provided = {entry.name for status in statuses for entry in status.specs if isinstance(entry.spec, AIProviderSpec)}
    ai = settings.ai
    left = {
        capability.value: tuple(name for name in ai.serving(capability) if name in provided)
        for capability in Capability
        if capability.value not in ai.model_fields_set
    }
    return settings.model_copy(update={"ai": ai.model_copy(update=left)})


def _explain(kind: str, key: str, name: str, available: Sequence[str], statuses: Sequence[PluginStatus]) -> str:
    sentences = [f"no working plugin provides the {kind} {name!r}{did_you_mean(name, available)}"]
    absent = [status for status in statuses if status.state != "loaded"]
    # What a plugin that never loaded would have provided is unknown; its name is the best hint there is.
    suspects = [status for status in absent if name in status.name] or absent
    for status in suspects:
        fix = "take it out of plugins.disabled" if status.state == "disabled" else "repair or reinstall it"
        sentences.append(f"plugin {status.label} is {status.state}: {status.reason} ({fix})")
    if not suspects:
        sentences.append("install the plugin that provides it")
    if available:
        sentences.append(f"or set {key} to one of: {', '.join(sorted(available))}")
    if kind == "AI provider":
        sentences.append(f"or take it out of {key}")
    if kind == "identity":
        sentences.append(f'or set {key} = "" to go without')
    return "; ".join(sentences)
