from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from echo_core.adapters.settings import AuthSettings, Settings
from echo_core.adapters.settings_errors import ConfigurationError
from echo_core.adapters.settings_sources import RESERVED, load_settings, variable_name
from echo_core.adapters.settings_tables import known_keys

LONG_SECRET = "0123456789abcdef0123456789abcdef"


def load(cwd: Path, toml: str = "", dotenv: str | None = None, **environ: str) -> Settings:
    if toml:
        (cwd / "echo.toml").write_text(toml)
    if dotenv is not None:
        (cwd / f".env.{environ.get('ECHO_MODE', 'dev')}").write_text(dotenv)
    return load_settings(environ=environ, cwd=cwd)


def refusal(cwd: Path, toml: str = "", dotenv: str | None = None, **environ: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(cwd, toml, dotenv, **environ)
    return caught.value


def test_defaults_load_without_any_source(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.http.port == 8000
    assert settings.database.url.get_secret_value() == "embedded"
    assert settings.data_dir == tmp_path / "data"


def test_later_sources_win_key_by_key(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[http]\nport = 1\nhost = "toml"\nidle_timeout_s = 1',
        "ECHO_HTTP__PORT=2\nECHO_HTTP__HOST=dotenv\n",
        ECHO_HTTP__PORT="3",
    )
    assert (settings.http.port, settings.http.host, settings.http.idle_timeout_s) == (3, "dotenv", 1)


def test_echo_config_names_the_file_and_the_dotenv_lies_beside_it(tmp_path: Path) -> None:
    elsewhere = tmp_path / "etc"
    elsewhere.mkdir()
    (elsewhere / "my.toml").write_text("[http]\nport = 1")
    (elsewhere / ".env.live").write_text("ECHO_HTTP__HOST=live")
    settings = load(tmp_path, "[http]\nport = 2", ECHO_CONFIG="etc/my.toml", ECHO_MODE="live")
    assert (settings.http.port, settings.http.host) == (1, "live")


def test_named_config_that_is_missing_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, ECHO_CONFIG="nowhere.toml")
    assert "nowhere.toml: there is no such file (from ECHO_CONFIG)" in str(error)


def test_named_mode_without_its_file_is_refused(tmp_path: Path) -> None:
    assert ".env.live does not exist" in str(refusal(tmp_path, ECHO_MODE="live"))


def test_mode_cannot_leave_the_directory(tmp_path: Path) -> None:
    assert "ECHO_MODE: may hold" in str(refusal(tmp_path, ECHO_MODE="../x"))


def test_dotenv_ignores_what_is_not_echos(tmp_path: Path) -> None:
    assert load(tmp_path, dotenv="POSTGRES_PASSWORD=x\n# ECHO_NO=1\nECHO_HTTP__PORT=9\n").http.port == 9


def test_dotenv_refuses_variables_that_only_work_in_the_environment(tmp_path: Path) -> None:
    assert "ECHO_MODE: belongs in the environment" in str(refusal(tmp_path, dotenv="ECHO_MODE=live"))


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_variables_are_no_settings(tmp_path: Path, name: str) -> None:
    (tmp_path / "echo.toml").write_text("")
    (tmp_path / ".env.x").write_text("")
    value = {"ECHO_CONFIG": "echo.toml", "ECHO_MODE": "x"}.get(name, "anything")
    load_settings(environ={name: value}, cwd=tmp_path)


def test_all_problems_of_all_sources_come_at_once(tmp_path: Path) -> None:
    error = refusal(
        tmp_path,
        '[http]\nprot = 1\n[worker]\nlight_slots = "many"',
        "ECHO_HTTTP__PORT=1\nECHO_LOG__LEVEL=loud",
        ECHO_DATA_DIRR="x",
        ECHO_HTTP__PORT="abc",
    )
    lines = {issue.key: str(issue) for issue in error.issues}
    toml, dotenv = tmp_path / "echo.toml", tmp_path / ".env.dev"
    assert lines["http.prot"] == f"http.prot: unknown key; did you mean http.port? (from {toml})"
    assert lines["worker.light_slots"].endswith(f"(from {toml})")
    assert (
        lines["ECHO_HTTTP__PORT"] == f"ECHO_HTTTP__PORT: unknown setting; did you mean ECHO_HTTP__PORT? (from {dotenv})"
    )
    assert lines["log.level"].endswith(f"(from {dotenv}, ECHO_LOG__LEVEL)")
    assert "did you mean ECHO_DATA_DIR?" in lines["ECHO_DATA_DIRR"]
    assert lines["http.port"].endswith("(from environment variable ECHO_HTTP__PORT)")
    assert len(lines) == len(error.issues) == 6
    assert all(str(issue) in str(error) for issue in error.issues)
    assert "6 problems" in error.message


@pytest.mark.parametrize(
    ("name", "key"), [("ECHO_HTTP__PROT", "http.prot"), ("ECHO_AUTH__X__Y", "auth.x"), ("ECHO_HTTP__", "http.")]
)
def test_unknown_nested_variables_are_refused(tmp_path: Path, name: str, key: str) -> None:
    (issue,) = refusal(tmp_path, **{name: "1"}).issues
    assert issue.key == key
    assert issue.problem.startswith("unknown key")


@pytest.mark.parametrize("name", ["ECHO_", "ECHO_DATA_DIR__X", "ECHO_HTTP_PORT", "ECHO___"])
def test_unknown_variables_are_refused(tmp_path: Path, name: str) -> None:
    (issue,) = refusal(tmp_path, **{name: "1"}).issues
    assert issue.key == name
    assert issue.problem.startswith("unknown setting")


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    load(tmp_path, ECHOES="1", echo_thing="1", PATH="/bin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example, https://b.example", ("https://a.example", "https://b.example")),
        ('["https://a.example"]', ("https://a.example",)),
        ("https://a.example", ("https://a.example",)),
        ("", ()),
    ],
)
def test_lists_from_the_environment(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    assert load(tmp_path, ECHO_HTTP__CORS_ORIGINS=text).http.cors_origins == expected


def test_lists_of_numbers_and_tables_from_the_environment(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[plugins.versions]\na = "1"',
        ECHO_TRANSCODER__SHORT_SIDES="720,360",
        ECHO_HTTP='{"port": 7}',
        ECHO_PLUGINS__VERSIONS__B="2",
    )
    assert settings.transcoder.short_sides == (720, 360)
    assert settings.http.port == 7
    assert settings.plugins.versions == {"a": "1", "b": "2"}


def test_a_list_in_toml_must_be_one(tmp_path: Path) -> None:
    assert "http.cors_origins" in str(refusal(tmp_path, '[http]\ncors_origins = "https://a.example"'))


@pytest.mark.parametrize("text", ["[http", "a = 1\na = 2", "[http]\nport = 1\n[http]\nport = 2"])
def test_broken_toml_names_the_file_and_hides_no_other_problem(tmp_path: Path, text: str) -> None:
    error = refusal(tmp_path, text, ECHO_HTTP__PORT="x")
    assert f"{tmp_path / 'echo.toml'}: is not valid TOML" in str(error)
    assert "http.port" in str(error)


def test_toml_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "echo.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in str(refusal(tmp_path))


def test_plugin_tables_merge_and_stay_raw(tmp_path: Path) -> None:
    settings = load(
        tmp_path, '[plugins.some_plugin]\na = 1\nb = "x"', ECHO_PLUGINS__SOME_PLUGIN__B="y", ECHO_PLUGINS__OTHER__C="1"
    )
    assert settings.plugins.section("some_plugin") == {"a": 1, "b": "y"}
    assert settings.plugins.section("other") == {"c": "1"}
    assert settings.plugins.section("nobody") == {}
    assert set(settings.plugins.sections) == {"some_plugin", "other"}


def test_a_plugin_table_must_be_a_table(tmp_path: Path) -> None:
    assert "plugins.some_plugin" in str(refusal(tmp_path, "[plugins]\nsome_plugin = 3"))


def test_absolute_data_dir_is_kept_and_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load(tmp_path, ECHO_DATA_DIR="/srv/echo").data_dir == Path("/srv/echo")
    assert load(tmp_path, ECHO_DATA_DIR="~/echo").data_dir == tmp_path / "home" / "echo"


class TestSecrets:
    def test_may_come_from_files(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(LONG_SECRET + "\n")
        (tmp_path / "url").write_text("postgresql://x\r\n")
        settings = load(
            tmp_path,
            f'secret_key_file = "{tmp_path}/key"',
            ECHO_DATABASE__URL_FILE=str(tmp_path / "url"),
        )
        assert settings.secret_key.get_secret_value() == LONG_SECRET
        assert settings.database.url.get_secret_value() == "postgresql://x"

    def test_file_variable_outside_a_section(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(LONG_SECRET)
        assert load(tmp_path, ECHO_SECRET_KEY_FILE=f"{tmp_path}/key").secret_key.get_secret_value() == LONG_SECRET

    @pytest.mark.parametrize("file_first", [True, False])
    def test_later_source_wins_whichever_way_it_gives_the_secret(self, tmp_path: Path, file_first: bool) -> None:
        (tmp_path / "key").write_text("f" * 32)
        file, value = f"{tmp_path}/key", "v" * 32
        if file_first:
            settings = load(tmp_path, f'secret_key_file = "{file}"', ECHO_SECRET_KEY=value)
        else:
            settings = load(tmp_path, f'secret_key = "{value}"', ECHO_SECRET_KEY_FILE=file)
        assert settings.secret_key.get_secret_value() == ("v" if file_first else "f") * 32

    def test_twice_in_one_source_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("f" * 32)
        error = refusal(tmp_path, ECHO_SECRET_KEY="v" * 32, ECHO_SECRET_KEY_FILE=f"{tmp_path}/key")
        assert "secret_key: given twice" in str(error)
        assert "vvvv" not in str(error)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [(None, "No such file"), (b"", "empty"), (b"\n", "empty"), (b"\xff", "UTF-8"), (b"x" * 70_000, "larger than")],
    )
    def test_bad_files_are_named(self, tmp_path: Path, content: bytes | None, problem: str) -> None:
        if content is not None:
            (tmp_path / "key").write_bytes(content)
        (issue,) = refusal(tmp_path, ECHO_SECRET_KEY_FILE=f"{tmp_path}/key").issues
        assert issue.key == "secret_key_file"
        assert problem in issue.problem

    def test_file_suffix_is_for_secrets_only(self, tmp_path: Path) -> None:
        assert "http.host_file: unknown key" in str(refusal(tmp_path, ECHO_HTTP__HOST_FILE="/x"))

    def test_never_show(self, tmp_path: Path) -> None:
        settings = load(
            tmp_path,
            f'[plugins.p]\ntoken = "{LONG_SECRET}"',
            ECHO_SECRET_KEY=LONG_SECRET,
            ECHO_DATABASE__URL=f"postgresql://u:{LONG_SECRET}@h/d",
            ECHO_AUTH__HS256_SECRET=LONG_SECRET,
        )
        for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
            assert LONG_SECRET not in shown

    def test_never_stand_in_errors_or_their_causes(self, tmp_path: Path) -> None:
        secret = "hunter2-too-short"
        error = refusal(
            tmp_path,
            f'[database]\nurl = ["{secret}"]\n[plugins]\np = "{secret}"',
            ECHO_SECRET_KEY=secret,
            ECHO_AUTH__HS256_SECRET=secret,
        )
        assert {issue.key for issue in error.issues} == {"database.url", "plugins.p", "secret_key", "auth.hs256_secret"}
        link: BaseException | None = error
        while link is not None:
            assert secret not in repr(link) + str(link)
            assert link.__suppress_context__ or link.__context__ is None
            link = link.__cause__

    @settings(deadline=None)
    @given(st.text(alphabet="abcXYZ$#='\"\\ ", min_size=1, max_size=20))
    def test_never_stand_in_any_message(self, secret: str) -> None:
        environ = {"ECHO_AUTH__HS256_SECRET": "@@" + secret, "ECHO_HTTP__PORT": "x", "ECHO_PLUGINS__P": "@@" + secret}
        with pytest.raises(ConfigurationError) as caught:
            load_settings(environ=environ, cwd=Path("/nonexistent"))
        assert "@@" not in str(caught.value)


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ('[http]\npublic_url = "video.example"', "http.public_url"),
        ('[http]\npublic_url = "javascript://x"', "http.public_url"),
        ('[http]\ncors_origins = ["https://a.example/"]', "http.cors_origins"),
        ('[auth]\njwks_url = "file:///etc/passwd"', "auth.jwks_url"),
        ('[auth]\njwks_url = "http://issuer.example/jwks"', "auth.jwks_url"),
        ('[auth]\njwks_url = "https://issuer.example/jwks"', "auth"),
        ('[auth]\nalgorithms = ["ES256"]', "auth"),
        ("[auth]\nalgorithms = []", "auth"),
        ('[auth]\nalgorithms = ["none"]', "auth.algorithms[0]"),
        (f'[auth]\njwks_url="https://i.example"\nalgorithms=["ES256"]\nhs256_secret="{LONG_SECRET}"', "auth"),
        ("[worker]\nlease_s = 5.0", "worker"),
        ("[http]\nport = 70000", "http.port"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, toml: str, key: str) -> None:
    (issue,) = refusal(tmp_path, toml).issues
    assert issue.key == key
    assert issue.origin == str(tmp_path / "echo.toml")


@pytest.mark.parametrize("url", ["https://issuer.example/jwks", "http://127.0.0.1:9/jwks", "http://kong:8000/jwks"])
def test_jwks_addresses_that_are_safe(url: str) -> None:
    assert AuthSettings(jwks_url=url, algorithms=("ES256",)).jwks_url == url


def test_every_key_has_a_variable_that_sets_it(tmp_path: Path) -> None:
    leaves = [k for k in known_keys(Settings) if not any(other.startswith(f"{k}.") for other in known_keys(Settings))]
    for key in leaves:
        if key.endswith("_file"):
            continue
        value: object = Settings()
        for part in key.split("."):
            value = getattr(value, part)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        text = json.dumps(text) if isinstance(text, tuple | dict) else str(text)
        load(tmp_path, **{variable_name(key): text})


def test_an_identity_is_off_where_tokens_come_from_elsewhere(tmp_path: Path) -> None:
    assert load(tmp_path).identity == "local"
    assert load(tmp_path, '[auth]\nidentity = ""').identity == ""
    assert load(tmp_path, '[auth]\nissuer = "https://x.supabase.co/auth/v1"').identity == ""
    own = '[http]\npublic_url = "https://video.example/"\n[auth]\nissuer = "https://video.example/auth/v1"'
    assert load(tmp_path, own).identity == "local"


@pytest.mark.parametrize(
    ("toml", "url", "key"),
    [
        ("", "http://127.0.0.1:8000", "local"),
        ('[http]\npublic_url = "https://video.example/"', "https://video.example", "local"),
        ('[auth]\nidentity = ""', None, ""),
        (
            '[auth]\nissuer = "https://abc.supabase.co/auth/v1"\npublishable_key = "sb_publishable_x"',
            "https://abc.supabase.co",
            "sb_publishable_x",
        ),
        ('[auth]\nissuer = "https://login.example/realms/echo"', None, ""),
        (
            '[auth]\nalgorithms = ["ES256"]\njwks_url = "https://login.example/keys"',
            None,
            "",
        ),
    ],
)
def test_front_ends_are_told_where_users_sign_in(tmp_path: Path, toml: str, url: str | None, key: str) -> None:
    loaded = load(tmp_path, toml)
    assert (loaded.auth_url, loaded.auth_key) == (url, key)


def api_key(role: str) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"iss": "supabase", "role": role}).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl"


def test_only_a_key_that_is_no_secret_can_be_published(tmp_path: Path) -> None:
    for secret in ("sb_secret_abc", api_key("service_role")):
        error = refusal(tmp_path, f'[auth]\npublishable_key = "{secret}"')
        assert "auth.publishable_key: " in str(error)
        assert secret not in str(error)
    assert load(tmp_path, f'[auth]\npublishable_key = "{api_key("anon")}"').auth_key == api_key("anon")


@pytest.mark.parametrize(("mode", "expected"), [("production", True), ("PROD", True), ("live", False)])
def test_the_mode_says_whether_it_is_a_production(tmp_path: Path, mode: str, expected: bool) -> None:
    assert load(tmp_path, dotenv="ECHO_HTTP__PORT=2", ECHO_MODE=mode).is_production is expected
