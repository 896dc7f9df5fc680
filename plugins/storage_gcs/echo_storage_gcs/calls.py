"""Google's client blocks: here its calls run in threads, with a deadline, and end as Echo's errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, ParamSpec, TypeVar

from google.api_core.retry import Retry

from echo_core.plugin_api import RateLimitedError, UnavailableError
from echo_storage_gcs.config import GcsConfig
from echo_storage_gcs.errors import from_google, too_slow

P = ParamSpec("P")
T = TypeVar("T")
CONNECT_TIMEOUT_S = 3.0
CLOSE_GRACE_S = 2.0
TRANSFER_RETRY_S = 120.0
"""A transfer that has come no further for so long has failed."""
LONGEST_PAUSE_S = 5.0


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

    def pause(self, seconds: float) -> None:
        """Wait so long. Raises ``StoppedError`` as soon as it is said."""
        self._set.wait(seconds)
        self.check()


class StoppableFile:
    """A file that a transfer reads or writes through, until it is told to stop."""

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


def passes_by_itself(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if not isinstance(error, Exception) or isinstance(error, StoppedError):
        return False
    return isinstance(from_google(error), UnavailableError | RateLimitedError)


def let_go(error: BaseException) -> None:
    """Close the answer that an error of Google's carries: the client leaves its connection open."""
    if (response := getattr(error, "response", None)) is not None:
        response.close()


class Calls:
    """Threads of our own: a bucket that hangs can use up nobody else's."""

    def __init__(self, config: GcsConfig, name: str = "storage-gcs") -> None:
        self.deadline_s = config.deadline_s
        self.timeout = (CONNECT_TIMEOUT_S, max(1.0, config.deadline_s / 2))
        """Of one try of a short call: to connect, to answer."""
        self.retry = Retry(predicate=passes_by_itself, initial=0.2, maximum=2.0, timeout=config.deadline_s * 0.75)
        self.transfer_timeout = (CONNECT_TIMEOUT_S, config.stall_timeout_s)
        self._short = ThreadPoolExecutor(config.threads, thread_name_prefix=name)
        self._long = ThreadPoolExecutor(config.threads, thread_name_prefix=f"{name}-transfer")
        self._transfers: set[Stop] = set()
        self._running: set[Future[Any]] = set()

    def transfer_retry(self, stop: Stop) -> Retry:
        """Tries again until ``stop``."""

        def again(error: BaseException) -> bool:
            try:
                stop.check()
            except StoppedError:
                let_go(error)
                raise
            return passes_by_itself(error)

        return Retry(predicate=again, initial=0.5, maximum=LONGEST_PAUSE_S, timeout=TRANSFER_RETRY_S)

    @asynccontextmanager
    async def within(self, deadline_s: float | None = None) -> AsyncIterator[None]:
        """One deadline for all that is done inside. Raises ``UnavailableError``."""
        wanted_s = self.deadline_s if deadline_s is None else deadline_s
        limit = asyncio.timeout(wanted_s)
        try:
            async with limit:
                yield
        except TimeoutError as error:
            raise (too_slow(wanted_s) if limit.expired() else from_google(error)) from error

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A short call. It cannot be stopped; after the deadline (``within``, or its own) nobody waits for it.

        Raises ``UnavailableError`` and what ``from_google`` makes of Google's errors.
        """
        return await self.run_long(self.deadline_s, work, *args, **kwargs)

    async def run_long(self, deadline_s: float, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same with another deadline."""
        try:
            async with self.within(deadline_s):
                return await asyncio.wrap_future(self._track(self._short.submit(work, *args, **kwargs)))
        except Exception as error:
            mapped = from_google(error)
            if mapped is error:
                raise
            raise mapped from error

    async def transfer(self, work: Callable[[Stop], T], *, stop_grace_s: float = 1.0) -> T:
        """A transfer, which takes as long as it takes. When the caller is cancelled it is told to stop, and waited for
        so long: until the request that is under way ends, or moves a byte."""
        stop = Stop()
        self._transfers.add(stop)
        submitted = self._track(self._long.submit(work, stop))
        submitted.add_done_callback(lambda _: self._transfers.discard(stop))
        future = asyncio.wrap_future(submitted)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            if not submitted.cancel():
                await asyncio.wait([future], timeout=stop_grace_s)
            future.add_done_callback(_look_away)
            raise
        except Exception as error:
            mapped = from_google(error)
            if mapped is error:
                raise
            raise mapped from error

    def _track(self, future: Future[T]) -> Future[T]:
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    async def aclose(self) -> None:
        """Stop transfers, wait a little for the threads, and let go of them; what hangs ends by its own timeouts."""
        for stop in list(self._transfers):
            stop.set()
        for pool in (self._short, self._long):
            pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(wait, list(self._running), timeout=CLOSE_GRACE_S)


def _look_away(future: asyncio.Future[T]) -> None:
    """Nobody is left to hear what became of it."""
    if not future.cancelled():
        future.exception()
