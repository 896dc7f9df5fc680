from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from echo_core.adapters.plugin_loader import PluginStatus, load_plugins
from echo_core.adapters.settings import PluginsSettings

Install = Callable[..., None]

GOOD = """
@hookimpl
def echo_register_steps():
    return [StepSpec(name="{step}", open=opener)]
"""


def good(step: str = "good_step") -> str:
    return GOOD.format(step=step)


def load(site: Any, **plugins: object) -> dict[str, PluginStatus]:
    statuses = load_plugins(PluginsSettings.model_validate(plugins), candidates=site.candidates())
    return {status.name: status for status in statuses}


def test_loads_and_collects_specs_with_version_and_distribution(site: Any, install: Install) -> None:
    install("good", good(), version="1.2")
    status = load(site)["good"]
    assert (status.state, status.reason, status.version, status.distribution) == ("loaded", "", "1.2", "echo-good")
    assert [(entry.kind, entry.name) for entry in status.specs] == [("step", "good_step")]


def test_finds_the_bundled_plugins_by_itself() -> None:
    loaded = {status.name for status in load_plugins(PluginsSettings()) if status.state == "loaded"}
    assert loaded >= {"storage_local", "transcode_ffmpeg"}


def test_disabled_plugins_are_not_imported(site: Any, install: Install) -> None:
    install("bad", "raise AssertionError('imported')")
    status = load(site, disabled=("bad",))["bad"]
    assert (status.state, status.reason) == ("disabled", "disabled by plugins.disabled")


def test_version_pin_is_checked_before_the_import(site: Any, install: Install) -> None:
    install("pinned", "raise AssertionError('imported')", version="2.0")
    status = load(site, versions={"pinned": "1.9"})["pinned"]
    assert status.state == "failed"
    assert "version 2.0 is installed, but plugins.versions.pinned insists on 1.9" in status.reason


def test_version_pin_that_holds(site: Any, install: Install) -> None:
    install("pinned", good(), version="2.0")
    assert load(site, versions={"pinned": "2.0"})["pinned"].state == "loaded"


FAILURES = {
    "raises on import": ("1 / 0", "ZeroDivisionError: division by zero"),
    "imports what is not there": ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
    "is no Python": ("def (:", "SyntaxError"),
    "exits on import": ("raise SystemExit(3)", "SystemExit"),
    "no hook": ("x = 1", "implements no hook"),
    "forgotten marker": ("def echo_register_steps(): return []", "echo_register_steps is not marked with @hookimpl"),
    "unknown hook": (
        "@hookimpl\ndef echo_register_stepz(): return []",
        "echo_register_stepz is not a hook of this Echo; did you mean echo_register_steps?",
    ),
    "coroutine": ("@hookimpl\nasync def echo_register_steps(): return []", "echo_register_steps is async"),
    "async generator": ("@hookimpl\nasync def echo_register_steps(): yield 1", "echo_register_steps is async"),
    "returns a coroutine": (
        "async def later(): ...\n@hookimpl\ndef echo_register_steps(): return later()",
        "returned a coroutine; return a list of StepSpec",
    ),
    "generator": ("@hookimpl\ndef echo_register_steps(): yield 1", "is a generator; return a list"),
    "unknown argument": ("@hookimpl\ndef echo_register_steps(config): return []", "Argument(s) {'config'}"),
    "hook raises": ("@hookimpl\ndef echo_register_steps(): raise ValueError('no luck')", "ValueError: no luck"),
    "returns None": ("@hookimpl\ndef echo_register_steps(): pass", "returned None; return a list of StepSpec"),
    "returns no list": (
        "@hookimpl\ndef echo_register_steps(): return StepSpec(name='a', open=opener)",
        "returned a StepSpec; return a list",
    ),
    "wrong spec": (
        "@hookimpl\ndef echo_register_storage(): return [StepSpec(name='a', open=opener)]",
        "echo_register_storage returned a StepSpec, not a StorageSpec",
    ),
    "one name twice": (
        "@hookimpl\ndef echo_register_steps(): return [StepSpec(name='a', open=opener)] * 2",
        "registers the step 'a' twice",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_broken_plugin_fails_alone_with_one_warning(
    site: Any, install: Install, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    body, reason = FAILURES[kind]
    install("aa_before", good("step_before"))
    install("broken", body)
    install("zz_after", good("step_after"))
    statuses = load(site)
    assert statuses["broken"].state == "failed"
    assert reason in statuses["broken"].reason
    assert statuses["broken"].specs == ()
    assert [statuses[name].state for name in ("aa_before", "zz_after")] == ["loaded", "loaded"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("plugin.failed: broken: ")


def test_a_failed_import_is_logged_with_its_traceback(
    site: Any, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("broken", "1 / 0")
    load(site)
    assert "ZeroDivisionError" in caplog.text
    assert caplog.records[0].exc_info is not None


def test_a_hook_for_a_newer_echo_may_be_optional(site: Any, install: Install) -> None:
    install("newer", good() + "\n@hookimpl(optionalhook=True)\ndef echo_register_holograms(): return []")
    assert load(site)["newer"].state == "loaded"


def test_a_plugin_may_be_an_object_in_a_module(site: Any, install: Install) -> None:
    body = """
    class Plugin:
        @hookimpl
        def echo_register_steps(self):
            return [StepSpec(name="a", open=opener)]

    plugin = Plugin()
    """
    install("thing", body, value="echo_test_thing:plugin")
    assert load(site)["thing"].state == "loaded"


@pytest.mark.parametrize("name", ["Upper", "a-b", "a__b", "1a", "versions", "disabled", "kernel"])
def test_names_that_configuration_cannot_carry_are_refused(site: Any, install: Install, name: str) -> None:
    install(name, good(), distribution="echo-odd")
    assert "cannot be the name of a plugin" in load(site)[name].reason


def test_two_distributions_with_one_plugin_name_both_fail(site: Any, install: Install) -> None:
    install("twin", good("a"), distribution="echo-first")
    install("twin", good("b"), distribution="echo-second")
    statuses = load_plugins(PluginsSettings(), candidates=site.candidates())
    assert [status.state for status in statuses] == ["failed", "failed"]
    assert "echo-first, echo-second" in statuses[0].reason


NAMED = {
    "storage": "echo_register_storage(): return [StorageSpec(name='same', open=opener)]",
    "transcoder": "echo_register_transcoders(): return [TranscoderSpec(name='same', open=opener)]",
    "step": "echo_register_steps(): return [StepSpec(name='same', open=opener)]",
    "event_handler": "echo_register_event_handlers(): return [EventHandlerSpec(name='same', open=opener)]",
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_name_that_two_plugins_take_fails_both_and_names_both(site: Any, install: Install, kind: str) -> None:
    install("first", f"@hookimpl\ndef {NAMED[kind]}", version="1.1")
    install("second", f"@hookimpl\ndef {NAMED[kind]}", version="2.2")
    install("third", good())
    statuses = load(site)
    for name in ("first", "second"):
        assert statuses[name].state == "failed"
        assert f"the {kind} 'same'" in statuses[name].reason
        assert "'first' (echo-first 1.1) and 'second' (echo-second 2.2)" in statuses[name].reason
    assert statuses["third"].state == "loaded"


def test_disabling_one_of_two_plugins_with_one_name_keeps_the_other(site: Any, install: Install) -> None:
    install("first", good("same"))
    install("second", good("same"))
    assert load(site, disabled=("first",))["second"].state == "loaded"


@pytest.mark.parametrize("other", ["storage", "transcoder"])
def test_one_name_may_stand_for_different_kinds(site: Any, install: Install, other: str) -> None:
    install("first", f"@hookimpl\ndef {NAMED['step']}")
    install("second", f"@hookimpl\ndef {NAMED[other]}")
    assert {status.state for status in load(site).values()} == {"loaded"}


BAD_SPECS = {
    "StepSpec(name='No Good', open=opener)": "name must be",
    "StepSpec(name=3, open=opener)": "name must be",
    "StepSpec(name='a' * 64, open=opener)": "name must be",
    "StepSpec(name='a', open=None)": "open is not callable",
    "StepSpec(name='a', open=opener, config_model=dict)": "config_model is not a pydantic model",
    "StepSpec(name='a', open=opener, config_model=NoConfig())": "config_model is not a pydantic model",
    "StepSpec(name='a', open=opener, consumes='source')": "consumes must be a tuple",
    "StepSpec(name='a', open=opener, produces=[''])": "produces must be a tuple",
    "StepSpec(name='a', open=opener, after=(1,))": "after must be a tuple",
    "StepSpec(name='a', open=opener, resource='cpu')": "resource must be a Resource",
    "StepSpec(name='a', open=opener, timeout_s=0)": "timeout_s must be above 0",
    "StepSpec(name='a', open=opener, timeout_s='1')": "timeout_s must be above 0",
    "StepSpec(name='a', open=opener, timeout_per_media_s=-1)": "timeout_per_media_s must not be below 0",
    "StepSpec(name='a', open=opener, weight=-0.1)": "weight must not be below 0",
    "StepSpec(name='a', open=opener, retry=RetryPolicy(max_attempts=0))": "retry must be",
    "StepSpec(name='a', open=opener, retry=3)": "retry must be",
    "StepSpec(name='source', open=opener)": "'source' is taken",
    "EventHandlerSpec(name='a', open=opener, types='job.')": "types must be a tuple",
    "EventHandlerSpec(name='a', open=opener, timeout_s=-1)": "timeout_s must be above 0",
    "StorageSpec(name='a', open=opener, capabilities=['x'])": "capabilities must be a frozenset",
    "StorageSpec(name='a', open=opener, browser_origins='https://a.example')": "browser_origins must be a tuple",
    "StorageSpec(name='a', open=opener, browser_origins=('https://a.example/x',))": "browser_origins must be a tuple",
    "StorageSpec(name='a', open=opener, browser_origins=(\"*; script-src *\",))": "browser_origins must be a tuple",
    "TranscoderSpec(name='a', open=opener, capabilities={3})": "capabilities must be a frozenset",
    "RoutesSpec(routes=['/x'])": "routes must be a list of Starlette routes",
    "RoutesSpec(routes=[], auth='admin')": "auth must be",
    "CommandsSpec(app=print)": "not a Typer app",
}
HOOK_OF = {
    "Step": "echo_register_steps",
    "Even": "echo_register_event_handlers",
    "Stor": "echo_register_storage",
    "Tran": "echo_register_transcoders",
    "Rout": "echo_register_routes",
    "Comm": "echo_register_commands",
}


@pytest.mark.parametrize("spec", BAD_SPECS)
def test_a_spec_that_makes_no_sense_is_refused(site: Any, install: Install, spec: str) -> None:
    hook = HOOK_OF[spec[:4]]
    install("odd", f"@hookimpl\ndef {hook}(): return [{spec}]")
    status = load(site)["odd"]
    assert status.state == "failed"
    assert hook in status.reason
    assert BAD_SPECS[spec] in status.reason


def test_commands_are_one_app(site: Any, install: Install) -> None:
    body = "import typer\n@hookimpl\ndef echo_register_commands(): return [CommandsSpec(app=typer.Typer())] * 2"
    install("two", body)
    assert "it registers commands twice" in load(site)["two"].reason
