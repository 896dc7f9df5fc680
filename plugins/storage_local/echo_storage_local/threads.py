"""Blocking work in threads of our own, so that a slow disk starves nobody else's threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from echo_storage_local.errors import from_os_error

P = ParamSpec("P")
T = TypeVar("T")


class IoThreads:
    """A few threads for file calls; ``OSError`` comes out as Echo's errors."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=count, thread_name_prefix="storage-local")

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` to its end, even if the caller is cancelled: a thread cannot be stopped, and what it works on
        must stay open until it is done. A result that can be closed is closed when nobody is left to take it."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled() and future.exception() is None:
                close = getattr(future.result(), "close", None)
                if close is not None:
                    close()
            raise
        except OSError as error:
            raise from_os_error(error) from error

    def close(self) -> None:
        """Wait for what runs, then end the threads."""
        self._executor.shutdown(wait=True)
