"""A PostgreSQL of our own, straight from the wheel's programs: our child, not a daemon that pg_ctl let go."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import asyncpg

from echo_core.adapters.embedded.child import Child, Command
from echo_core.adapters.embedded.cluster import SECRET, SUPERUSER, Cluster, explain, prepare_cluster
from echo_core.adapters.embedded.datadir import DataDir
from echo_core.adapters.embedded.errors import StartFailedError
from echo_core.adapters.embedded.ports import LOOPBACK, choose_port

DATABASE = "echo"
READY_TIMEOUT_S = 300.0  # after a crash it first replays its log, which may be 1 GB (max_wal_size)
CONNECT_TIMEOUT_S = 5.0
POLL_S = 0.02
PORT_ATTEMPTS = 3
NOT_YET = (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError, asyncpg.TooManyConnectionsError)


class EmbeddedPostgres:
    """One PostgreSQL under ``data_dir``, on the loopback interface only, with one superuser behind a password.

    ``fsync=False`` trades the safety of the data against power cuts for speed: for tests.
    """

    name = "postgres"

    def __init__(self, data_dir: DataDir, *, fsync: bool = True) -> None:
        self._data_dir = data_dir
        self._fsync = fsync
        self._port: int | None = None
        self._password = ""

    @property
    def url(self) -> str:
        """``postgresql://…/echo``, the superuser's; known after the first ``start`` and the same ever after."""
        # Without sslmode a driver looks for keys in the home directory, which a service's user may not even read.
        return f"postgresql://{SUPERUSER}:{self._password}@{LOOPBACK}:{self._port}/{DATABASE}?sslmode=disable"

    async def start(self) -> Child:
        """Start it and wait until it answers. Once it had a port, it starts on that port or not at all.

        Raises:
            DataDirError: The data cannot be used.
            StartFailedError: It ended, or did not answer in time.
        """
        cluster = await prepare_cluster(self._data_dir, fsync=self._fsync)
        if self._port is not None:
            return await self._start(cluster, self._port)
        self._password = self._data_dir.secret(SECRET)
        remembered: object = self._data_dir.read_run("postgres.json").get("port")
        for attempt in range(PORT_ATTEMPTS):
            port = choose_port(remembered)
            try:
                child = await self._start(cluster, port)
            except StartFailedError as error:
                if "could not bind" not in error.message or attempt + 1 == PORT_ATTEMPTS:
                    raise
                continue
            self._port = port
            self._data_dir.write_run("postgres.json", {"port": port})
            return child
        raise AssertionError("unreachable")

    async def _start(self, cluster: Cluster, port: int) -> Child:
        child = await Child.spawn(self._command(cluster, port))
        try:
            await self._wait_ready(child, port)
        except BaseException:
            await child.kill()
            raise
        return child

    def _command(self, cluster: Cluster, port: int) -> Command:
        settings = {"listen_addresses": LOOPBACK, "port": str(port), "unix_socket_directories": ""}
        if not self._fsync:  # synchronous_commit stays on: without it a killed server loses commits, in tests as well
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return Command(
            name=self.name,
            argv=[
                *(str(cluster.bin / "postgres"), "-D", str(cluster.path)),
                *(argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")),
            ],
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            cwd=cluster.path,
            log=self._data_dir.log(self.name),
            identity=cluster.identity,
            stop_signal=signal.SIGINT,  # fast shutdown: sessions are ended, a checkpoint is written
            hurry_signal=signal.SIGQUIT,  # immediate shutdown: the next start replays the log
            death_signal=signal.SIGQUIT,  # so that its own children end with it, which they would notice later
        )

    async def _wait_ready(self, child: Child, port: int) -> None:
        """Wait until it lets us in with our password: that proves that it is ours, and that our database exists."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while child.exit_code is None:
                    with suppress(*NOT_YET):
                        await self._ensure_database(port)
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            pass
        except asyncpg.InvalidAuthorizationSpecificationError as error:
            raise StartFailedError(
                f"PostgreSQL refuses Echo's password: {error}",
                f"Delete {self._data_dir.secrets / SECRET} and start again: Echo then sets a new password.",
            ) from error
        tail = child.tail
        raise StartFailedError(f"PostgreSQL did not start on port {port}:\n{tail}", explain(tail, child.command.log))

    async def _ensure_database(self, port: int) -> None:
        connection = await asyncpg.connect(
            host=LOOPBACK,
            port=port,
            user=SUPERUSER,
            password=self._password,
            database="postgres",
            ssl=False,
            timeout=CONNECT_TIMEOUT_S,
        )
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            await connection.close()
