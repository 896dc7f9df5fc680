from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from echo_core.adapters.secrets import derive_key, embedded_jwt_secret, load_instance_secret
from echo_core.adapters.settings import AuthSettings, Settings
from echo_core.adapters.settings_errors import ConfigurationError

PINNED = "a29ad8ee7cc3a5e5cd85745664801d8182e310938989332768294392d00ff8a4"


def test_secret_from_the_settings_is_used_and_nothing_written(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", secret_key=SecretStr("k" * 32))
    assert load_instance_secret(settings) == b"k" * 32
    assert not (tmp_path / "data").exists()


def test_secret_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    secret = load_instance_secret(settings)
    path = tmp_path / "data" / "secrets" / "secret_key"
    assert len(secret) >= 64
    assert load_instance_secret(settings) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["secret_key"]


def test_two_instances_have_two_secrets(tmp_path: Path) -> None:
    assert load_instance_secret(Settings(data_dir=tmp_path / "a")) != load_instance_secret(
        Settings(data_dir=tmp_path / "b")
    )


def test_racing_starters_agree(tmp_path: Path) -> None:
    for round_ in range(20):
        settings = Settings(data_dir=tmp_path / str(round_))
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(load_instance_secret, [settings] * 8))) == 1


def test_a_secret_made_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = b"the other process was faster, by a hair"
    link = Path.hardlink_to

    def slower(self: Path, target: Path) -> None:
        self.write_bytes(other)
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", slower)
    assert load_instance_secret(Settings(data_dir=tmp_path)) == other


def test_a_damaged_secret_is_refused_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "secret_key"
    path.parent.mkdir()
    path.write_text("short\n")
    with pytest.raises(ConfigurationError, match="holds less than 32 bytes") as caught:
        load_instance_secret(Settings(data_dir=tmp_path))
    assert path.read_text() == "short\n"
    assert "short" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("a file")
    with pytest.raises(ConfigurationError, match="cannot keep the instance secret at"):
        load_instance_secret(Settings(data_dir=tmp_path))


def test_derived_keys_are_stable_and_independent() -> None:
    # Pinned: another value would end every session and link of every instance.
    assert derive_key(b"s" * 32, "playback").hex() == PINNED
    keys = {derive_key(secret, label) for secret in (b"s" * 32, b"t" * 32) for label in ("a", "b", "plugin:a:b")}
    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}


def test_embedded_jwt_secret_is_the_configured_one_or_derived() -> None:
    configured = Settings(auth=AuthSettings(hs256_secret=SecretStr("h" * 32)))
    assert embedded_jwt_secret(configured, b"s" * 32) == b"h" * 32
    assert embedded_jwt_secret(Settings(), b"s" * 32) == derive_key(b"s" * 32, "auth:embedded")
