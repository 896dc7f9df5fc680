"""Google's client blocks: here its calls run in threads, with a deadline, and end as Echo's errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, ParamSpec, TypeVar

from google.api_core.retry import Retry
from google.cloud.storage.retry import DEFAULT_RETRY

from echo_core.plugin_api import UnavailableError
from echo_storage_gcs.config import GcsConfig
from echo_storage_gcs.errors import from_google, too_slow

P = ParamSpec("P")
T = TypeVar("T")
CONNECT_TIMEOUT_S = 3.0
STOP_GRACE_S = 10.0
"""A cancelled transfer is waited for so long: it ends at its next read or write."""
TRANSFER_RETRY_S = 120.0


class StoppedError(UnavailableError):
    """A transfer whose caller has gone away."""


class Stop:
    """Tells a transfer in a thread that nobody waits for it any more."""

    def __init__(self) -> None:
        self._set = threading.Event()

    def set(self) -> None:
        """Say it."""
        self._set.set()

    def check(self) -> None:
        """Raise ``StoppedError`` if it was said."""
        if self._set.is_set():
            raise StoppedError("The transfer was stopped.")


class StoppableFile:
    """A local file that a transfer reads or writes through, until it is told to stop.

    ``start``: where in the file the transfer begins; Google's client counts from 0.
    """

    def __init__(self, file: BinaryIO, stop: Stop) -> None:
        self._file = file
        self._stop = stop

    def read(self, size: int = -1) -> bytes:
        """See ``io``."""
        self._stop.check()
        return self._file.read(size)

    def write(self, data: bytes) -> int:
        """See ``io``."""
        self._stop.check()
        return self._file.write(data)

    def tell(self) -> int:
        """See ``io``."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """See ``io``."""
        return self._file.seek(offset, whence)

    def flush(self) -> None:
        """See ``io``."""
        self._file.flush()


class Calls:
    """Threads of our own: a bucket that hangs can use up no one else's."""

    def __init__(self, config: GcsConfig) -> None:
        self.deadline_s = config.deadline_s
        self.timeout = (CONNECT_TIMEOUT_S, max(1.0, config.deadline_s / 2))
        """Of one try of a short call: to connect, to answer."""
        self.retry: Retry = DEFAULT_RETRY.with_delay(initial=0.2, maximum=2.0).with_timeout(config.deadline_s * 0.75)
        self.transfer_timeout = (CONNECT_TIMEOUT_S, config.stall_timeout_s)
        self.transfer_retry: Retry = DEFAULT_RETRY.with_delay(initial=0.5, maximum=15.0).with_timeout(TRANSFER_RETRY_S)
        self._short = ThreadPoolExecutor(config.threads, thread_name_prefix="storage-gcs")
        self._long = ThreadPoolExecutor(config.threads, thread_name_prefix="storage-gcs-transfer")
        self._running: set[Stop] = set()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A short call. It cannot be stopped; after the deadline nobody waits for it any more.

        Raises ``UnavailableError`` and what ``from_google`` makes of Google's errors.
        """
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(self.deadline_s)
        try:
            async with limit:
                return await loop.run_in_executor(self._short, lambda: work(*args, **kwargs))
        except TimeoutError as error:
            raise (too_slow(self.deadline_s) if limit.expired() else from_google(error)) from error
        except Exception as error:
            mapped = from_google(error)
            if mapped is error:
                raise
            raise mapped from error

    async def transfer(self, work: Callable[[Stop], T]) -> T:
        """A transfer, which takes as long as it takes. When the caller is cancelled it is told to stop, and waited for
        a little: what it works on should be left alone until it has ended."""
        stop = Stop()
        self._running.add(stop)
        future = asyncio.get_running_loop().run_in_executor(self._long, work, stop)
        future.add_done_callback(lambda done: self._ended(stop, done))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([future], timeout=STOP_GRACE_S)
            raise
        except Exception as error:
            mapped = from_google(error)
            if mapped is error:
                raise
            raise mapped from error

    def _ended(self, stop: Stop, future: asyncio.Future[T]) -> None:
        self._running.discard(stop)
        if not future.cancelled():
            future.exception()  # nobody may be left to hear of it

    def close(self) -> None:
        """Stop transfers and let go of the threads; they end by their own timeouts."""
        for stop in list(self._running):
            stop.set()
        for pool in (self._short, self._long):
            pool.shutdown(wait=False, cancel_futures=True)
