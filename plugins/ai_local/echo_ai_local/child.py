"""The process that listens, as its parent sees it: started when needed, one request at a time, ended when idle."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from echo_ai_local.config import LocalAIConfig
from echo_core.plugin_api import (
    EchoError,
    InvalidRequestError,
    NotSupportedError,
    UnavailableError,
)

KILLED = -signal.SIGKILL
MAX_ANSWER_BYTES = 16 * 1024 * 1024


def error_of(kind: str, message: str) -> EchoError:
    """What an ``error`` of ``worker.py`` means to Echo."""
    if kind == "missing":
        return NotSupportedError(message, code="ai_model_missing", remedy="Install what is missing, then retry.")
    if kind == "refused":
        return InvalidRequestError(message, code="ai_model_refused", remedy="Install the model again, then retry.")
    return UnavailableError(f"The speech recognition failed: {message}.", code="ai_local_failed")


class Child:
    """One process at most. ``ask`` starts it, ``aclose`` ends it, and so does whatever interrupts ``ask``."""

    def __init__(self, config: LocalAIConfig, settings: Mapping[str, Any]) -> None:
        self._config = config
        self._settings = json.dumps(dict(settings))
        self._threads = str(settings["threads"])
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The running process, if there is one."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if alive and self._process is not None else None

    async def ask(
        self, request: Mapping[str, Any], *, timeout_s: float, on_progress: Callable[[float], None] = lambda _: None
    ) -> Any:
        """The result of ``request``, see ``worker.py``. Waits while another is being answered.

        Raises ``NotSupportedError``, ``InvalidRequestError``, and ``UnavailableError`` (``ai_local_killed``,
        ``ai_local_timeout``, ``ai_local_failed``).
        """
        async with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            whole = False
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await self._answer(request, on_progress)
                whole = True
            except TimeoutError:
                raise UnavailableError(
                    f"The speech recognition took longer than {timeout_s:.0f} s and was ended.", code="ai_local_timeout"
                ) from None
            finally:
                if not whole:
                    await self._end()
            self._idle = asyncio.get_running_loop().call_later(self._config.idle_s, self._kill)
        if "error" in answer:
            raise error_of(answer["error"], answer["message"])
        return answer["result"]

    async def aclose(self) -> None:
        """End the process."""
        if self._idle is not None:
            self._idle.cancel()
        await self._end()

    async def _answer(self, request: Mapping[str, Any], on_progress: Callable[[float], None]) -> dict[str, Any]:
        process = self._process
        if process is None or process.returncode is not None:
            process = await self._start()
        if process.stdin is None or process.stdout is None:  # both are pipes, see _start
            raise AssertionError
        try:
            process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
            await process.stdin.drain()
            while line := await process.stdout.readline():
                message: dict[str, Any] = json.loads(line)
                if "progress" not in message:
                    return message
                on_progress(message["progress"])
        except (BrokenPipeError, ConnectionResetError):
            self._kill()  # it has ended or is about to; how is told below
        code = await process.wait()
        reason = "the system ended it, most likely for want of memory" if code == KILLED else f"exit code {code}"
        raise UnavailableError(
            f"The process of the speech recognition ended early ({reason}). What it had finished is kept.",
            code="ai_local_killed",
            remedy="Retry the step; if it happens again, give the machine more memory or set "
            "plugins.ai_local.threads to 1.",
        )

    async def _start(self) -> asyncio.subprocess.Process:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "echo_ai_local.worker", self._settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_ANSWER_BYTES,
            # No credentials, no proxies; and never a download: the hub's client may be asked by a library.
            env={
                "PATH": "/usr/bin:/bin",
                "LC_ALL": "C.UTF-8",
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": self._threads,
                "PYTHONDONTWRITEBYTECODE": "1",
                "MALLOC_ARENA_MAX": "2",
            },
            start_new_session=True,
        )
        return self._process

    def _kill(self) -> None:
        pid = self.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    async def _end(self) -> None:
        """Kill it with its process group. Quick, and safe to interrupt: the signal is sent before anything waits."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        while process.stdout is not None and await process.stdout.read(65536):
            continue
        await process.wait()
