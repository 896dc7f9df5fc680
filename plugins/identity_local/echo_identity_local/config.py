"""The table ``[plugins.identity_local]``."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

GOOGLE_ISSUER = "https://accounts.google.com"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class GoogleConfig(BaseModel):
    """The client that this instance is at Google, or at another OpenID provider. Without ``client_id``: none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    issuer: str = GOOGLE_ISSUER

    @field_validator("issuer")
    @classmethod
    def _is_issuer(cls, value: str) -> str:
        # OpenID Connect Discovery 1.0, 3. Plain HTTP cannot be overheard on loopback.
        parts = urlsplit(value)
        if parts.query or parts.fragment or not is_protected(value):
            raise ValueError("must be an https address without query and fragment")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> GoogleConfig:
        if bool(self.client_id) != bool(self.client_secret.get_secret_value()):
            raise ValueError("client_id and client_secret belong together; set both, or none")
        return self


class IdentityConfig(BaseModel):
    """Who may sign up, how long sign-in lasts, and how often it may be tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sign_up: bool = True
    allow_in_production: bool = False
    token_expires_in_s: int = Field(default=3600, ge=60, le=24 * 3600)
    min_password_length: int = Field(default=8, ge=6, le=128)
    address_tries_per_minute: int = Field(default=60, ge=1)
    account_tries_per_minute: int = Field(default=10, ge=1)
    hash_threads: int = Field(default=2, ge=1, le=32)
    redirect_urls: tuple[str, ...] = ()
    google: GoogleConfig = GoogleConfig()

    @field_validator("redirect_urls")
    @classmethod
    def _are_pages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(url)
            if (
                parts.scheme not in {"http", "https"}
                or not parts.hostname
                or parts.query
                or parts.fragment
                or "@" in url
            ):
                raise ValueError(f"{url!r} is not the http or https address of a page, without query and fragment")
        return value


def is_loopback(url: str) -> bool:
    """Whether that is this machine."""
    return urlsplit(url).hostname in LOOPBACK


def is_protected(url: str) -> bool:
    """Whether what is sent there cannot be overheard: https, or plain HTTP on loopback."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url)))
