from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from echo_core.adapters.plugin_registry import PluginRegistry
from echo_core.adapters.settings import Settings
from echo_core.adapters.settings_errors import ConfigurationError
from echo_core.adapters.settings_sources import load_settings
from echo_core.application.pipeline import RegisteredStep, ordered
from echo_core.plugin_api import InvalidRequestError, PluginContext, StepSpec

Install = Callable[..., None]
SECRET = b"s" * 32

BACKENDS = """
from echo_core.testing.fake_transcoder import FakeTranscoder

class Config(BaseModel):
    size: int = 3
    token: SecretStr = SecretStr("")

contexts = []

class Store(StorageBackend):
    async def _no(self, request): raise NotImplementedError
    begin_upload = resume_upload = upload_offset = stat = read_url = put_file = list = delete = _no
    def open_read(self, request): raise NotImplementedError

@asynccontextmanager
async def open_store(context):
    contexts.append(context)
    yield Store()
    contexts.append("closed")

@asynccontextmanager
async def open_transcoder(context):
    yield FakeTranscoder()

@hookimpl
def echo_register_storage():
    return [StorageSpec(name="local", open=open_store, config_model=Config, capabilities=frozenset({"b", "a"}))]

@hookimpl
def echo_register_transcoders():
    return [TranscoderSpec(name="ffmpeg", open=open_transcoder)]
"""


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


def settings_for(tmp_path: Path, toml: str = "", **environ: str) -> Settings:
    (tmp_path / "echo.toml").write_text(toml)
    # No identity is installed here, unless the test says so.
    return load_settings(environ={"ECHO_AUTH__IDENTITY": "", **environ}, cwd=tmp_path)


def registry(
    site: Any, tmp_path: Path, toml: str = "", *, strict: bool = True, kernel: Any = (), **environ: str
) -> Any:
    return PluginRegistry.load(
        settings_for(tmp_path, toml, **environ),
        secret=SECRET,
        clock=FixedClock(),
        candidates=site.candidates(),
        kernel_steps=kernel,
        strict=strict,
    )


def refusal(site: Any, tmp_path: Path, toml: str = "", **environ: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        registry(site, tmp_path, toml, **environ)
    return caught.value


async def test_selected_backends_open_with_their_context(site: Any, install: Install, tmp_path: Path) -> None:
    install("backends", BACKENDS, value="echo_test_backends")
    toml = '[http]\npublic_url = "https://video.example/"\n[plugins.backends]\nsize = 5'
    loaded = registry(site, tmp_path, toml)
    async with loaded.open_storage() as storage, loaded.open_transcoder() as transcoder:
        assert type(storage).__name__ == "Store"
        assert type(transcoder).__name__ == "FakeTranscoder"
    import echo_test_backends  # type: ignore[import-not-found]

    context: PluginContext
    context, closed = echo_test_backends.contexts
    assert closed == "closed"
    assert context.plugin == "backends"
    assert context.config == echo_test_backends.Config(size=5)
    assert context.data_dir == tmp_path / "data"
    assert context.data_dir.is_dir()
    assert context.routes_url == "https://video.example/plugins/backends"
    assert context.clock.now() == FixedClock().now()
    assert len(context.derive_key("x")) == 32
    assert context.derive_key("x") == context.derive_key("x") != context.derive_key("y")


OTHER_STORAGE = """
from echo_core.testing.fake_storage import FakeStorage

class Config(BaseModel):
    bucket: str

@asynccontextmanager
async def open_store(context):
    yield FakeStorage()

@hookimpl
def echo_register_storage():
    return [StorageSpec(name="bucket", open=open_store, config_model=Config)]
"""


async def test_a_storage_that_is_configured_and_not_selected_opens_by_its_name(
    site: Any, install: Install, tmp_path: Path
) -> None:
    install("backends", BACKENDS)
    install("other", OTHER_STORAGE)
    loaded = registry(site, tmp_path, '[plugins.other]\nbucket = "videos"')
    async with loaded.open_storage("bucket") as other, loaded.open_storage("local") as selected:
        assert (type(other).__name__, type(selected).__name__) == ("FakeStorage", "Store")


def test_a_storage_without_its_table_says_what_is_missing(site: Any, install: Install, tmp_path: Path) -> None:
    install("backends", BACKENDS)
    install("other", OTHER_STORAGE)
    loaded = registry(site, tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        loaded.open_storage("bucket")
    assert [issue.key for issue in caught.value.issues] == ["plugins.other.bucket"]


def test_a_storage_that_nobody_provides_is_not_opened(site: Any, install: Install, tmp_path: Path) -> None:
    install("backends", BACKENDS)
    install("other", OTHER_STORAGE)
    with pytest.raises(InvalidRequestError, match="did you mean bucket") as caught:
        registry(site, tmp_path).open_storage("buckett")
    assert caught.value.code == "unknown_storage"
    assert "bucket, local" in caught.value.remedy


async def test_keys_of_two_plugins_differ(site: Any, install: Install, tmp_path: Path) -> None:
    install("backends", BACKENDS)
    loaded = registry(site, tmp_path)
    contexts = [loaded._context(name, None) for name in ("one", "two")]
    assert contexts[0].derive_key("x") != contexts[1].derive_key("x")


def test_reports_show_what_each_plugin_provides(site: Any, install: Install, tmp_path: Path) -> None:
    install("backends", BACKENDS, version="3.1")
    install("broken", "1 / 0")
    install("off", "")
    backends, broken, off = registry(site, tmp_path, '[plugins]\ndisabled = ["off"]').reports()
    assert (backends.name, backends.version, backends.status, backends.selected) == ("backends", "3.1", "loaded", True)
    assert backends.provides == {"storage": ("local",), "transcoder": ("ffmpeg",)}
    assert backends.capabilities == {"storage": {"local": ["a", "b"]}, "transcoder": {"ffmpeg": []}}
    assert (broken.status, broken.selected) == ("failed", False)
    assert "division by zero" in broken.reason
    assert off.status == "disabled"


class TestRefusesToStart:
    def test_when_nobody_provides_the_selected_backend(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS)
        (issue,) = refusal(site, tmp_path, '[storage]\nbackend = "locall"').issues
        assert issue.key == "storage.backend"
        assert "no working plugin provides the storage 'locall'; did you mean local?" in issue.problem
        assert "set storage.backend to one of: local" in issue.problem
        assert issue.origin == str(tmp_path / "echo.toml")

    def test_when_the_plugin_of_the_selected_backend_is_broken(
        self, site: Any, install: Install, tmp_path: Path
    ) -> None:
        install("storage_gcs", "import google_cloud_of_somebody", version="0.3")
        install("backends", BACKENDS)
        (issue,) = refusal(site, tmp_path, ECHO_STORAGE__BACKEND="gcs").issues
        assert "plugin 'storage_gcs' (echo-storage_gcs 0.3) is failed: ModuleNotFoundError" in issue.problem
        assert "repair or reinstall it" in issue.problem
        assert issue.origin == "environment variable ECHO_STORAGE__BACKEND"

    def test_when_the_selected_plugin_is_disabled(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS)
        error = refusal(site, tmp_path, '[plugins]\ndisabled = ["backends"]')
        assert [issue.key for issue in error.issues] == ["storage.backend", "transcoder.backend"]
        assert "take it out of plugins.disabled" in str(error)

    def test_when_two_plugins_bring_the_selected_backend(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("one", BACKENDS)
        install("two", BACKENDS)
        assert "brought by plugins 'one' (echo-one 1.0) and 'two' (echo-two 1.0)" in str(refusal(site, tmp_path))

    def test_with_every_mistake_in_every_table(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS)
        install("stepper", STEPPER)
        error = refusal(
            site,
            tmp_path,
            '[plugins.backends]\nsiz = 1\nsize = "many"\n[plugins.stepper]\nmodel = 3\n[plugins.backend]\nx = 1',
            ECHO_PLUGINS__STEPPER__LIMITT="1",
        )
        lines = {issue.key: issue for issue in error.issues}
        assert set(lines) == {
            "plugins.backends.siz",
            "plugins.backends.size",
            "plugins.stepper.model",
            "plugins.stepper.limitt",
            "plugins.backend",
        }
        assert lines["plugins.backends.siz"].problem == "unknown key; did you mean plugins.backends.size?"
        assert lines["plugins.stepper.limitt"].origin == "environment variable ECHO_PLUGINS__STEPPER__LIMITT"
        assert lines["plugins.backend"].problem == "no plugin 'backend' is installed; did you mean backends?"

    @pytest.mark.parametrize(
        ("toml", "key"),
        [
            ("[plugins.nobody]", "plugins.nobody"),
            ('[plugins.versions]\nnobody = "1"', "plugins.versions.nobody"),
            ('[plugins]\ndisabled = ["nobody"]', "plugins.disabled"),
        ],
    )
    def test_when_the_configuration_names_a_plugin_that_is_not_there(
        self, site: Any, install: Install, tmp_path: Path, toml: str, key: str
    ) -> None:
        install("backends", BACKENDS)
        (issue,) = refusal(site, tmp_path, toml).issues
        assert issue.key == key
        assert "no plugin 'nobody' is installed" in issue.problem

    def test_when_a_selected_backend_lacks_its_configuration(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS.replace("size: int = 3", "size: int"))
        (issue,) = refusal(site, tmp_path).issues
        assert str(issue) == "plugins.backends.size: is required"

    def test_without_telling_a_secret(self, site: Any, install: Install, tmp_path: Path) -> None:
        body = BACKENDS.replace(
            "contexts = []",
            "from pydantic import model_validator\n"
            "class Strict(Config):\n"
            "    @model_validator(mode='after')\n"
            "    def no(self): raise ValueError('bad ' + self.token.get_secret_value())\n"
            "Config = Strict\ncontexts = []",
        )
        install("backends", body)
        error = refusal(site, tmp_path, '[plugins.backends]\ntoken = "hunter2"')
        assert str(error.issues[0]).startswith("plugins.backends: is not a valid value")
        assert "hunter2" not in str(error)

    def test_unless_asked_only_to_look(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("broken", "1 / 0")
        loaded = registry(site, tmp_path, strict=False)
        assert [report.status for report in loaded.reports()] == ["failed"]
        with pytest.raises(ConfigurationError, match="no working plugin provides the storage 'local'"):
            loaded.open_storage()


def test_a_refused_table_shows_as_a_reason_where_nothing_is_refused(
    site: Any, install: Install, tmp_path: Path
) -> None:
    install("backends", BACKENDS)
    (report,) = registry(site, tmp_path, "[plugins.backends]\nsiz = 1", strict=False).reports()
    assert report.status == "failed"
    assert report.reason.startswith("its configuration is refused: plugins.backends.siz: unknown key")


STEPPER = """
class Config(BaseModel):
    model: str
    limit: int = 1
    languages: tuple[str, ...] = ()
    token: SecretStr = SecretStr("")

class Handler:
    def __init__(self, context): self.context = context
    async def run(self, context): return StepResult(output={"model": self.context.config_as(Config).model})

@asynccontextmanager
async def open_handler(context):
    yield Handler(context)

@hookimpl
def echo_register_steps():
    return [StepSpec(name="stepping", open=open_handler, config_model=Config, produces=("steps",))]
"""


class TestConfiguration:
    async def test_reaches_the_step(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS)
        install("stepper", STEPPER)
        loaded = registry(site, tmp_path, '[plugins.stepper]\nmodel = "m"')
        (step,) = loaded.steps()
        async with loaded.open_step(step) as handler:
            assert (await handler.run(None)).output == {"model": "m"}

    async def test_takes_lists_and_files_from_the_environment(
        self, site: Any, install: Install, tmp_path: Path
    ) -> None:
        install("backends", BACKENDS)
        install("stepper", STEPPER)
        (tmp_path / "token").write_text("hunter2\n")
        loaded = registry(
            site,
            tmp_path,
            '[plugins.stepper]\ntoken = "other"',
            ECHO_PLUGINS__STEPPER__MODEL="m",
            ECHO_PLUGINS__STEPPER__LANGUAGES="de,en",
            ECHO_PLUGINS__STEPPER__LIMIT="7",
            ECHO_PLUGINS__STEPPER__TOKEN_FILE=str(tmp_path / "token"),
        )
        (step,) = loaded.steps()
        async with loaded.open_step(step) as handler:
            config = handler.context.config
        assert (config.languages, config.limit, config.token.get_secret_value()) == (("de", "en"), 7, "hunter2")
        assert "hunter2" not in repr(handler.context)

    def test_that_nobody_wrote_fails_only_the_plugin(
        self, site: Any, install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        install("backends", BACKENDS)
        install("stepper", STEPPER)
        loaded = registry(site, tmp_path)
        status = {status.name: status for status in loaded.statuses}["stepper"]
        assert status.state == "failed"
        assert status.reason == "it is not configured: plugins.stepper.model: is required"
        assert loaded.steps() == ()
        assert [record.levelno for record in caplog.records] == [logging.WARNING]

    def test_of_a_backend_that_is_not_selected_may_be_missing(
        self, site: Any, install: Install, tmp_path: Path
    ) -> None:
        install("backends", BACKENDS)
        install("other", STORE_WITH_BUCKET)
        assert {report.status for report in registry(site, tmp_path).reports()} == {"loaded"}

    def test_of_failed_and_disabled_plugins_is_left_alone(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS)
        install("broken", "1 / 0")
        install("off", "1 / 0")
        registry(site, tmp_path, '[plugins]\ndisabled = ["off"]\n[plugins.off]\nx = 1\n[plugins.broken]\ny = 2')

    def test_of_a_plugin_without_any_is_refused(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS)
        install("plain", "@hookimpl\ndef echo_register_steps(): return [StepSpec(name='a', open=opener)]")
        assert "plugins.plain.x: unknown key" in str(refusal(site, tmp_path, "[plugins.plain]\nx = 1"))

    def test_is_closed_whatever_the_model_says(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS.replace("class Config(BaseModel):", "class Config(BaseModel, extra='allow'):"))
        assert "plugins.backends.x: unknown key" in str(refusal(site, tmp_path, "[plugins.backends]\nx = 1"))

    def test_is_shared_by_specs_with_different_models(self, site: Any, install: Install, tmp_path: Path) -> None:
        body = (
            BACKENDS
            + "\nclass More(BaseModel):\n    extra: int\n"
            + (
                "@hookimpl\ndef echo_register_steps():\n"
                "    return [StepSpec(name='a', open=opener, config_model=More), StepSpec(name='b', open=opener)]\n"
            )
        )
        install("backends", body)
        registry(site, tmp_path, "[plugins.backends]\nextra = 1\nsize = 2")
        error = refusal(site, tmp_path, "[plugins.backends]\nextra = 1\nsize = 2\nneither = 3")
        assert [issue.key for issue in error.issues] == ["plugins.backends.neither"] * len(error.issues)


STORE_WITH_BUCKET = """
class Config(BaseModel):
    bucket: str

@hookimpl
def echo_register_storage():
    return [StorageSpec(name="other", open=opener, config_model=Config)]
"""


class TestSteps:
    KERNEL = (RegisteredStep(plugin="kernel", spec=StepSpec(name="inspect", open=print, produces=("media",))),)  # type: ignore[arg-type]

    @staticmethod
    def step(name: str, **arguments: object) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        return f"@hookimpl\ndef echo_register_steps(): return [StepSpec(name={name!r}, open=opener, {shown})]"

    def test_that_fit_are_kept(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS)
        install("a_later", self.step("later", consumes=("words",)))
        install("b_early", self.step("early", consumes=("media",), produces=("words",)))
        loaded = registry(site, tmp_path, kernel=self.KERNEL)
        names = [step.spec.name for step in ordered(self.KERNEL + loaded.steps())]
        assert names == ["inspect", "early", "later"]

    def test_that_do_not_fit_fail_their_plugin_alone(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS)
        install("clash", self.step("inspect"))
        install("hungry", self.step("hungry", consumes=("manna",)))
        install("after_hungry", self.step("dessert", consumes=("media",), produces=("sweets",)))
        install("a_fed", self.step("fed", consumes=("sweets",)))
        loaded = registry(site, tmp_path, kernel=self.KERNEL)
        reasons = {status.name: status.reason for status in loaded.statuses}
        assert "'kernel' and 'clash' both register a step 'inspect'" in reasons["clash"]
        assert "consumes manna" in reasons["hungry"]
        assert {step.spec.name for step in loaded.steps()} == {"dessert", "fed"}


class TestOpening:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("async def open_store(context): pass", "open returned a coroutine, not an async context manager"),
            ("def open_store(context): return 3", "open returned a int, not an async context manager"),
            (
                "@asynccontextmanager\nasync def open_store(context): yield 3",
                "Storage 'local' of plugin 'backends': open gave a int, not StorageBackend",
            ),
        ],
    )
    async def test_something_that_is_no_backend_is_refused(
        self, site: Any, install: Install, tmp_path: Path, body: str, message: str
    ) -> None:
        install(
            "backends",
            BACKENDS.replace("@hookimpl\ndef echo_register_storage", f"{body}\n\n@hookimpl\ndef echo_register_storage"),
        )
        loaded = registry(site, tmp_path)
        with pytest.raises(TypeError, match=message):
            async with loaded.open_storage():
                pass

    async def test_a_step_handler_must_run(self, site: Any, install: Install, tmp_path: Path) -> None:
        install("backends", BACKENDS)
        install("plain", "@hookimpl\ndef echo_register_steps(): return [StepSpec(name='a', open=opener)]")
        loaded = registry(site, tmp_path)
        with pytest.raises(TypeError, match=r"Step 'a' of plugin 'plain': .* not an object with run\(\)"):
            async with loaded.open_step(loaded.steps()[0]):
                pass
