"""Secrets in texts of others."""

from __future__ import annotations

import time

import pytest

from echo_core.adapters.redaction import Redactor, secrets_in
from echo_core.adapters.settings import Settings
from echo_core.adapters.settings_sources import load_settings

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"'authorization': 'Bearer {JWT}'", "'authorization': 'Bearer [secret]'"),
        ("Authorization: bearer abc.def-1", "Authorization: bearer [secret]"),
        (f"token {JWT}, again {JWT}", "token [secret], again [secret]"),
        ("postgresql://echo:hunter2@db:5432/echo", "postgresql://echo:[secret]@db:5432/echo"),
        ("redis://:hunter2@db/0", "redis://:[secret]@db/0"),
        ("GET /x?a=1&token=abc&b=2", "GET /x?a=1&token=[secret]&b=2"),
        ("'/ws?ticket=abc'", "'/ws?ticket=[secret]'"),
        ("/o?X-Goog-Signature=abc&signature=def", "/o?X-Goog-Signature=[secret]&signature=[secret]"),
        ("PUT /o?upload_id=ABg5-x_y&name=a.mp4", "PUT /o?upload_id=[secret]&name=a.mp4"),
        ("/o?uploadType=resumable&upload_id=AB%2Fc", "/o?uploadType=resumable&upload_id=[secret]"),
        ("/o?X-Goog-Date=1&X-Goog-Signature=0a1b", "/o?X-Goog-Date=1&X-Goog-Signature=[secret]"),
        ("https://x.test/?key=AIza&sig=9", "https://x.test/?key=[secret]&sig=[secret]"),
        ("/auth/v1/callback?state=s&code=4/0Ab_c-d&iss=x", "/auth/v1/callback?state=s&code=[secret]&iss=x"),
        (f"/pages/x-{JWT}", "/pages/[secret]"),
        ("url=-redis://:hunter2@db/0", "url=-redis://:[secret]@db/0"),
        ("my key = opensesame.", "my key = [secret]."),
    ],
)
def test_secrets_are_hidden_and_the_rest_is_kept(text: str, shown: str) -> None:
    redact = Redactor(["opensesame", "", "short"])
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "step.failed: code media_unreadable at 12:30:01",
        "http://127.0.0.1:8000/docs?limit=5",
        'File "/srv/echo/x.py", line 3, in keys: tokens = 4',
        "postgresql://db:5432/echo",
        "a short secret",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor(["opensesame", "", "short"])(text) == text


@pytest.mark.parametrize("piece", ["eyJaaaaa-", "a.", "eyJaaaaa.", "?token", "://a:", "bearer "])
def test_time_grows_with_the_length_of_a_hostile_text_and_not_with_its_square(piece: str) -> None:
    redact = Redactor(["opensesame"])

    def takes_s(characters: int) -> float:
        text = piece * (characters // len(piece))
        begun = time.thread_time()
        redact(text)
        return time.thread_time() - begun

    # Four times as long takes four times as long; of a square it would be sixteen.
    assert min(takes_s(32_000) for _ in range(3)) < 10 * max(min(takes_s(8_000) for _ in range(3)), 0.001)


def test_every_secret_of_the_configuration_is_known() -> None:
    settings = load_settings(
        environ={
            "ECHO_SECRET_KEY": "k" * 32,
            "ECHO_DATABASE__URL": "postgresql://echo:password-of-owner@db/echo",
            "ECHO_REDIS__URL": "redis://:password-of-redis@db/0",
            "ECHO_AUTH__HS256_SECRET": "h" * 32,
            "ECHO_PLUGINS__CLOUD__API_KEY": "key-of-a-plugin",
            "ECHO_PLUGINS__CLOUD__REGION": "somewhere",
        },
    )
    secrets = set(secrets_in(settings))
    assert {"k" * 32, "h" * 32, "password-of-owner", "password-of-redis", "key-of-a-plugin"} <= secrets
    assert "somewhere" not in secrets


def test_an_instance_without_secrets_of_its_own_hides_nothing_in_particular() -> None:
    assert Redactor(secrets_in(Settings()))("the embedded database") == "the embedded database"
