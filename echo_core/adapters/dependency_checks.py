"""Each thing that an instance needs, tried one by one from this process: what ``echoctl doctor`` begins with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from redis.asyncio import Redis
from redis.exceptions import RedisError

from echo_core.adapters.addresses import Addresses, addresses, plugin_url
from echo_core.adapters.plugin_registry import PluginRegistry
from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.migrate import pending
from echo_core.adapters.postgres.schema import check_schema
from echo_core.adapters.settings import Settings
from echo_core.application.health import DependencyCheck
from echo_core.plugin_api.ai import Capability
from echo_core.plugin_api.errors import EchoError, UnavailableError
from echo_core.plugin_api.storage import StorageFinding

TIMEOUT_S = 20.0
"""Loading a transcoder for the first time, on a slow disk, takes seconds; more means that it hangs."""


async def check_dependencies(settings: Settings, registry: PluginRegistry, secret: bytes) -> Sequence[DependencyCheck]:
    """Database, Redis, storage, transcoder, the AI providers that are named and, where there is one, the identity, in
    this order; none can raise."""

    def where() -> Addresses:
        return addresses(settings, secret)

    async def database() -> str:
        if await pending(where().owner_url):
            raise UnavailableError(
                "Migrations are missing.", code="migrations_pending", remedy="Run 'echoctl migrate'."
            )
        for url in (where().api_url, where().worker_url):
            async with open_engine(
                url,
                application_name="echo doctor",
                pool_size=1,
                transaction_pooling=settings.database.transaction_pooling,
            ) as engine:
                await check_schema(engine)
        return "answers for the API's and the worker's role, migrations are up to date"

    async def redis() -> str:
        client = Redis.from_url(where().redis_url, socket_timeout=5, socket_connect_timeout=5)
        try:
            facts = await client.info("server")
        except (RedisError, OSError) as error:
            raise UnavailableError(
                f"Redis does not answer: {error}.", remedy="Start it, or correct redis.url."
            ) from error
        finally:
            await client.aclose()
        return f"{facts.get('server_name', 'redis')} {facts.get('valkey_version', facts.get('redis_version', ''))}"

    async def transcoder() -> str:
        async with registry.open_transcoder() as opened:
            health = await opened.check()
        told = [f"{name} {value}" for name, value in health.facts.items() if isinstance(value, str | int | float)]
        return "; ".join([settings.transcoder.backend, *told, *health.warnings])

    async def identity() -> str:
        found = registry.find_identity()
        if found is None:
            return "tokens come from elsewhere"
        url = plugin_url(settings, where(), secret, found[0])
        async with (
            open_engine(
                url,
                application_name="echo doctor",
                pool_size=1,
                transaction_pooling=settings.database.transaction_pooling,
            ) as engine,
            registry.open_identity(engine) as opened,
        ):
            await opened.check()
        return f"{settings.identity}, its tables can be read"

    tried = [*await _try("database", database), *await _try("redis", redis)]
    tried += await check_storage(registry, settings.storage.backend)
    tried += await _try("transcoder", transcoder)
    for name in registry.settings.ai.providers:
        tried += await _try(f"AI {name}", partial(_provider, registry, name))
    if settings.identity:
        tried += await _try("identity", identity)
    return tried


async def _provider(registry: PluginRegistry, name: str) -> str:
    async with registry.open_ai_provider(name) as opened:
        lacks = await opened.check()
    serves = [capability.value for capability in Capability if name in registry.settings.ai.serving(capability)]
    return "; ".join([f"serves {', '.join(serves)}", *lacks])


async def check_storage(registry: PluginRegistry, name: str) -> Sequence[DependencyCheck]:
    """Whether the selected storage, of this name, can be used, and what it finds of its own setup; does not raise."""

    async def used() -> str:
        async with registry.open_storage() as backend:
            await backend.check()
            free_bytes = (await backend.usage()).free_bytes
        return name + (f", {free_bytes / 1e9:.1f} GB free" if free_bytes is not None else "")

    async def examined() -> Sequence[StorageFinding]:
        async with registry.open_storage() as backend:
            return [replace(found, name=f"storage {found.name}") for found in await backend.examine()]

    (use,) = await _try("storage", used)
    return [use, *await _try("storage setup", examined)] if use.ok else [use]


async def _try(name: str, check: Callable[[], Awaitable[str | Sequence[StorageFinding]]]) -> Sequence[DependencyCheck]:
    """What it was, as one check of that name, or each thing that was found."""
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            told = await check()
        found = [StorageFinding(name=name, ok=True, detail=told)] if isinstance(told, str) else told
    except TimeoutError:
        found = [_failed(name, f"No answer within {TIMEOUT_S:g} s.", "Look at its log; restart it if it hangs.")]
    except EchoError as error:
        found = [_failed(name, error.message, error.remedy)]
    except Exception as error:  # a doctor tells of whatever it finds
        remedy = "This is a defect of the plugin or of Echo; report it."
        found = [_failed(name, f"{type(error).__name__}: {error}", remedy)]
    seconds = round((time.perf_counter() - begun) / max(1, len(found)), 3)
    return [
        DependencyCheck(
            name=one.name,
            ok=one.ok if one.known else None,
            detail=one.detail,
            remedy=one.remedy,
            seconds=seconds,
        )
        for one in found
    ]


def _failed(name: str, detail: str, remedy: str) -> StorageFinding:
    return StorageFinding(name=name, ok=False, detail=detail, remedy=remedy)
