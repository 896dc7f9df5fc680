"""Each thing that an instance needs, tried one by one from this process: what ``echoctl doctor`` begins with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
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
from echo_core.plugin_api.errors import EchoError, UnavailableError

TIMEOUT_S = 20.0
"""Loading a transcoder for the first time, on a slow disk, takes seconds; more means that it hangs."""


async def check_dependencies(settings: Settings, registry: PluginRegistry, secret: bytes) -> Sequence[DependencyCheck]:
    """Database, Redis, storage, transcoder and, where there is one, the identity, in this order; none can raise."""

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

    async def storage() -> str:
        async with registry.open_storage() as backend:
            await backend.check()
            free_bytes = (await backend.usage()).free_bytes
        return settings.storage.backend + (f", {free_bytes / 1e9:.1f} GB free" if free_bytes is not None else "")

    async def examined() -> Sequence[DependencyCheck]:
        begun = time.perf_counter()
        async with asyncio.timeout(TIMEOUT_S), registry.open_storage() as backend:
            findings = await backend.examine()
        seconds = round((time.perf_counter() - begun) / max(1, len(findings)), 3)
        return [
            DependencyCheck(
                name=f"storage {found.name}", ok=found.ok, detail=found.detail, remedy=found.remedy, seconds=seconds
            )
            for found in findings
        ]

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

    checks = {"database": database, "redis": redis, "storage": storage, "transcoder": transcoder}
    if settings.identity:
        checks["identity"] = identity
    tried: list[DependencyCheck] = []
    for name, check in checks.items():
        tried.append(await _try(name, check))
        if name == "storage" and tried[-1].ok:
            try:
                tried += await examined()
            except (EchoError, TimeoutError) as error:
                tried.append(await _try("storage setup", partial(_raise, error)))
    return tried


async def _raise(error: Exception) -> str:
    raise error


async def _try(name: str, check: Callable[[], Awaitable[str]]) -> DependencyCheck:
    begun = time.perf_counter()
    detail, remedy, ok = "", "", False
    try:
        async with asyncio.timeout(TIMEOUT_S):
            detail, ok = await check(), True
    except TimeoutError:
        detail, remedy = f"No answer within {TIMEOUT_S:g} s.", "Look at its log; restart it if it hangs."
    except EchoError as error:
        detail, remedy = error.message, error.remedy
    except Exception as error:  # a doctor tells of whatever it finds
        detail, remedy = f"{type(error).__name__}: {error}", "This is a defect of the plugin or of Echo; report it."
    return DependencyCheck(
        name=name, ok=ok, detail=detail, remedy=remedy, seconds=round(time.perf_counter() - begun, 3)
    )
