"""The embedded servers for the length of a block: what tests and one-off commands use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from echo_core.adapters.embedded.child import Child
from echo_core.adapters.embedded.datadir import DataDir
from echo_core.adapters.embedded.leftovers import forget_children, note_child, stop_leftovers
from echo_core.adapters.embedded.postgres import EmbeddedPostgres
from echo_core.adapters.embedded.valkey import EmbeddedValkey
from echo_core.adapters.settings import Settings

EMBEDDED = "embedded"
STOP_GRACE_S = 30.0  # PostgreSQL writes its checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceAddresses:
    """Where PostgreSQL and Redis are, embedded or not. The URLs carry passwords."""

    database_url: str
    redis_url: str

    @property
    def environment(self) -> Mapping[str, str]:
        """The same as settings in the environment of a child."""
        return {"ECHO_DATABASE__URL": self.database_url, "ECHO_REDIS__URL": self.redis_url}


class Server(Protocol):
    """What has a child and can start it, again and again."""

    @property
    def name(self) -> str:
        """Its name in messages and logs."""
        ...

    async def start(self) -> Child:
        """Start it and wait until it is ready."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedServers:
    """The servers that the settings ask for; None where they name a server of their own."""

    postgres: EmbeddedPostgres | None
    valkey: EmbeddedValkey | None
    settings: Settings

    @property
    def addresses(self) -> ServiceAddresses:
        """Where they are, once they were started."""
        return ServiceAddresses(
            database_url=self.postgres.url if self.postgres else self.settings.database.url.get_secret_value(),
            redis_url=self.valkey.url if self.valkey else self.settings.redis.url.get_secret_value(),
        )


def servers_of(settings: Settings, data_dir: DataDir, *, fsync: bool) -> EmbeddedServers:
    """The servers that these settings ask for, none of them started."""
    return EmbeddedServers(
        postgres=EmbeddedPostgres(data_dir, fsync=fsync)
        if settings.database.url.get_secret_value() == EMBEDDED
        else None,
        valkey=EmbeddedValkey(data_dir) if settings.redis.url.get_secret_value() == EMBEDDED else None,
        settings=settings,
    )


@asynccontextmanager
async def embedded_services(
    settings: Settings, *, fsync: bool = True, say: Callable[[str], None] = lambda _: None
) -> AsyncIterator[ServiceAddresses]:
    """Run the embedded servers that the settings ask for, as children of this thread, until the block ends.

    They hold ``data_dir``, are not restarted when they die, and end when this process dies. ``fsync=False`` makes them
    faster and their data unsafe: for tests.

    Raises:
        AlreadyRunningError: Another process runs with this ``data_dir``.
        DataDirError: ``data_dir`` cannot be used.
        StartFailedError: A server did not come up.
    """
    data_dir = DataDir(settings.data_dir)
    data_dir.prepare()
    servers = servers_of(settings, data_dir, fsync=fsync)
    async with AsyncExitStack() as stack:
        stack.enter_context(data_dir.held())
        await stop_leftovers(data_dir, say)
        stack.callback(forget_children, data_dir)
        for server in (servers.postgres, servers.valkey):
            if server is not None:
                child = await server.start()
                stack.push_async_callback(child.stop, STOP_GRACE_S)
                note_child(data_dir, child)
        yield servers.addresses
