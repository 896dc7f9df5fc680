"""What the configuration of a provider takes and refuses."""

from __future__ import annotations

from typing import Any

import pytest
from echo_identity_local.config import GoogleConfig, IdentityConfig
from pydantic import ValidationError

WHOLE = {"client_id": "id", "client_secret": "recognisable-secret"}


@pytest.mark.parametrize(
    "issuer",
    [
        "https://accounts.google.com",
        "https://id.example/realms/x",
        "http://127.0.0.1:9",
        "http://[::1]:9",
        "http://localhost",
    ],
)
def test_an_issuer_is_https_or_on_this_machine(issuer: str) -> None:
    assert GoogleConfig(**WHOLE, issuer=issuer).issuer == issuer


@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "accounts.google.com",
        "http://id.example",
        "https://",
        "https://id.example?x=1",
        "https://id.example#x",
        "ftp://x",
    ],
)
def test_other_issuers_are_refused(issuer: str) -> None:
    with pytest.raises(ValidationError):
        GoogleConfig(**WHOLE, issuer=issuer)


@pytest.mark.parametrize("name", WHOLE)
def test_id_and_secret_belong_together(name: str) -> None:
    with pytest.raises(ValidationError, match="belong together"):
        GoogleConfig(**{name: WHOLE[name]})


def test_the_secret_does_not_show() -> None:
    assert "recognisable" not in repr(IdentityConfig(google=GoogleConfig(**WHOLE)))


@pytest.mark.parametrize("page", ["https://app.example", "https://app.example/in", "http://127.0.0.1:3000/"])
def test_pages_are_addresses(page: str) -> None:
    assert IdentityConfig(redirect_urls=[page]).redirect_urls == (page,)


@pytest.mark.parametrize(
    "page",
    [
        "",
        "*",
        "app.example",
        "//app.example/",
        "app://in",
        "https://",
        "https://a@app.example/",
        "https://app.example/?x",
        7,
    ],
)
def test_other_pages_are_refused(page: Any) -> None:
    with pytest.raises(ValidationError):
        IdentityConfig(redirect_urls=[page])
