"""The only place that wires everything together: settings to adapters, adapters to use cases.

Entrypoints come here for whatever they need; nothing below imports this module. ``open_api`` and ``open_worker`` are
the two compositions, each an async context manager that closes all that it opened. It is longer than a module should
be because it has to be one: what is wired where is looked up here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from arq import ArqRedis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine
from typer import Typer

from echo_core.adapters import settings_sources
from echo_core.adapters.addresses import (
    API_ROLE,
    WORKER_ROLE,
    Addresses,
    addresses,
    plugin_role,
    plugin_url,
    role_password,
)
from echo_core.adapters.arq_queue import ArqDoorbell, ArqListener, open_arq
from echo_core.adapters.clock import SystemClock
from echo_core.adapters.limits import limits_of, rate_policies_of
from echo_core.adapters.logs import configure_logging
from echo_core.adapters.plugin_registry import PluginRegistry
from echo_core.adapters.postgres.ai_calls import PostgresApiLedger
from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.schema import SchemaError, check_schema
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork, PostgresWorkerUnitsOfWork
from echo_core.adapters.priority import lower_priority
from echo_core.adapters.redaction import secrets_in
from echo_core.adapters.redis_events import RedisEventBus, RedisEventSource
from echo_core.adapters.redis_metrics import RedisStepMetrics
from echo_core.adapters.redis_rate_limits import RedisSharedCounts
from echo_core.adapters.redis_tickets import RedisTicketStore
from echo_core.adapters.reservations import FileReservations
from echo_core.adapters.scratch import sweep, worker_scratch
from echo_core.adapters.sealing import AnswerSeal
from echo_core.adapters.secrets import derive_key, load_instance_secret
from echo_core.adapters.settings import Settings
from echo_core.adapters.tokens import issue_embedded_token, open_tokens
from echo_core.adapters.web_build import find_web_build
from echo_core.application.admission import Admission
from echo_core.application.ai import AIProviders, UnusableProvider
from echo_core.application.commit_relay import CommitRelay, OpenedEventHandler
from echo_core.application.embedding import AIQuestionEmbedder, embed_steps
from echo_core.application.ending import end_tasks
from echo_core.application.engine import Engine
from echo_core.application.enriching import Enrichment, enrichment_steps
from echo_core.application.finding import UploadFinder
from echo_core.application.health import DependencyCheck, ReadinessCheck
from echo_core.application.lease_watch import EngineTiming
from echo_core.application.pipeline import Pipeline, RegisteredStep
from echo_core.application.ports import StoredTotals, WorkerUnitsOfWork
from echo_core.application.processing import process_steps
from echo_core.application.purging import purge_steps
from echo_core.application.rate_limiting import RateLimiter
from echo_core.application.realtime import Realtime, RealtimeHub
from echo_core.application.reconciling import Reconciler, ReconcilerTiming
from echo_core.application.services import AISetup, ApiServices, PluginReport, SignIn, UploadServices
from echo_core.application.storage_audit import Finding, StorageAudit, StorageAuditor
from echo_core.domain.ai_calls import Budgets
from echo_core.domain.ids import StepId, UserId
from echo_core.domain.users import User
from echo_core.plugin_api.ai import AIProvider, Capability
from echo_core.plugin_api.context import PluginContext
from echo_core.plugin_api.errors import EchoError, InsufficientStorageError, NotSupportedError, UnavailableError
from echo_core.plugin_api.events import Event
from echo_core.plugin_api.identity import IdentityProvider, LocalUser
from echo_core.plugin_api.specs import AIProviderSpec, EventHandlerSpec, NoConfig, RoutesSpec
from echo_core.plugin_api.steps import Resource, StepHandler
from echo_core.plugin_api.storage import StorageBackend
from echo_core.plugin_api.transcoder import Transcoder

if TYPE_CHECKING:
    from echo_core.application.storage_copy import CopiedObject, StorageCopy

log = structlog.get_logger("echo.bootstrap")

KERNEL = "kernel"


async def migrate_database(settings: Settings) -> None:
    """Bring the database up to date: tables, policies, roles and their passwords. Safe to run at any time."""
    secret = load_instance_secret(settings)
    await _migrate(settings, addresses(settings, secret).owner_url, secret)


async def _migrate(settings: Settings, owner_url: str, secret: bytes) -> None:
    # Here and below: what only one command needs is imported by it, so that API and worker start without it.
    from echo_core.adapters.postgres.migrate import migrate

    await migrate(
        owner_url,
        api_password=role_password(secret, API_ROLE),
        worker_password=role_password(secret, WORKER_ROLE),
    )
    if (found := _lenient_registry(settings).find_identity()) is not None:
        from echo_core.adapters.postgres.plugin_schemas import migrate_plugin

        plugin, spec = found
        role = plugin_role(plugin)
        await migrate_plugin(owner_url, role=role, password=role_password(secret, role), migrations=spec.migrations)


def migration_script(settings: Settings, *, start: str, logins: bool) -> str:
    """What ``migrate_database`` would do to a database at revision ``start``, as SQL; with ``logins`` the passwords of
    the login roles as well. Raises an ``EchoError``."""
    from echo_core.adapters.postgres.migration_sql import migration_sql

    found = _lenient_registry(settings).find_identity()
    plugins = {plugin_role(found[0]): found[1].migrations} if found is not None else {}
    passwords: dict[str, str] | None = None
    if logins:
        secret = load_instance_secret(settings)
        passwords = {role: role_password(secret, role) for role in (API_ROLE, WORKER_ROLE, *plugins)}
    return migration_sql(start=start, plugins=plugins, passwords=passwords)


async def up(settings: Settings, *, argv: Sequence[str], say: Callable[[str], None]) -> None:
    """Run servers, API and worker as children until told to stop. ``argv`` starts ``echoctl``; ``say`` prints a line.

    Raises ``EchoError`` (``already_running`` and others) when it cannot start.
    """
    from echo_core.adapters.console import condensed
    from echo_core.adapters.embedded.supervisor import Up, run_up

    _log_trouble_only(settings, "up")
    secret = load_instance_secret(settings)

    def show(line: str) -> None:
        if (short := condensed(line)) is not None:
            say(short)

    await run_up(
        Up(
            settings=settings,
            api=[*argv, "serve"],
            worker=[*argv, "worker"],
            environment=dict(os.environ),
            migrate=lambda where: _migrate(settings, where.database_url, secret),
            console=show,
        )
    )


def kernel_steps(settings: Settings, enrichment: Enrichment | None = None) -> tuple[RegisteredStep, ...]:
    """The steps that the kernel itself brings to a processing job; with ``enrichment`` those of AI can also be run."""
    specs = process_steps(
        max_duration_s=settings.transcoder.max_duration_s,
        segment_s=settings.transcoder.segment_s,
        short_sides=settings.transcoder.short_sides,
    )
    specs += enrichment_steps(
        transcribes=bool(settings.ai.transcribe),
        describes=bool(settings.ai.describe),
        translates=bool(settings.ai.translate and settings.ai.translate_to),
        enrichment=enrichment,
    )
    specs += embed_steps(embeds=bool(settings.ai.embed), enrichment=enrichment)
    return tuple(RegisteredStep(plugin=KERNEL, spec=spec) for spec in specs)


def ai_setup(settings: Settings) -> AISetup:
    """What the configuration says of AI."""
    ai = settings.ai
    return AISetup(
        serving={capability: ai.serving(capability) for capability in Capability},
        translate_to=ai.translate_to,
        accept=ai.accept_suggestions,
        budgets=Budgets(per_video_usd=ai.budget_per_video_usd, per_day_usd=ai.budget_per_day_usd),
    )


@asynccontextmanager
async def _opened_providers(
    registry: PluginRegistry, names: Sequence[str], setup: AISetup
) -> AsyncIterator[AIProviders]:
    """AI providers, opened. One that cannot be fails what asks it, and nothing else."""
    async with AsyncExitStack() as stack:
        opened: dict[str, AIProvider] = {}
        for name in names:
            try:
                opened[name] = await stack.enter_async_context(registry.open_ai_provider(name))
            except Exception as error:
                log.exception("ai.provider_unusable", provider=name)
                opened[name] = UnusableProvider(name, error)
        yield AIProviders(opened=opened, serving=setup.serving)


async def _open_enrichment(
    stack: AsyncExitStack, settings: Settings, registry: PluginRegistry, units_of_work: WorkerUnitsOfWork
) -> Enrichment:
    """What steps that ask AI providers work with."""
    setup = ai_setup(settings)
    memory_bytes: dict[str, int] = {spec.name: spec.memory_bytes for _, spec in registry.of_type(AIProviderSpec)}
    providers = _opened_providers(registry, settings.ai.providers, setup)
    return Enrichment(
        units_of_work=units_of_work,
        providers=await stack.enter_async_context(providers),
        budgets=setup.budgets,
        languages=setup.translate_to,
        accept=setup.accept,
        public_url=settings.public_url,
        memory_bytes=max((memory_bytes.get(name, 0) for name in settings.ai.transcribe), default=0),
    )


@dataclass(frozen=True, kw_only=True)
class Core:
    """What API and worker both have."""

    settings: Settings
    secret: bytes
    clock: SystemClock
    registry: PluginRegistry
    addresses: Addresses
    redis: ArqRedis
    bus: RedisEventBus
    doorbell: ArqDoorbell
    relay: CommitRelay


@asynccontextmanager
async def _open_core(settings: Settings) -> AsyncIterator[Core]:
    secret = load_instance_secret(settings)
    clock = SystemClock()
    registry = PluginRegistry.load(settings, secret=secret, clock=clock, kernel_steps=kernel_steps(settings))
    settings = registry.settings
    where = addresses(settings, secret)
    async with AsyncExitStack() as stack:
        redis = open_arq(where.redis_url)
        stack.push_async_callback(redis.aclose)
        bus = RedisEventBus(where.redis_url)
        stack.push_async_callback(bus.aclose)
        doorbell = ArqDoorbell(redis)
        handlers = [
            OpenedEventHandler(
                plugin=entry.plugin,
                spec=entry.spec,
                handler=await stack.enter_async_context(registry.open_event_handler(entry)),
            )
            for entry in registry.event_handlers()
            if isinstance(entry.spec, EventHandlerSpec)
        ]
        relay = CommitRelay(bus=bus, doorbell=doorbell, handlers=handlers)
        await stack.enter_async_context(relay.running())
        yield Core(
            settings=settings,
            secret=secret,
            clock=clock,
            registry=registry,
            addresses=where,
            redis=redis,
            bus=bus,
            doorbell=doorbell,
            relay=relay,
        )


# --- the API -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Api:
    """What the HTTP application is made of."""

    settings: Settings
    services: ApiServices
    realtime: Realtime
    checks: Sequence[ReadinessCheck]
    step_metrics: RedisStepMetrics
    plugin_routes: Sequence[tuple[str, RoutesSpec]]
    identity: IdentityProvider | None
    rate_limiter: RateLimiter
    web_build: Path | None
    storage_origins: tuple[str, ...]


@asynccontextmanager
async def open_api(settings: Settings) -> AsyncIterator[Api]:
    """Open all that the API needs. Nothing has to be reachable yet: readiness tells what is missing."""
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(_open_core(settings))
        settings = core.settings
        engine = await stack.enter_async_context(_engine(settings, core.addresses.api_url, "echo api"))
        await _refuse_other_schemas(engine)
        units_of_work = PostgresUserUnitsOfWork(engine, core.relay, AnswerSeal(derive_key(core.secret, "idempotency")))
        storage = await stack.enter_async_context(core.registry.open_storage())
        identity = await _open_identity(stack, settings, core.registry, core.addresses, core.secret)
        tokens = await stack.enter_async_context(
            open_tokens(
                settings,
                secret=core.secret,
                clock=core.clock,
                local_keys=identity.public_keys() if identity is not None else None,
            )
        )
        limits = limits_of(settings)
        embedder: AIQuestionEmbedder | None = None
        if settings.ai.embed:
            setup = ai_setup(settings)
            embedder = AIQuestionEmbedder(
                lambda: _opened_providers(core.registry, settings.ai.embed, setup),
                PostgresApiLedger(engine),
                setup.budgets,
            )
            stack.push_async_callback(embedder.aclose)
        services = ApiServices(
            units_of_work=units_of_work,
            storage=storage,
            storage_name=settings.storage.backend,
            tokens=tokens,
            pipeline=pipeline_of(settings, core.registry),
            limits=limits,
            clock=core.clock,
            plugins=core.registry.reports(),
            sign_in=SignIn(url=settings.auth_url, key=settings.auth_key),
            ai=ai_setup(settings),
            embedder=embedder,
        )
        tickets = RedisTicketStore(core.addresses.redis_url)
        stack.push_async_callback(tickets.aclose)
        counts = RedisSharedCounts(core.addresses.redis_url)
        stack.push_async_callback(counts.aclose)
        hub = RealtimeHub(
            units_of_work=units_of_work,
            source=RedisEventSource(core.addresses.redis_url),
            limits=limits,
            clock=core.clock,
        )
        yield Api(
            settings=settings,
            services=services,
            realtime=Realtime(hub=hub, tokens=tokens, tickets=tickets, limits=limits, clock=core.clock),
            checks=readiness_checks(core, engine, storage, identity),
            step_metrics=RedisStepMetrics(core.redis),
            plugin_routes=core.registry.of_type(RoutesSpec),
            identity=identity,
            rate_limiter=RateLimiter(counts, **rate_policies_of(settings)),
            web_build=find_web_build(settings),
            storage_origins=core.registry.storage_origins(),
        )


async def _open_identity(
    stack: AsyncExitStack, settings: Settings, registry: PluginRegistry, where: Addresses, secret: bytes
) -> IdentityProvider | None:
    if (found := registry.find_identity()) is None:
        return None
    url = plugin_url(settings, where, secret, found[0])
    database = await stack.enter_async_context(_engine(settings, url, "echo identity"))
    return await stack.enter_async_context(registry.open_identity(database))


def pipeline_of(
    settings: Settings,
    registry: PluginRegistry,
    units_of_work: WorkerUnitsOfWork | None = None,
    enrichment: Enrichment | None = None,
) -> Pipeline:
    """The pipeline of this instance; with ``units_of_work`` and ``enrichment`` its steps can also be run."""
    purge = tuple(RegisteredStep(plugin=KERNEL, spec=spec) for spec in purge_steps(units_of_work))
    return Pipeline.of((*kernel_steps(settings, enrichment), *registry.steps()), purge=purge)


async def _refuse_other_schemas(engine: AsyncEngine) -> None:
    """Raises ``SchemaError``. A database that is away is no reason not to start: readiness tells, and asks again."""
    with contextlib.suppress(UnavailableError):
        await check_schema(engine)


def readiness_checks(
    core: Core, engine: AsyncEngine, storage: StorageBackend, identity: IdentityProvider | None = None
) -> Sequence[ReadinessCheck]:
    """Each dependency by name. Without Redis the API serves on: work starts later and events are replayed. On a full
    storage it serves on as well: what is there can be watched."""

    async def ping() -> None:
        try:
            await core.redis.ping()
        except (RedisError, OSError) as error:
            raise UnavailableError("Redis does not answer.") from error

    async def room() -> None:
        free_bytes = (await storage.usage()).free_bytes
        if free_bytes is not None and free_bytes <= 0:
            raise InsufficientStorageError("Only the reserve is left: uploads are refused, playing goes on.")

    # Whoever has signed in goes on for as long as the token lives.
    signing_in = [ReadinessCheck(name="identity", check=identity.check, required=False)] if identity is not None else []
    return (
        ReadinessCheck(name="database", check=lambda: check_schema(engine)),
        ReadinessCheck(name="redis", check=ping, required=False),
        ReadinessCheck(name="storage", check=storage.check),
        ReadinessCheck(name="storage_room", check=room, required=False),
        *signing_in,
    )


# --- the worker --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WorkerProcess:
    """A worker, ready to run."""

    name: str
    slots: Mapping[Resource, int]
    engine: Engine
    reconciler: Reconciler
    listeners: Mapping[Resource, ArqListener]
    check_schema: Callable[[], Awaitable[None]]
    check_every_s: float

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set and running steps have ended or were released.

        Raises ``SchemaError`` when the database was migrated to what this code cannot work with; it stops likewise.
        """
        outdated: list[SchemaError] = []
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            engine = tasks.create_task(self.engine.run(ready=ready, stop=stop), name="engine")
            await ready.wait()
            helpers = [tasks.create_task(self.reconciler.run(), name="reconciler")]
            helpers += [tasks.create_task(self._watch_schema(stop, outdated), name="schema")]
            helpers += [tasks.create_task(listener.run(), name=f"rings {r}") for r, listener in self.listeners.items()]
            await engine
            await end_tasks(helpers)
        if outdated:
            raise outdated[0]

    async def _watch_schema(self, stop: asyncio.Event, outdated: list[SchemaError]) -> None:
        while True:
            await asyncio.sleep(self.check_every_s)
            try:
                await self.check_schema()
            except SchemaError as error:
                log.error("worker.outdated", error=error.message)
                outdated.append(error)
                stop.set()
                return
            except UnavailableError:
                continue  # the reconciler tells
            except Exception:
                log.exception("worker.schema_unknown")


@asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[WorkerProcess]:
    """Open all that a worker needs."""
    worker = settings.worker
    slots = {
        Resource.LIGHT: worker.light_slots,
        Resource.CPU: worker.cpu_slots,
        Resource.NET: worker.net_slots,
        Resource.AI: worker.ai_slots,
    }
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(_open_core(settings))
        settings = core.settings
        database = await stack.enter_async_context(_engine(settings, core.addresses.worker_url, "echo worker"))
        await _refuse_other_schemas(database)
        units_of_work = PostgresWorkerUnitsOfWork(database, core.relay)
        enrichment = await _open_enrichment(stack, settings, core.registry, units_of_work)
        pipeline = pipeline_of(settings, core.registry, units_of_work, enrichment)
        name, scratch = stack.enter_context(worker_scratch(settings.data_dir / "scratch"))
        storage = await stack.enter_async_context(core.registry.open_storage())
        transcoder = await stack.enter_async_context(core.registry.open_transcoder())
        await stack.enter_async_context(_looked_at(transcoder))
        engine = Engine(
            units_of_work=units_of_work,
            storage=storage,
            storage_name=settings.storage.backend,
            transcoder=transcoder,
            handlers=await _open_handlers(stack, core, pipeline),
            slots=slots,
            scratch=scratch,
            worker=name,
            bus=core.bus,
            metrics=RedisStepMetrics(core.redis),
            timing=EngineTiming(
                lease_s=worker.lease_s,
                heartbeat_s=worker.heartbeat_s,
                watch_s=worker.watch_s,
                shutdown_grace_s=worker.shutdown_grace_s,
            ),
            admission=_admission(settings, pipeline, storage=storage, transcoder=transcoder, scratch=scratch),
            scratch_reserve_bytes=worker.scratch_reserve_bytes,
            pipeline=pipeline,
        )
        reconciler = Reconciler(
            engine=engine,
            units_of_work=units_of_work,
            doorbell=core.doorbell,
            pipeline=pipeline,
            timing=ReconcilerTiming(
                every_s=worker.reconcile_s,
                ring_again_s=worker.ring_again_s,
                event_retention=timedelta(days=settings.realtime.event_retention_days),
            ),
            upload_finder=UploadFinder(
                services=UploadServices(
                    storage=storage,
                    storage_name=settings.storage.backend,
                    pipeline=pipeline,
                    limits=limits_of(settings),
                    clock=core.clock,
                ),
                units_of_work=units_of_work,
            ),
            sweep_scratch=partial(asyncio.to_thread, sweep, settings.data_dir / "scratch"),
        )
        listeners = _listeners(core, engine, slots)
        engine.on_slots_changed = lambda resource, free: listeners[resource].slots_changed(free)
        yield WorkerProcess(
            name=name,
            slots=slots,
            engine=engine,
            reconciler=reconciler,
            listeners=listeners,
            check_schema=partial(check_schema, database),
            check_every_s=worker.reconcile_s,
        )


@asynccontextmanager
async def _looked_at(transcoder: Transcoder) -> AsyncIterator[None]:
    """Meanwhile the transcoder is checked: what it lacks stands in the log, and the first video need not wait while it
    looks for its programs."""

    async def check() -> None:
        try:
            health = await transcoder.check()
        except EchoError as error:
            log.warning("transcoder.unusable", code=error.code, error=error.message, remedy=error.remedy)
        else:
            for warning in health.warnings:
                log.warning("transcoder.lacks", warning=warning)

    checking = asyncio.create_task(check(), name="transcoder check")
    try:
        yield
    finally:
        await end_tasks([checking])


def _admission(
    settings: Settings, pipeline: Pipeline, *, storage: StorageBackend, transcoder: Transcoder, scratch: Path
) -> Admission:
    return Admission(
        reservations=FileReservations(
            scratch,
            scratch_reserve_bytes=settings.worker.scratch_reserve_bytes,
            memory_reserve_bytes=settings.worker.memory_reserve_bytes,
        ),
        needs={e.spec.name: e.spec.needs for e in pipeline.every if e.spec.needs is not None},
        storage=storage,
        storage_name=settings.storage.backend,
        transcoder=transcoder,
        scratch=scratch,
    )


def _listeners(core: Core, engine: Engine, slots: Mapping[Resource, int]) -> Mapping[Resource, ArqListener]:
    return {
        resource: ArqListener(
            core.redis,
            resource,
            slots=slots[resource],
            free_slots=partial(engine.free_slots, resource),
            claim=partial(engine.claim_next, resource),
            poll_delay_s=core.settings.worker.poll_delay_s,
        )
        for resource in Resource
    }


async def _open_handlers(stack: AsyncExitStack, core: Core, pipeline: Pipeline) -> Mapping[str, StepHandler]:
    handlers: dict[str, StepHandler] = {}
    for entry in pipeline.every:
        manager = entry.spec.open(_kernel_context(core)) if entry.plugin == KERNEL else core.registry.open_step(entry)
        handlers[entry.spec.name] = await stack.enter_async_context(manager)
    return handlers


def _kernel_context(core: Core) -> PluginContext:
    return PluginContext(
        plugin=KERNEL,
        config=NoConfig(),
        data_dir=core.settings.data_dir,
        routes_url=core.settings.public_url,
        clock=core.clock,
        derive_key=lambda label: derive_key(core.secret, f"{KERNEL}:{label}"),
    )


def _engine(settings: Settings, url: str, name: str) -> AbstractAsyncContextManager[AsyncEngine]:
    database = settings.database
    return open_engine(
        url,
        application_name=name,
        pool_size=database.pool_size,
        statement_timeout_s=database.statement_timeout_s,
        connect_timeout_s=database.connect_timeout_s,
        transaction_pooling=database.transaction_pooling,
    )


# --- for the command line ----------------------------------------------------------------------------------------


def configure_process(settings: Settings, process: str) -> None:
    """Logs of a long-running process."""
    configure_logging(settings.log, process=process, secrets=secrets_in(settings))


def stand_back(settings: Settings) -> None:
    """Give the API precedence over this process, a worker's, on a busy machine. Cannot be undone."""
    lower_priority(settings.worker.nice)


def load_settings(config: Path | None = None) -> Settings:
    """All settings. Raises an ``EchoError`` that lists everything that is wrong."""
    return settings_sources.load_settings(config_path=config)


async def issue_token(settings: Settings, email: str, expires_in_s: int) -> str:
    """A bearer token for the user with that address: the identity's, else one who is created at need.

    Raises ``UnavailableError`` when the embedded database does not run, another ``EchoError`` when tokens come from
    elsewhere.
    """
    secret = load_instance_secret(settings)
    where = addresses(settings, secret)
    known = await _find_user(settings, where, secret, email)
    if known is not None:
        user = User(id=UserId(known.id), email=known.email)
        return issue_embedded_token(user, settings, secret, expires_in_s)
    async with (
        _engine(settings, where.worker_url, "echo token") as engine,
        PostgresWorkerUnitsOfWork(engine, _nobody).for_worker() as uow,
    ):
        user = await uow.local_users.get_or_add(email)
    return issue_embedded_token(user, settings, secret, expires_in_s)


async def _find_user(settings: Settings, where: Addresses, secret: bytes, email: str) -> LocalUser | None:
    """Whoever signs in with that address: a token for it has to stand for the same user."""
    async with AsyncExitStack() as stack:
        identity = await _open_identity(stack, settings, _lenient_registry(settings), where, secret)
        return await identity.find_user(email) if identity is not None else None


async def _nobody(events: Sequence[Event], rings: Sequence[tuple[StepId, Resource]]) -> None:
    """Nothing that this process commits has to be told."""


@asynccontextmanager
async def open_identity(settings: Settings) -> AsyncIterator[IdentityProvider]:
    """The identity of this instance. Raises an ``EchoError`` where it has none."""
    secret = load_instance_secret(settings)
    where = addresses(settings, secret)
    async with AsyncExitStack() as stack:
        identity = await _open_identity(stack, settings, _lenient_registry(settings), where, secret)
        if identity is None:
            raise NotSupportedError(
                "This instance keeps no users of its own: its tokens come from another issuer.",
                code="no_local_identity",
                remedy="Manage users where they are kept, or set auth.identity and leave auth.issuer empty.",
            )
        yield identity


def plugin_reports(settings: Settings) -> tuple[PluginReport, ...]:
    """Every installed plugin and what became of it. Refuses nothing: what is wrong shows as a reason."""
    return _lenient_registry(settings).reports()


def plugin_commands(settings: Settings, name: str) -> tuple[Typer, PluginContext] | None:
    """A plugin's commands of that name, and the context that they find in ``typer.Context.obj``."""
    return _lenient_registry(settings).find_commands(name)


async def check_dependencies(settings: Settings) -> Sequence[DependencyCheck]:
    """Everything that this instance needs, tried from here."""
    from echo_core.adapters import dependency_checks

    return await dependency_checks.check_dependencies(
        settings, _lenient_registry(settings), load_instance_secret(settings)
    )


def _log_trouble_only(settings: Settings, process: str) -> None:
    """What such a process does it says itself; its log, on standard error, has only what goes wrong."""
    quiet = "debug" if settings.log.level == "debug" else "warning"
    configure_logging(settings.log.model_copy(update={"level": quiet}), process=process, secrets=secrets_in(settings))


async def audit_storage(
    settings: Settings, *, fix: bool, older_than: timedelta, found: Callable[[Finding], None]
) -> StorageAudit:
    """Compare storage and database, with the worker's rights. Raises ``EchoError`` when one of them is away."""
    _log_trouble_only(settings, "storage audit")
    secret = load_instance_secret(settings)
    where = addresses(settings, secret)
    registry = _lenient_registry(settings)
    async with _engine(settings, where.worker_url, "echo audit") as engine, registry.open_storage() as storage:
        await check_schema(engine)
        auditor = StorageAuditor(
            units_of_work=PostgresWorkerUnitsOfWork(engine, _nobody),  # the reconciler finds what becomes ready
            storage=storage,
            storage_name=settings.storage.backend,
            fix=fix,
            older_than=older_than,
            found=found,
        )
        return await auditor.run()


async def copy_storage(
    settings: Settings,
    *,
    source: str,
    target: str,
    parallel: int,
    dry_run: bool,
    begun: Callable[[StoredTotals], None],
    told: Callable[[CopiedObject], None],
) -> StorageCopy:
    """Copy what rows name from one storage to another, with the worker's rights. Raises an ``EchoError`` when one of
    them cannot be opened, or the database is away."""
    from echo_core.application.storage_copy import NamedStorage, StorageCopier

    _log_trouble_only(settings, "storage copy")
    secret = load_instance_secret(settings)
    where = addresses(settings, secret)
    registry = _lenient_registry(settings)
    opening = [registry.open_storage(name) for name in (source, target)]
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(_engine(settings, where.worker_url, "echo copy"))
        await check_schema(engine)
        from_storage, to_storage = [await stack.enter_async_context(storage) for storage in opening]
        _, scratch = stack.enter_context(worker_scratch(settings.data_dir / "scratch"))
        copier = StorageCopier(
            units_of_work=PostgresWorkerUnitsOfWork(engine, _nobody),
            source=NamedStorage(name=source, backend=from_storage),
            target=NamedStorage(name=target, backend=to_storage),
            selected=settings.storage.backend,
            scratch=scratch,
            scratch_reserve_bytes=settings.worker.scratch_reserve_bytes,
            parallel=parallel,
            dry_run=dry_run,
            begun=begun,
            told=told,
        )
        return await copier.run()


def _lenient_registry(settings: Settings) -> PluginRegistry:
    secret = load_instance_secret(settings)
    return PluginRegistry.load(
        settings, secret=secret, clock=SystemClock(), kernel_steps=kernel_steps(settings), strict=False
    )


def local_url(settings: Settings) -> str:
    """Where the API of these settings listens on this machine."""
    host = settings.http.host
    everywhere = host in {"0.0.0.0", "::"}  # noqa: S104 - what was configured, not what we choose
    return f"http://{'127.0.0.1' if everywhere else host}:{settings.http.port}"
