"""A Valkey of our own, straight from the wheel's program.

It keeps nothing: no snapshot, no append-only file. All that Echo puts there is a doorbell for a row in PostgreSQL or an
event that its reader fetches again from there, and the reconciler rings again for whatever was not heard. Yesterday's
doorbells, loaded at start, would only ring for work that is done.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import redis.asyncio
import redis.exceptions

from echo_core.adapters.embedded.binaries import valkey_server
from echo_core.adapters.embedded.child import Child, Command
from echo_core.adapters.embedded.datadir import DataDir, write_private
from echo_core.adapters.embedded.errors import StartFailedError
from echo_core.adapters.embedded.identity import able_to_reach, give_tree, server_user
from echo_core.adapters.embedded.ports import LOOPBACK, choose_port

READY_TIMEOUT_S = 30.0
POLL_S = 0.01
PORT_ATTEMPTS = 3
# noeviction: a doorbell that vanished silently would be worse than an error; the bound turns a leak into that error
# rather than into a machine without memory. A doorbell is about 300 bytes.
MAX_MEMORY = "256mb"


class EmbeddedValkey:
    """One Valkey under ``data_dir``, on the loopback interface only, behind a password."""

    name = "valkey"

    def __init__(self, data_dir: DataDir) -> None:
        self._data_dir = data_dir
        self._port: int | None = None
        self._password = ""

    @property
    def url(self) -> str:
        """``redis://…``; known after the first ``start`` and the same ever after."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    async def start(self) -> Child:
        """Start it and wait until it answers. Once it had a port, it starts on that port or not at all.

        Raises:
            StartFailedError: It ended, or did not answer in time.
        """
        if self._port is not None:
            return await self._start(self._port)
        self._password = self._data_dir.secret("valkey")
        remembered: object = self._data_dir.read_run("valkey.json").get("port")
        for attempt in range(PORT_ATTEMPTS):
            port = choose_port(remembered)
            try:
                child = await self._start(port)
            except StartFailedError as error:
                if "in use" not in error.message or attempt + 1 == PORT_ATTEMPTS:
                    raise
                continue
            self._port = port
            self._data_dir.write_run("valkey.json", {"port": port})
            return child
        raise AssertionError("unreachable")

    async def _start(self, port: int) -> Child:
        home = self._data_dir.valkey
        home.mkdir(mode=0o700, exist_ok=True)
        program = valkey_server()
        user = server_user(self._data_dir.path)
        identity = able_to_reach(user, program, home) if user else None  # None: as root, which Valkey does not mind
        give_tree(home, identity)
        configuration = home / "valkey.conf"
        write_private(configuration, self._configuration(port))
        child = await Child.spawn(
            Command(
                name=self.name,
                # Read from standard input: neither in the list of processes, nor bound to who may open the file.
                argv=[str(program), "-"],
                env={"LC_ALL": "C"},
                cwd=home,
                stdin=configuration,
                identity=identity,
                log=self._data_dir.log(self.name),
            )
        )
        try:
            await self._wait_ready(child, port)
        except BaseException:
            await child.kill()
            raise
        return child

    def _configuration(self, port: int) -> str:
        return "\n".join(
            (
                f"bind {LOOPBACK}",
                f"port {port}",
                f"requirepass {self._password}",
                'save ""',
                "appendonly no",
                f"maxmemory {MAX_MEMORY}",
                "maxmemory-policy noeviction",
                "daemonize no",
                "",
            )
        )

    async def _wait_ready(self, child: Child, port: int) -> None:
        client = redis.asyncio.Redis(host=LOOPBACK, port=port, password=self._password, socket_timeout=2.0)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while child.exit_code is None:
                    with suppress(redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                        if await client.ping():
                            return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            pass
        finally:
            await client.aclose()
        raise StartFailedError(
            f"Valkey did not start on port {port}:\n{child.tail}", f"Its log is {child.command.log}."
        )
