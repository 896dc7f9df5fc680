"""One test for each hook, named after it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from typer.testing import CliRunner

from echo_core.adapters.plugin_registry import PluginRegistry
from echo_core.adapters.plugin_specs import HOOKS
from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.settings import (
    AISettings,
    AuthSettings,
    PluginsSettings,
    Settings,
    StorageSettings,
    TranscoderSettings,
)
from echo_core.plugin_api import CommandsSpec, EchoHooks, Event, NotSupportedError, RoutesSpec

GUIDE = Path(__file__).parents[3] / "docs" / "plugins.md"
ALL_HOOKS = [name for name, _ in inspect.getmembers(EchoHooks, inspect.isfunction)]

BODY = """
import typer
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from echo_core.testing.fake_transcoder import FakeTranscoder

class Store(StorageBackend):
    async def _no(self, request): raise NotImplementedError
    begin_upload = resume_upload = upload_offset = stat = read_url = put_file = list = delete = _no
    def open_read(self, request): raise NotImplementedError

class Step:
    async def run(self, context): return StepResult(output={"done": True})

class Handler(EventHandler):
    def __init__(self): self.seen = []
    async def handle(self, event): self.seen.append(event.type)

def opens(make):
    @asynccontextmanager
    async def opener(context):
        yield make()
    return opener

@hookimpl
def echo_register_storage():
    return [StorageSpec(name="mine", open=opens(Store))]

@hookimpl
def echo_register_transcoders():
    return (TranscoderSpec(name="mine", open=opens(FakeTranscoder)),)

class Ai(AIProvider):
    capabilities = frozenset({Capability.DESCRIBE})

@hookimpl
def echo_register_ai_providers():
    limits = ("It knows no jokes.",)
    return [AIProviderSpec(name="mine", open=opens(Ai), capabilities=frozenset({"describe"}), limitations=limits)]

class Identity(IdentityProvider):
    def routes(self): return []
    def public_keys(self): return {"keys": []}
    async def check(self): return None
    async def add_user(self, email, password): raise NotImplementedError
    find_user = list_users = set_password = add_user

@hookimpl
def echo_register_identity():
    return [IdentitySpec(name="mine", open=opens(Identity), migrations=(Migration(name="0001", sql="select 1"),))]

@hookimpl
def echo_register_steps():
    return [StepSpec(name="mine", open=opens(Step), produces=("thing",))]

@hookimpl
def echo_register_event_handlers():
    return [EventHandlerSpec(name="mine", open=opens(Handler), types=("job.",))]

async def hello(request):
    return PlainTextResponse("hello")

@hookimpl
def echo_register_routes():
    return [RoutesSpec(routes=[Route("/hello", hello)]), RoutesSpec(routes=[], auth="none")]

app = typer.Typer()

@app.command()
def greet():
    typer.echo("hello")

@hookimpl
def echo_register_commands():
    return [CommandsSpec(app=app)]
"""


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry(site: Any, install: Callable[..., None], tmp_path: Path) -> PluginRegistry:
    install("mine", BODY)
    settings = Settings(
        data_dir=tmp_path / "data",
        auth=AuthSettings(identity="mine"),
        storage=StorageSettings(backend="mine"),
        transcoder=TranscoderSettings(backend="mine"),
        ai=AISettings(describe=("mine",)),
    )
    return PluginRegistry.load(settings, secret=b"s" * 32, clock=FixedClock(), candidates=site.candidates())


@pytest.mark.parametrize("hook", ALL_HOOKS)
def test_every_hook_is_documented_tested_and_collected(hook: str) -> None:
    assert f"\n### {hook}\n" in GUIDE.read_text()
    assert f"test_{hook}" in dir(sys.modules[__name__])
    assert hook in HOOKS


def test_the_guide_documents_no_other_hook() -> None:
    headings = [line.removeprefix("### ") for line in GUIDE.read_text().splitlines() if line.startswith("### echo_")]
    assert sorted(headings) == sorted(ALL_HOOKS) == sorted(HOOKS)


async def test_echo_register_storage(registry: PluginRegistry) -> None:
    async with registry.open_storage() as storage:
        assert type(storage).__name__ == "Store"


async def test_echo_register_transcoders(registry: PluginRegistry) -> None:
    async with registry.open_transcoder() as transcoder:
        await transcoder.check()


async def test_echo_register_ai_providers(registry: PluginRegistry) -> None:
    async with registry.open_ai_provider("mine") as provider:
        assert await provider.check() == ()
    (report,) = registry.reports()
    assert report.capabilities["ai_provider"] == {"mine": ["describe"]}
    assert report.capabilities["limitations"] == {"mine": ["It knows no jokes."]}


async def test_echo_register_identity(registry: PluginRegistry) -> None:
    found = registry.find_identity()
    assert found is not None
    assert (found[0], found[1].name, found[1].migrations[0].name) == ("mine", "mine", "0001")
    async with open_engine("postgresql://nobody@127.0.0.1:1/nothing") as engine, registry.open_identity(engine) as it:
        assert it.public_keys() == {"keys": []}


async def test_echo_register_steps(registry: PluginRegistry) -> None:
    (step,) = registry.steps()
    assert (step.plugin, step.spec.name, step.spec.produces) == ("mine", "mine", ("thing",))
    async with registry.open_step(step) as handler:
        assert (await handler.run(None)).output == {"done": True}  # type: ignore[arg-type]


async def test_echo_register_event_handlers(registry: PluginRegistry) -> None:
    (entry,) = registry.event_handlers()
    event = Event(sequence=1, type="job.failed", owner_id=uuid4(), video_id=uuid4(), at=FixedClock().now())
    async with registry.open_event_handler(entry) as handler:
        await handler.handle(event)
        assert handler.seen == ["job.failed"]  # type: ignore[attr-defined]


def test_echo_register_routes(registry: PluginRegistry) -> None:
    (plugin, first), (_, second) = registry.of_type(RoutesSpec)
    assert (plugin, first.auth, second.auth) == ("mine", "user", "none")
    with TestClient(Starlette(routes=list(first.routes))) as client:
        assert client.get("/hello").text == "hello"


def test_echo_register_commands(registry: PluginRegistry) -> None:
    ((plugin, spec),) = registry.of_type(CommandsSpec)
    assert plugin == "mine"
    assert CliRunner().invoke(spec.app, []).output == "hello\n"
    found = registry.find_commands("mine")
    assert found is not None
    assert (found[0], found[1].plugin) == (spec.app, "mine")
    assert registry.find_commands("another") is None


COMMANDS_OF_ITS_OWN_NAME = """
import typer

class Config(BaseModel):
    model_config = {"extra": "forbid"}
    bucket: str

def origins(config):
    return (f"https://{config.bucket}.example",)

app = typer.Typer()

@app.command()
def greet():
    pass

@hookimpl
def echo_register_storage():
    return [StorageSpec(name="mine", open=opener, config_model=Config, browser_origins=origins)]

@hookimpl
def echo_register_commands():
    return [CommandsSpec(app=app, name="bucket", config_model=Config)]
"""


def load_mine(site: Any, tmp_path: Path, bucket: str | None, **more: str) -> PluginRegistry:
    settings = Settings(
        data_dir=tmp_path / "data",
        storage=StorageSettings(backend="mine" if bucket else "local"),
        plugins=PluginsSettings.model_validate({} if bucket is None else {"mine": {"bucket": bucket, **more}}),
    )
    return PluginRegistry.load(
        settings, secret=b"s" * 32, clock=FixedClock(), candidates=site.candidates(), strict=False
    )


def test_commands_may_have_a_name_and_find_their_configuration(site: Any, install: Any, tmp_path: Path) -> None:
    install("mine", COMMANDS_OF_ITS_OWN_NAME)
    registry = load_mine(site, tmp_path, "films")
    found = registry.find_commands("bucket")
    assert found is not None
    assert found[1].config.bucket == "films"  # type: ignore[attr-defined]
    assert found[1].page_origins == ("http://127.0.0.1:8000",)
    assert registry.find_commands("mine") is None
    assert registry.storage_origins() == ("https://films.example",)


def test_commands_of_a_plugin_without_its_table_say_so(site: Any, install: Any, tmp_path: Path) -> None:
    install("mine", COMMANDS_OF_ITS_OWN_NAME)
    registry = load_mine(site, tmp_path, None)
    assert registry.reports()[0].status == "loaded"
    with pytest.raises(NotSupportedError) as caught:
        registry.find_commands("bucket")
    assert caught.value.code == "plugin_not_configured"


def test_commands_of_a_plugin_whose_table_is_refused_say_why(site: Any, install: Any, tmp_path: Path) -> None:
    install("mine", COMMANDS_OF_ITS_OWN_NAME)
    registry = load_mine(site, tmp_path, "films", colour="red")
    assert registry.reports()[0].status == "failed"
    with pytest.raises(NotSupportedError, match="colour"):
        registry.find_commands("bucket")


def test_origins_that_a_configuration_makes_are_checked(site: Any, install: Any, tmp_path: Path) -> None:
    install("mine", COMMANDS_OF_ITS_OWN_NAME)
    with pytest.raises(TypeError, match="browser_origins"):
        load_mine(site, tmp_path, "films; script-src *").storage_origins()


def test_a_report_lists_every_kind(registry: PluginRegistry) -> None:
    (report,) = registry.reports()
    assert report.provides == {
        "storage": ("mine",),
        "transcoder": ("mine",),
        "ai_provider": ("mine",),
        "identity": ("mine",),
        "step": ("mine",),
        "event_handler": ("mine",),
        "routes": ("/plugins/mine",),
        "commands": ("mine",),
    }
    assert report.selected
