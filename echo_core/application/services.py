"""What use cases work with: the opened ports and the limits of this instance. Bootstrap fills them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from echo_core.application.pipeline import Pipeline
from echo_core.application.ports import QuestionEmbedder, Tokens, UserUnitsOfWork
from echo_core.domain.ai_calls import Budgets
from echo_core.plugin_api.ai import Capability
from echo_core.plugin_api.context import Clock
from echo_core.plugin_api.json import JsonObject
from echo_core.plugin_api.storage import StorageBackend


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits and lifetimes, from the configuration (the key that sets each is in the comment)."""

    public_url: str
    max_upload_bytes: int  # upload.max_size_bytes
    upload_expires_in_s: int  # upload.expires_in_s
    url_expires_in_s: int  # storage.url_expires_in_s
    max_body_bytes: int  # http.max_body_bytes
    cors_origins: tuple[str, ...] = ()  # http.cors_origins
    max_requests: int = 256  # http.max_requests
    max_transfers: int = 1024  # http.max_transfers
    body_idle_timeout_s: float = 30.0  # http.idle_timeout_s
    quota_bytes: int = 0  # upload.quota_bytes; 0: none
    max_unfinished_uploads: int = 1000  # upload.max_unfinished
    ws_max_connections: int = 8192  # realtime.max_connections
    ws_auth_timeout_s: float = 5.0  # realtime.auth_timeout_s
    ws_ticket_expires_in_s: int = 30  # realtime.ticket_expires_in_s
    ws_max_queue: int = 256  # realtime.max_queue
    ws_max_connections_per_user: int = 20  # realtime.max_connections_per_user
    ws_poll_s: float = 5.0  # realtime.poll_s


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginReport:
    """One plugin as ``GET /api/v1/plugins`` and ``echoctl plugins`` show it; never a secret."""

    name: str
    version: str
    status: str
    """``loaded``, ``disabled`` or ``failed``."""
    reason: str = ""
    provides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Spec names by kind: ``storage``, ``transcoder``, ``step``, ``event_handler``, ``routes``, ``commands``."""
    capabilities: JsonObject = field(default_factory=dict)
    selected: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SignIn:
    """What supabase-js is created with, as everybody may know it. ``url`` None: nobody keeps users."""

    url: str | None = None
    key: str = ""


NO_BUDGETS = Budgets(per_video_usd=0.0, per_day_usd=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class AISetup:
    """Which AI providers serve what, in order, and what they may cost; ``accept``: whether suggestions for untouched
    fields are taken over by themselves."""

    serving: Mapping[Capability, tuple[str, ...]] = field(default_factory=dict)
    translate_to: tuple[str, ...] = ()
    accept: bool = True
    budgets: Budgets = NO_BUDGETS


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadServices:
    """What completing an upload needs, in the API and in a worker. ``storage_name`` is ``storage.backend``."""

    storage: StorageBackend
    storage_name: str
    pipeline: Pipeline
    limits: Limits
    clock: Clock


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiServices(UploadServices):
    """Everything that the API's use cases need."""

    units_of_work: UserUnitsOfWork
    tokens: Tokens
    plugins: tuple[PluginReport, ...] = ()
    sign_in: SignIn = SignIn()
    ai: AISetup = AISetup()
    embedder: QuestionEmbedder | None = None
    """None: search is by words alone."""
