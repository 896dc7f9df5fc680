"""The settings as typed models. ``settings_sources.load_settings()`` fills them in; ``echo.toml`` explains each key."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, Secret, SecretStr, field_validator, model_validator

from echo_core.adapters.settings_errors import Origins
from echo_core.plugin_api.ai import Capability

MIN_SECRET_LENGTH = 32
"""Bytes of an HMAC-SHA256 key: at least its output (RFC 7518, 3.2)."""

PRODUCTION_MODES = frozenset({"prod", "production"})
"""Values of ``ECHO_MODE`` that stand for a production."""

AUTH_PATH = "/auth/v1"
"""Where supabase-js looks for Supabase Auth, below the address that it is given."""
LOCAL_AUTH_KEY = "local"

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_CORS_ORIGIN = re.compile(r"\*|https?://[^/\s?#]+")


def _checked_secret(value: SecretStr) -> SecretStr:
    secret = value.get_secret_value()
    if secret and len(secret.encode()) < MIN_SECRET_LENGTH:
        raise ValueError(f"must be at least {MIN_SECRET_LENGTH} bytes long (or empty)")
    return value


def _role_of_key(key: str) -> str:
    """The role that a Supabase API key in the form of a JWT names; empty where it is none."""
    try:
        payload = key.split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["role"])
    except (IndexError, KeyError, TypeError, ValueError):
        return ""


class Section(BaseModel):
    """A part of the configuration: typed, closed, unchangeable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpSettings(Section):
    """The API process. ``public_url`` empty: ``http://<host>:<port>``."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    public_url: str = ""
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    idle_timeout_s: int = Field(default=30, ge=1)
    trusted_proxies: tuple[str, ...] = ()
    user_requests_per_minute: int = Field(default=12_000, ge=0)
    address_requests_per_minute: int = Field(default=24_000, ge=0)
    address_failures_per_minute: int = Field(default=300, ge=0)
    max_connections: int = Field(default=16_384, ge=1)
    max_requests: int = Field(default=256, ge=1)
    max_transfers: int = Field(default=1024, ge=1)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Not "*": it would take the client's own word for its address, and with it every limit by address.
        try:
            return tuple(str(ip_network(proxy)) if "/" in proxy else str(ip_address(proxy)) for proxy in value)
        except ValueError:
            raise ValueError("each must be an address or a network, such as 127.0.0.1 or 10.0.0.0/8") from None

    @field_validator("public_url")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an absolute http or https address without query, such as https://video.example")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(_CORS_ORIGIN.fullmatch(origin) is None for origin in value):
            raise ValueError("each must be '*' or an origin such as https://video.example, without path or final '/'")
        return value


class WebSettings(Section):
    """The web application. ``dir`` empty: the build that comes with Echo, if there is one."""

    dir: str = ""


class DatabaseSettings(Section):
    """PostgreSQL. ``url`` is the owner's (it migrates); API and worker log in with roles of their own on the same
    server, with passwords derived from ``secret_key``, unless their URLs are given."""

    url: SecretStr = SecretStr("embedded")
    api_url: SecretStr = SecretStr("")
    worker_url: SecretStr = SecretStr("")
    pool_size: int = Field(default=10, ge=1)
    transaction_pooling: bool = False
    statement_timeout_s: float = Field(default=10.0, gt=0)
    connect_timeout_s: float = Field(default=5.0, gt=0)


class RedisSettings(Section):
    """Redis or Valkey: the doorbell and the event stream."""

    url: SecretStr = SecretStr("embedded")


class AuthSettings(Section):
    """Bearer tokens. With ``hs256_secret`` and ``jwks_url`` empty, the instance's own embedded secret is used.

    ``issuer`` empty: ``<public_url>/auth/v1``. ``identity`` counts only while nothing points to another issuer.
    """

    identity: str = "local"
    issuer: str = ""
    audience: str = "authenticated"
    role: str = "authenticated"
    algorithms: tuple[Literal["HS256", "ES256", "RS256"], ...] = ("HS256",)
    hs256_secret: SecretStr = SecretStr("")
    jwks_url: str = ""
    jwks_min_refetch_s: float = Field(default=60.0, ge=1)
    leeway_s: int = Field(default=30, ge=0, le=60)
    publishable_key: str = ""

    _long_enough = field_validator("hs256_secret")(_checked_secret)

    @field_validator("publishable_key")
    @classmethod
    def _may_be_published(cls, value: str) -> str:
        # Every browser is given it, and the two kinds of key stand side by side in Supabase's dashboard.
        if value.startswith("sb_secret_") or _role_of_key(value) not in {"", "anon"}:
            raise ValueError("this key is secret; set the publishable (sb_publishable_…) or anon key of the project")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        parts = urlsplit(value)
        host = parts.hostname or ""
        # A name without a dot (a container's) cannot be reached from, or spoofed by, the public network.
        nearby = parts.scheme == "http" and bool(host) and (host in _LOOPBACK or not {".", ":"} & set(host))
        if value and not (nearby or (parts.scheme == "https" and host)):
            raise ValueError("must be an https address; http only for this machine or a host name without dots")
        return value

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> Self:
        # Public keys and a shared secret side by side invite algorithm confusion (RFC 8725, 2.1).
        if self.jwks_url and self.hs256_secret.get_secret_value():
            raise ValueError("jwks_url and hs256_secret exclude each other; keep the one that your issuer signs with")
        wanted = {"ES256", "RS256"} if self.jwks_url else {"HS256"}
        if not self.algorithms or not set(self.algorithms) <= wanted:
            with_or_without = "with" if self.jwks_url else "without"
            raise ValueError(f"{with_or_without} jwks_url, algorithms must be among {', '.join(sorted(wanted))}")
        return self


class UploadSettings(Section):
    """What may be uploaded."""

    max_size_bytes: int = Field(default=64 << 30, ge=1)
    expires_in_s: int = Field(default=24 * 3600, ge=60)
    quota_bytes: int = Field(default=0, ge=0)
    max_unfinished: int = Field(default=1000, ge=1)


class StorageSettings(Section):
    """Which backend keeps the bytes."""

    backend: str = "local"
    url_expires_in_s: int = Field(default=6 * 3600, ge=60)


class TranscoderSettings(Section):
    """Which transcoder, and the ladder that is wanted."""

    backend: str = "ffmpeg"
    short_sides: tuple[int, ...] = (1080, 720, 480, 360, 240)
    segment_s: float = Field(default=4.0, ge=1, le=10)
    max_duration_s: float = Field(default=6 * 3600.0, gt=0)


class AISettings(Section):
    """Which provider serves which capability, in the order in which they are tried; what may be spent."""

    transcribe: tuple[str, ...] = ("local",)
    describe: tuple[str, ...] = ("local",)
    translate: tuple[str, ...] = ()
    embed: tuple[str, ...] = ()
    translate_to: tuple[str, ...] = ()
    accept_suggestions: bool = True
    budget_per_video_usd: float = Field(default=1.0, ge=0)
    budget_per_day_usd: float = Field(default=10.0, ge=0)

    @field_validator("translate_to")
    @classmethod
    def _are_languages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for language in value:
            if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", language) is None:
                raise ValueError(f"{language!r} is no language tag such as 'de' or 'pt-BR'")
        return value

    def serving(self, capability: Capability) -> tuple[str, ...]:
        """The providers of a capability, in order."""
        names: tuple[str, ...] = getattr(self, capability.value)
        return tuple(dict.fromkeys(names))

    @property
    def providers(self) -> tuple[str, ...]:
        """All that are named, each once."""
        return tuple(dict.fromkeys(name for capability in Capability for name in self.serving(capability)))


class PlaybackSettings(Section):
    """Playback URLs."""

    token_expires_in_s: int = Field(default=6 * 3600, ge=60)


class RealtimeSettings(Section):
    """The WebSocket."""

    auth_timeout_s: float = Field(default=5.0, gt=0)
    ticket_expires_in_s: int = Field(default=30, ge=1)
    max_queue: int = Field(default=256, ge=1)
    max_connections_per_user: int = Field(default=20, ge=1)
    max_connections: int = Field(default=8192, ge=1)
    event_retention_days: int = Field(default=30, ge=1)
    poll_s: float = Field(default=5.0, gt=0)


class WorkerSettings(Section):
    """The job engine. Slots are per process and resource class."""

    light_slots: int = Field(default=2, ge=0)
    cpu_slots: int = Field(default=1, ge=0)
    net_slots: int = Field(default=4, ge=0)
    ai_slots: int = Field(default=2, ge=0)
    lease_s: float = Field(default=15.0, gt=0)
    heartbeat_s: float = Field(default=5.0, gt=0)
    watch_s: float = Field(default=0.5, gt=0)
    reconcile_s: float = Field(default=5.0, gt=0)
    ring_again_s: float = Field(default=30.0, gt=0)
    poll_delay_s: float = Field(default=0.05, gt=0)
    shutdown_grace_s: float = Field(default=10.0, ge=0)
    nice: int = Field(default=5, ge=0, le=19)
    scratch_reserve_bytes: int = Field(default=256 << 20, ge=0)
    memory_reserve_bytes: int = Field(default=256 << 20, ge=0)

    @model_validator(mode="after")
    def _beats_within_lease(self) -> Self:
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError("lease_s must be at least twice heartbeat_s, or one late heartbeat loses the lease")
        return self


class LogSettings(Section):
    """Structured logs on standard error. ``auto``: for people on a terminal, JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class PluginsSettings(BaseModel):
    """``disabled`` names, exact ``versions`` to insist on, and one table for each plugin, checked by its own model.

    The tables are secret until then: nobody knows yet which of their keys are.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Secret[dict[str, object]]] = Field(init=False)

    disabled: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def sections(self) -> tuple[str, ...]:
        """The plugins that have a table."""
        return tuple(self.__pydantic_extra__)

    def section(self, plugin: str) -> Mapping[str, object]:
        """The unchecked table ``[plugins.<plugin>]``; empty if there is none."""
        table = self.__pydantic_extra__.get(plugin)
        return {} if table is None else dict(table.get_secret_value())


def _as_browsers_say(url: str) -> str:
    """The origin of a page at that address (RFC 6454, 6.2)."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    standard = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in {None, standard} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


class Settings(Section):
    """All of it."""

    data_dir: Path = Path("data")
    secret_key: SecretStr = SecretStr("")
    http: HttpSettings = HttpSettings()
    web: WebSettings = WebSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    auth: AuthSettings = AuthSettings()
    upload: UploadSettings = UploadSettings()
    storage: StorageSettings = StorageSettings()
    transcoder: TranscoderSettings = TranscoderSettings()
    ai: AISettings = AISettings()
    playback: PlaybackSettings = PlaybackSettings()
    realtime: RealtimeSettings = RealtimeSettings()
    worker: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()
    plugins: PluginsSettings = PluginsSettings()

    _origins: Origins = PrivateAttr(default_factory=Origins)
    _mode: str = PrivateAttr(default="")
    _long_enough = field_validator("secret_key")(_checked_secret)

    @property
    def origins(self) -> Origins:
        """Where each key was set, for error messages."""
        return self._origins

    @property
    def is_production(self) -> bool:
        """Whether ``ECHO_MODE`` names a production."""
        return self._mode.lower() in PRODUCTION_MODES

    def remember_origins(self, origins: Origins, mode: str = "") -> None:
        """Keep where each key was set, and what ``ECHO_MODE`` says. For the loader."""
        self._origins = origins
        self._mode = mode

    @property
    def public_url(self) -> str:
        """The address under which users reach the API, without trailing slash."""
        return (self.http.public_url or f"http://{self.http.host}:{self.http.port}").rstrip("/")

    @property
    def page_origins(self) -> tuple[str, ...]:
        """Origins of the pages that use this instance: its own, then those that are let in (``*``: all)."""
        return tuple(dict.fromkeys((_as_browsers_say(self.public_url), *self.http.cors_origins)))

    @property
    def identity(self) -> str:
        """The identity to open; empty where there is none, or where tokens come from another issuer."""
        foreign = self.auth.jwks_url or self.auth.issuer not in {"", f"{self.public_url}/auth/v1"}
        return "" if foreign else self.auth.identity

    @property
    def issuer(self) -> str:
        """The issuer that tokens must name."""
        return self.auth.issuer or f"{self.public_url}/auth/v1"

    @property
    def auth_url(self) -> str | None:
        """What supabase-js is given as its address: this instance, or whoever issues the tokens; None where that is
        nobody that it can talk to."""
        if self.identity:
            return self.public_url
        issuer = self.issuer.rstrip("/")
        foreign = issuer != f"{self.public_url}{AUTH_PATH}"
        return issuer.removesuffix(AUTH_PATH) if foreign and issuer.endswith(AUTH_PATH) else None

    @property
    def auth_key(self) -> str:
        """What supabase-js is given as its key. It takes no empty one; an identity of Echo's own looks at none."""
        return self.auth.publishable_key or (LOCAL_AUTH_KEY if self.identity else "")
