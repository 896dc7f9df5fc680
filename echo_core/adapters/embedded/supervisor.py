"""``echoctl up``: everything that Echo needs, as children of one process, kept alive until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psutil  # type: ignore[import-untyped]

from echo_core.adapters.embedded.child import Child
from echo_core.adapters.embedded.datadir import DataDir, Instance
from echo_core.adapters.embedded.errors import PortTakenError
from echo_core.adapters.embedded.keeper import Keeper
from echo_core.adapters.embedded.leftovers import forget_children, note_child, stop_leftovers
from echo_core.adapters.embedded.ports import listen_error
from echo_core.adapters.embedded.programs import Program, healthz_url
from echo_core.adapters.embedded.services import STOP_GRACE_S, Server, ServiceAddresses, servers_of
from echo_core.adapters.settings import Settings

PROGRAM_GRACE_S = 5.0  # beyond the grace that the worker itself gives its steps
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NAME_WIDTH = 8  # of the column before the lines on the console


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the console is what it is for


@dataclass(frozen=True, kw_only=True)
class Up:
    """What to run. ``environment`` is what the children get, the addresses of the servers added.

    ``migrate`` is awaited once, when the servers answer and before the programs start; ``ready`` is called when all
    runs. ``console`` gets each line for people, without its newline: our own and those of the programs.
    """

    settings: Settings
    api: Sequence[str]
    worker: Sequence[str]
    environment: Mapping[str, str]
    migrate: Callable[[ServiceAddresses], Awaitable[None]]
    console: Callable[[str], None] = _print
    ready: Callable[[Instance], None] = field(default=lambda _: None)
    fsync: bool = True


async def run_up(up: Up) -> None:
    """Run until SIGINT, SIGTERM or SIGHUP (the second one hurries), or until cancelled; then leave no process behind.

    Call it on the main thread's loop: signals arrive there, and the children die with the thread that started them.

    Raises:
        AlreadyRunningError: Another process runs with this ``data_dir``.
        DataDirError: ``data_dir`` cannot be used.
        PortTakenError: Somebody else listens where the API should.
        StartFailedError: A server or the API did not come up. After that, whatever dies is started again.
    """
    await Supervisor(up).run()


class Supervisor:
    """One run of ``up``."""

    def __init__(self, up: Up) -> None:
        self._up = up
        self._data_dir = DataDir(up.settings.data_dir)
        self._hurry = asyncio.Event()
        self._told_to_stop = False

    async def run(self) -> None:
        """See ``run_up``."""
        await asyncio.to_thread(self._data_dir.prepare)
        with self._data_dir.held():
            serving = asyncio.create_task(self._serve(), name="up")
            with self._signals(serving):
                try:
                    await serving
                except asyncio.CancelledError:
                    if not self._told_to_stop:
                        raise
                except ExceptionGroup as errors:
                    if len(errors.exceptions) == 1:
                        raise errors.exceptions[0] from None
                    raise
            forget_children(self._data_dir)
            self._say("stopped")

    def stop(self) -> None:
        """Stop in order; called again, hurry."""
        if self._told_to_stop:
            self._say("hurrying")
            self._hurry.set()
            return
        self._told_to_stop = True
        self._say("stopping; once more to hurry")

    @contextmanager
    def _signals(self, serving: asyncio.Task[None]) -> Iterator[None]:
        def heard() -> None:
            self.stop()
            if not self._hurry.is_set():
                serving.cancel()

        loop = asyncio.get_running_loop()
        numbers = STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ()
        for number in numbers:
            loop.add_signal_handler(number, heard)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def _serve(self) -> None:
        up, data_dir = self._up, self._data_dir
        await stop_leftovers(data_dir, self._say)
        await self._check_port()
        servers = servers_of(up.settings, data_dir, fsync=up.fsync)
        async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
            for server in (servers.postgres, servers.valkey):
                if server is not None:
                    self._say(f"starting {server.name}")
                    await stack.enter_async_context(self._kept(group, STOP_GRACE_S, server))
            addresses = servers.addresses
            await up.migrate(addresses)
            # Before the API answers: whoever waited for it may ask echoctl at once.
            instance = stack.enter_context(
                data_dir.announced(
                    public_url=up.settings.public_url,
                    database_url=addresses.database_url,
                    redis_url=addresses.redis_url,
                )
            )
            grace_s = up.settings.worker.shutdown_grace_s + PROGRAM_GRACE_S
            await stack.enter_async_context(self._kept(group, grace_s, *self._programs(addresses)))
            self._say(f"Echo runs at {up.settings.public_url}")
            up.ready(instance)
            await asyncio.Event().wait()

    def _programs(self, addresses: ServiceAddresses) -> tuple[Program, ...]:
        env = {**self._up.environment, **addresses.environment}

        def program(name: str, argv: Sequence[str], health_url: str | None = None) -> Program:
            return Program(
                name,
                argv,
                env=env,
                data_dir=self._data_dir,
                relay=lambda line: self._show(name, line),
                health_url=health_url,
            )

        return (
            program("api", self._up.api, healthz_url(self._up.settings.http)),
            program("worker", self._up.worker),
        )

    @asynccontextmanager
    async def _kept(self, group: asyncio.TaskGroup, grace_s: float, *servers: Server) -> AsyncIterator[None]:
        """Start the servers one after the other, keep them alive within the block, then stop them all at once."""
        keepers: list[Keeper] = []
        try:
            for server in servers:
                child = await server.start()
                keeper = Keeper(server, child, started=self._note, say=self._say)
                keepers.append(keeper)
                self._note(child)
                keeper.begin(group)
            yield
        finally:
            await asyncio.gather(*(keeper.stop(grace_s, self._hurry) for keeper in keepers))

    def _note(self, child: Child) -> None:
        with suppress(OSError):  # on a full disk it runs on; only a later run would not find it
            note_child(self._data_dir, child)

    async def _check_port(self) -> None:
        http = self._up.settings.http
        error = await asyncio.to_thread(listen_error, http.port, http.host)
        if error is None:
            return
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = f"{await asyncio.to_thread(_listener, http.port) or 'another program'} listens there"
        raise PortTakenError(
            f"Echo cannot listen on {http.host}:{http.port}: {reason}.",
            "Choose another address (http.host and http.port in echo.toml, or ECHO_HTTP__PORT), or free this one.",
        )

    def _say(self, line: str) -> None:
        self._show("echo", line)
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        with suppress(OSError), self._data_dir.log("up").open("a", encoding="utf-8") as log:
            log.write(f"{stamp} {line}\n")

    def _show(self, name: str, line: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that is gone or knows no such letter; there are the logs
            self._up.console(f"{name:<{NAME_WIDTH}}| {line}")


def _listener(port: int) -> str | None:
    """Who listens on the port, as far as this user may know."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return None
