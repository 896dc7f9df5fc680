"""Settings: ``echo.toml``, then ``.env.<mode>``, then ``ECHO_<SECTION>__<KEY>`` from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


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


class DatabaseSettings(Section):
    """PostgreSQL. ``url`` is the owner's (it migrates); API and worker log in with roles of their own on the same
    server, with passwords derived from ``secret_key``, unless their URLs are given."""

    url: SecretStr = SecretStr("embedded")
    api_url: SecretStr = SecretStr("")
    worker_url: SecretStr = SecretStr("")
    pool_size: int = Field(default=10, ge=1)
    statement_timeout_s: float = Field(default=10.0, gt=0)
    connect_timeout_s: float = Field(default=5.0, gt=0)


class RedisSettings(Section):
    """Redis or Valkey: the doorbell and the event stream."""

    url: SecretStr = SecretStr("embedded")


class AuthSettings(Section):
    """Bearer tokens. With ``hs256_secret`` and ``jwks_url`` empty, the instance's own embedded secret is used.

    ``issuer`` empty: ``<public_url>/auth/v1``.
    """

    issuer: str = ""
    audience: str = "authenticated"
    role: str = "authenticated"
    algorithms: tuple[Literal["HS256", "ES256", "RS256"], ...] = ("HS256",)
    hs256_secret: SecretStr = SecretStr("")
    jwks_url: str = ""
    jwks_min_refetch_s: float = Field(default=60.0, ge=1)
    leeway_s: int = Field(default=30, ge=0, le=60)


class UploadSettings(Section):
    """What may be uploaded."""

    max_size_bytes: int = Field(default=64 << 30, ge=1)
    expires_in_s: int = Field(default=24 * 3600, ge=60)


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


class PlaybackSettings(Section):
    """Playback URLs."""

    token_expires_in_s: int = Field(default=6 * 3600, ge=60)


class RealtimeSettings(Section):
    """The WebSocket."""

    auth_timeout_s: float = Field(default=5.0, gt=0)
    ticket_expires_in_s: int = Field(default=30, ge=1)
    max_queue: int = Field(default=256, ge=1)
    max_connections_per_user: int = Field(default=20, ge=1)
    event_retention_days: int = Field(default=30, ge=1)
    poll_s: float = Field(default=5.0, gt=0)


class WorkerSettings(Section):
    """The job engine. Slots are per process and resource class."""

    light_slots: int = Field(default=2, ge=0)
    cpu_slots: int = Field(default=1, ge=0)
    net_slots: int = Field(default=4, ge=0)
    lease_s: float = Field(default=15.0, gt=0)
    heartbeat_s: float = Field(default=5.0, gt=0)
    watch_s: float = Field(default=0.5, gt=0)
    reconcile_s: float = Field(default=5.0, gt=0)
    ring_again_s: float = Field(default=30.0, gt=0)
    poll_delay_s: float = Field(default=0.05, gt=0)
    shutdown_grace_s: float = Field(default=10.0, ge=0)


class LogSettings(Section):
    """Structured logs on standard error. ``auto``: for people on a terminal, JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class PluginsSettings(BaseModel):
    """``disabled`` names, exact ``versions`` to insist on, and one table for each plugin, checked by its own model."""

    model_config = ConfigDict(extra="allow", frozen=True)

    disabled: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)

    def section(self, plugin: str) -> dict[str, object]:
        """The unchecked table ``[plugins.<plugin>]``."""
        table = (self.model_extra or {}).get(plugin, {})
        return dict(table) if isinstance(table, dict) else {"": table}


class Settings(Section):
    """All of it."""

    data_dir: Path = Path("data")
    secret_key: SecretStr = SecretStr("")
    http: HttpSettings = HttpSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    auth: AuthSettings = AuthSettings()
    upload: UploadSettings = UploadSettings()
    storage: StorageSettings = StorageSettings()
    transcoder: TranscoderSettings = TranscoderSettings()
    playback: PlaybackSettings = PlaybackSettings()
    realtime: RealtimeSettings = RealtimeSettings()
    worker: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()
    plugins: PluginsSettings = PluginsSettings()

    @property
    def public_url(self) -> str:
        """The address under which users reach the API, without trailing slash."""
        return (self.http.public_url or f"http://{self.http.host}:{self.http.port}").rstrip("/")

    @property
    def issuer(self) -> str:
        """The issuer that tokens must name."""
        return self.auth.issuer or f"{self.public_url}/auth/v1"
