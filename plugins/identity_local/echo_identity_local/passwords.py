"""Passwords: Argon2id (RFC 9106), computed in threads, a few at a time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MAX_LENGTH = 1024
"""Characters of a password. Argon2 takes more, but nobody types them."""
MAX_WAITING = 64
"""Hashes that may wait for a thread: with about 50 ms and 64 MiB each, more would be answered after the client left."""

Result = TypeVar("Result")


class BusyError(Exception):
    """Too many passwords are being checked."""


class Passwords:
    """Hashes and checks passwords. Close with ``close``."""

    def __init__(self, threads: int) -> None:
        self._hasher = PasswordHasher()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._waiting = 0
        # Checked in place of the hash of a user who does not exist, so that both answers take as long.
        self._dummy = self._hasher.hash(secrets.token_urlsafe(16))

    async def hash(self, password: str) -> str:
        """The encoded hash. Raises ``BusyError``."""
        return await self._run(lambda: self._hasher.hash(password))

    async def matches(self, encoded: str | None, password: str) -> bool:
        """Whether it is that password. Without a hash: False, after the same work. Raises ``BusyError``."""
        found = await self._run(lambda: self._verify(encoded or self._dummy, password))
        return found and encoded is not None

    def close(self) -> None:
        """End the threads, after what they are at."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _verify(self, encoded: str, password: str) -> bool:
        try:
            return self._hasher.verify(encoded, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= MAX_WAITING:
            raise BusyError
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1
