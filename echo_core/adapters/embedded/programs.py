"""The API and the worker as children: programs that the caller names."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence

import httpx2

from echo_core.adapters.embedded.child import Child, Command
from echo_core.adapters.embedded.datadir import DataDir
from echo_core.adapters.embedded.errors import StartFailedError
from echo_core.adapters.settings import HttpSettings

HEALTHY_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 2.0
POLL_S = 0.05
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what a server binds to, where it is reached


def healthz_url(http: HttpSettings) -> str:
    """Where this machine reaches the API's health."""
    host = ANY_ADDRESS.get(http.host, http.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{http.port}/healthz"


class Program:
    """A program of Echo's own. With ``health_url`` it counts as started when that answers 200."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        data_dir: DataDir,
        relay: Callable[[str], None],
        health_url: str | None = None,
    ) -> None:
        self.name = name
        self._argv = argv
        self._env = env
        self._data_dir = data_dir
        self._relay = relay
        self._health_url = health_url

    async def start(self) -> Child:
        """Start it, and wait until it is healthy.

        Raises:
            StartFailedError: It ended, or was not healthy in time.
        """
        child = await Child.spawn(
            Command(
                name=self.name,
                argv=self._argv,
                env={"PYTHONUNBUFFERED": "1", **self._env},
                log=self._data_dir.log(self.name),
                relay=self._relay,
            )
        )
        try:
            if self._health_url is not None:
                await self._wait_healthy(child, self._health_url)
        except BaseException:
            await child.kill()
            raise
        return child

    async def _wait_healthy(self, child: Child, url: str) -> None:
        reason = "it ended"
        # An empty context: loading certificates would block the loop for 0.3 s, and this is plain HTTP.
        no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with httpx2.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False, verify=no_tls) as client:
            try:
                async with asyncio.timeout(HEALTHY_TIMEOUT_S):
                    while child.exit_code is None:
                        try:
                            answer = await client.get(url)
                        except httpx2.TransportError:
                            pass
                        else:
                            if answer.is_success:
                                return
                        await asyncio.sleep(POLL_S)
            except TimeoutError:
                reason = f"{url} did not answer within {HEALTHY_TIMEOUT_S:g} s"
        raise StartFailedError(
            f"The {self.name} did not start ({reason}):\n{child.tail}", f"Its log is {child.command.log}."
        )
