"""Specs: what hooks return. Frozen and keyword-only; new fields come with defaults, so that old plugins keep loading.

Every ``open`` gets a ``PluginContext`` whose ``config`` is an instance of the spec's ``config_model``, validated
beforehand from ``[plugins.<plugin>]``. Import heavy packages inside ``open``, not at the top of the plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from echo_core.plugin_api.ai import AIProvider
from echo_core.plugin_api.context import PluginContext
from echo_core.plugin_api.events import EventHandler
from echo_core.plugin_api.identity import IdentityContext, IdentityProvider, Migration
from echo_core.plugin_api.needs import Needs
from echo_core.plugin_api.steps import Resource, RetryPolicy, StepHandler, StepOutlook
from echo_core.plugin_api.storage import StorageBackend
from echo_core.plugin_api.transcoder import Transcoder

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from typer import Typer


class NoConfig(BaseModel):
    """The configuration of a plugin that has none: any key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, kw_only=True)
class StorageSpec:
    """A storage backend; selected by ``storage.backend = "<name>"``.

    ``browser_origins``: where its signed URLs point, if not at Echo's public address, such as
    ``("https://storage.example",)``, or what tells that from the configuration; the policy of Echo's pages lets them
    read and write there and nowhere else. The storage itself must allow them too (CORS).
    """

    name: str
    open: Callable[[PluginContext], AbstractAsyncContextManager[StorageBackend]]
    config_model: type[BaseModel] = NoConfig
    description: str = ""
    capabilities: frozenset[str] = frozenset()
    browser_origins: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = ()


@dataclass(frozen=True, kw_only=True)
class TranscoderSpec:
    """A transcoder; selected by ``transcoder.backend = "<name>"``."""

    name: str
    open: Callable[[PluginContext], AbstractAsyncContextManager[Transcoder]]
    config_model: type[BaseModel] = NoConfig
    description: str = ""
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class AIProviderSpec:
    """An AI provider; ``[ai]`` names it for each of its ``capabilities`` (values of ``Capability``).

    ``limitations``: sentences that say plainly what it cannot do, for people who choose. ``memory_bytes``: what one
    request takes on the worker's machine at most, so that it only starts where that is to be had.
    """

    name: str
    open: Callable[[PluginContext], AbstractAsyncContextManager[AIProvider]]
    capabilities: frozenset[str]
    config_model: type[BaseModel] = NoConfig
    description: str = ""
    limitations: tuple[str, ...] = ()
    memory_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class IdentitySpec:
    """An identity; selected by ``auth.identity = "<name>"`` unless tokens come from another issuer.

    ``migrations``: its tables, in order. ``echoctl migrate`` runs them in a schema ``echo_<plugin>``, which only a
    login role of that name may use.
    """

    name: str
    open: Callable[[IdentityContext], AbstractAsyncContextManager[IdentityProvider]]
    migrations: tuple[Migration, ...] = ()
    config_model: type[BaseModel] = NoConfig
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """A pipeline step. An ``optional`` one that fails never keeps a video from being ready.

    ``weight`` is its expected share of work, in seconds per second of media, until real runs have taught better.
    ``name`` has no dot. ``further``: no job begins with it; other steps add it (``StepResult.further``) and say what it
    consumes, produces and waits for.
    """

    name: str
    open: Callable[[PluginContext], AbstractAsyncContextManager[StepHandler]]
    consumes: tuple[str, ...] = ("source",)
    produces: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    resource: Resource = Resource.LIGHT
    timeout_s: float = 600.0
    timeout_per_media_s: float = 0.0
    """Added to ``timeout_s`` for each second of media."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    optional: bool = True
    weight: float = 0.05
    needs: Callable[[StepOutlook], Needs] | None = None
    """What a run will take, so that it only starts where that is to be had. Called before every run; pure and quick.
    None: next to nothing."""
    config_model: type[BaseModel] = NoConfig
    description: str = ""
    further: bool = False


@dataclass(frozen=True, kw_only=True)
class EventHandlerSpec:
    """A handler for committed events. ``types``: event types, or prefixes that end in ``.``; empty: all."""

    name: str
    open: Callable[[PluginContext], AbstractAsyncContextManager[EventHandler]]
    types: tuple[str, ...] = ()
    timeout_s: float = 10.0
    config_model: type[BaseModel] = NoConfig
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class RoutesSpec:
    """HTTP routes, mounted at ``/plugins/<plugin>``, inside the kernel's error handling, logs and metrics.

    ``auth="user"``: the kernel lets only authenticated callers in, and ``request.state.user`` is theirs.
    ``auth="none"``: the routes check for themselves (signed URLs). Handlers find the opened storage backend at
    ``request.state.storage``, and at ``request.state.upload_hints`` an ``UploadHints``, for a storage that tells by
    itself which objects have arrived.
    """

    routes: Sequence[BaseRoute]
    auth: Literal["user", "none"] = "user"


@dataclass(frozen=True, kw_only=True)
class CommandsSpec:
    """Commands, reachable as ``echoctl <name> …``; without a name, as ``echoctl <plugin> …``.

    They find the ``PluginContext``, its ``config`` an instance of ``config_model``, at ``typer.Context.obj``. One that
    sets ``context.meta["echo.json"] = True`` has its errors printed as JSON, too.
    """

    app: Typer
    name: str = ""
    config_model: type[BaseModel] = NoConfig
