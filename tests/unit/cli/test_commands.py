"""The command line as scripts see it: exit codes, streams, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from echo_core import bootstrap
from echo_core.application.services import PluginReport
from echo_core.entrypoints.cli.problems import explained
from echo_core.plugin_api.errors import EchoError, UnavailableError

VIDEO = "0190a6f2-0000-7000-8000-00000000000b"
JOB = "0190a6f2-0000-7000-8000-00000000000a"
FAILED_STEP = {
    "name": "ladder",
    "state": "failed",
    "attempt": 3,
    "error": {"code": "encoder_failed", "message": "No.", "remedy": "Do this.", "logTail": ["first", "\x1b[31mlast"]},
}


@pytest.fixture
def stocked(echo: Any) -> Any:
    """A server with a video whose job has failed."""
    echo.videos[VIDEO] = SimpleNamespace(id=VIDEO, job_id=JOB, title="[red]Ho\x1b[2Jli", size=1, stored=b"x")
    echo.jobs[0] = {"state": "failed", "percent": 70.0, "steps": [FAILED_STEP]}
    return echo


def test_help_imports_nothing_heavy() -> None:
    heavy = [
        "pydantic",
        "sqlalchemy",
        "starlette",
        "httpx2",
        "websockets",
        "echo_core.bootstrap",
        "echo_core.plugin_api",
    ]
    code = (
        "import sys\n"
        "from echo_core.entrypoints.cli import main\n"
        "sys.argv = ['echoctl', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"sys.stderr.write(repr([m for m in {heavy!r} if m in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]"
    assert "upload" in ran.stdout


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "serve",
        "worker",
        "migrate",
        "token",
        "upload",
        "videos",
        "search",
        "jobs show",
        "jobs cancel",
        "jobs retry",
        "plugins",
        "doctor",
        "openapi",
    ],
)
def test_every_command_explains_itself_with_an_example(echoctl: Any, command: str) -> None:
    ran = echoctl(*command.split(), "--help")
    assert ran.code == 0
    assert f"echoctl {command}" in " ".join(ran.out.split())
    assert "Example:" in ran.out


def test_usage_error_is_2(echoctl: Any) -> None:
    assert echoctl("token").code == 2
    assert echoctl("token", "--email", "a@b", "--expires", "soon").code == 2
    assert echoctl("token", "--email", "nobody").code == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43200), ("7d", 604800), ("365d", 31536000)]
)
def test_lifetimes(echoctl: Any, monkeypatch: pytest.MonkeyPatch, text: str, seconds: int) -> None:
    asked: list[object] = []

    async def issue(_: object, email: str, expires_in_s: int) -> str:
        asked.append((email, expires_in_s))
        return "the-token"

    monkeypatch.setattr(bootstrap, "issue_token", issue)
    ran = echoctl("token", "--email", "a@b.example", "--expires", text)
    assert (ran.code, ran.out, ran.err) == (0, "the-token\n", "")
    assert asked == [("a@b.example", seconds)]


def test_embedded_database_that_does_not_run_is_3(echoctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def issue(*_: object) -> str:
        raise UnavailableError("Echo's own database does not run.", code="instance_not_running", remedy="echoctl up")

    monkeypatch.setattr(bootstrap, "issue_token", issue)
    ran = echoctl("token", "--email", "a@b.example")
    assert (ran.code, ran.out) == (3, "")
    assert "What to do: echoctl up" in ran.err


def test_instance_that_runs_already_is_5(echoctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def up(*_: object, **__: object) -> None:
        raise EchoError("Echo already runs.", code="already_running")

    monkeypatch.setattr(bootstrap, "up", up)
    assert echoctl("up").code == 5


def test_up_hands_the_configuration_to_its_children(
    echoctl: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []

    async def up(_: object, *, argv: list[str], say: object) -> None:
        seen.extend(argv)

    config = tmp_path / "my.toml"
    config.write_text("")
    monkeypatch.setattr(bootstrap, "up", up)
    assert echoctl("--config", "my.toml", "up").code == 0
    assert seen == [sys.executable, "-m", "echo_core.entrypoints.cli", "--config", str(config)]


def test_all_mistakes_of_a_configuration_are_told_without_a_traceback(echoctl: Any, tmp_path: Path) -> None:
    (tmp_path / "echo.toml").write_text("[http]\nport = 'x'\nprot = 1\n")
    ran = echoctl("migrate")
    assert ran.code == 1
    assert "http.port" in ran.err
    assert "http.prot" in ran.err
    assert "Traceback" not in ran.err


def test_migrations_can_be_printed_without_a_database(echoctl: Any) -> None:
    ran = echoctl("migrate", "--sql", "--from", "0012")
    assert ran.code == 0
    assert ran.out.startswith("-- Echo's schema, from revision 0012 to revision ")
    assert ran.out.endswith("commit;\n")
    assert "upgrade 0011 ->" not in ran.out
    unknown = echoctl("migrate", "--sql", "--from", "9999")
    assert (unknown.code, unknown.out) == (1, "")
    assert "9999" in unknown.err
    assert echoctl("migrate", "--logins").code == 2


def test_interrupt_is_130(echoctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def migrate(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "migrate_database", migrate)
    ran = echoctl("migrate")
    assert ran.code == 130
    assert "Traceback" not in ran.err


def test_defect_of_ours_keeps_its_traceback(echoctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def migrate(_: object) -> None:
        raise LookupError("a defect")

    monkeypatch.setattr(bootstrap, "migrate_database", migrate)
    with pytest.raises(LookupError):
        echoctl("migrate")


# --- videos and jobs


def test_videos_are_listed_over_pages(echo: Any, echoctl: Any) -> None:
    for number in range(250):
        echo.videos[str(number)] = SimpleNamespace(id=str(number), title=f"t{number}", job_id="")
    ran = echoctl("videos", "--limit", 201, "--json", fake=echo)
    assert [v["videoId"] for v in ran.json["items"]] == [str(n) for n in range(201)]


def test_title_can_neither_steer_the_terminal_nor_style_the_table(stocked: Any, echoctl: Any) -> None:
    ran = echoctl("videos", fake=stocked)
    assert "[red]Ho [2Jli" in ran.out
    assert "\x1b" not in ran.out


def test_videos_refuses_an_unknown_status(stocked: Any, echoctl: Any) -> None:
    assert echoctl("videos", "--status", "done", fake=stocked).code == 2


@pytest.mark.parametrize("wanted", [JOB, VIDEO])
def test_job_is_shown_by_its_id_or_its_video(stocked: Any, echoctl: Any, wanted: str) -> None:
    ran = echoctl("jobs", "show", wanted, fake=stocked)
    assert ran.code == 4
    assert "No. Do this." in ran.out
    assert "[31mlast" in ran.err
    assert "\x1b" not in ran.err


def test_job_as_json_is_the_servers_own(stocked: Any, echoctl: Any) -> None:
    ran = echoctl("jobs", "show", JOB, "--json", fake=stocked)
    assert ran.json["steps"] == [FAILED_STEP]


def test_unknown_job_is_told_with_the_remedy(stocked: Any, echoctl: Any) -> None:
    ran = echoctl("jobs", "show", "0190a6f2-0000-7000-8000-0000000000ff", "--json", fake=stocked)
    assert ran.code == 1
    assert ran.json["error"]["code"] == "not_found"
    assert "echoctl videos" in ran.json["error"]["remedy"]


def test_video_without_a_job_says_what_is_missing(stocked: Any, echoctl: Any) -> None:
    stocked.videos[VIDEO].job_id = ""
    ran = echoctl("jobs", "show", VIDEO, fake=stocked)
    assert "(upload_incomplete)" in ran.err


def test_what_is_no_id_is_refused_without_a_request(stocked: Any, echoctl: Any) -> None:
    ran = echoctl("jobs", "cancel", "../../videos", fake=stocked)
    assert ran.code == 2
    assert stocked.log == []


def test_retry_names_the_step(stocked: Any, echoctl: Any) -> None:
    assert echoctl("jobs", "retry", VIDEO, "--step", "ladder", fake=stocked).code == 0
    assert 'retry {"step":"ladder"}' in stocked.log


def test_cancel_is_sent_for_the_videos_job(stocked: Any, echoctl: Any) -> None:
    assert echoctl("jobs", "cancel", VIDEO, fake=stocked).code == 0
    assert any(line.startswith("cancel") for line in stocked.log)


# --- plugins


def test_plugins_are_listed_with_their_reasons(echoctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = (
        PluginReport(name="good", version="1", status="loaded", provides={"storage": ("x",)}, selected=True),
        PluginReport(name="bad", version="2", status="failed", reason="cannot be imported"),
    )
    monkeypatch.setattr(bootstrap, "plugin_reports", lambda _: reports)
    ran = echoctl("plugins")
    assert "good*" in ran.out
    assert "cannot be imported" in ran.out
    ran = echoctl("plugins", "--json")
    assert [p["name"] for p in ran.json["items"]] == ["good", "bad"]
    assert ran.json["items"][0]["provides"] == {"storage": ["x"]}


def test_commands_of_a_plugin_are_mounted_under_its_name(echoctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.command()
    def hello(name: str) -> None:
        typer.echo(f"hello {name}")

    @app.command()
    def broken() -> None:
        raise EchoError("The plugin's vendor is away.", code="vendor_away")

    monkeypatch.setattr(bootstrap, "plugin_commands", lambda _, name: (app, None) if name == "greeter" else None)
    assert echoctl("greeter", "hello", "you").out == "hello you\n"
    ran = echoctl("greeter", "broken")
    assert ran.code == 1
    assert "(vendor_away)" in ran.err


def test_broken_plugin_breaks_no_other_command(echoctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def commands(_: object, name: str) -> Any:
        raise RuntimeError("a plugin's defect")

    monkeypatch.setattr(bootstrap, "plugin_commands", commands)
    assert echoctl("jobs", "--help").code == 0
    ran = echoctl("greeter")
    assert ran.code == 2
    assert "a plugin's defect" in ran.err


def test_commands_of_a_plugin_run_with_the_configuration_that_was_named(
    echoctl: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = typer.Typer()

    @app.command()
    def where() -> None:
        raise AssertionError("it ran")

    asked: list[Path | None] = []

    def load(path: Path | None = None) -> Any:
        asked.append(path)
        raise EchoError("There is no such file.", code="configuration_missing")

    monkeypatch.setattr(bootstrap, "load_settings", load)
    assert echoctl("--config", tmp_path / "named.toml", "greeter", "where").code == 2
    assert asked == [tmp_path / "named.toml"]


def test_commands_that_lack_their_configuration_are_not_called_unknown(
    echoctl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commands(_: object, name: str) -> Any:
        raise EchoError("It has no table.", code="plugin_not_configured", remedy="Write it.")

    monkeypatch.setattr(bootstrap, "plugin_commands", commands)
    ran = echoctl("greeter", "where")
    assert ran.code == 1
    assert "It has no table." in ran.err
    assert "No such command" not in ran.err


# --- openapi


def test_openapi_goes_to_stdout_or_a_file(echoctl: Any, tmp_path: Path) -> None:
    printed = echoctl("openapi").json
    assert printed["openapi"].startswith("3.1")
    assert "/api/v1/videos/upload-complete" in printed["paths"]
    ran = echoctl("openapi", "--out", "o.json")
    assert ran.out == ""
    assert json.loads((tmp_path / "o.json").read_text()) == printed


def test_failure_that_ended_a_task_group_is_explained_like_any_other() -> None:
    refused = UnavailableError("The database cannot be reached.", code="database_unavailable", remedy="Start it.")
    problem = explained(ExceptionGroup("unhandled errors", [ExceptionGroup("again", [refused])]))
    assert problem is not None
    assert (problem.code, problem.remedy) == ("database_unavailable", "Start it.")
    assert explained(ExceptionGroup("unhandled errors", [ZeroDivisionError()])) is None
    assert explained(ExceptionGroup("unhandled errors", [refused, ZeroDivisionError()])) is None
