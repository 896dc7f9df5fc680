"""A storage in memory to which something happens before it is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from echo_core.plugin_api import Clock, FetchFile, ObjectInfo, PutFile
from echo_core.testing.fake_storage import FakeStorage


class HookedStorage(FakeStorage):
    """Waits, or does something, before it fetches or stores a key."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self.before_fetch: Callable[[str], Awaitable[None]] = nothing
        self.before_put: Callable[[str], Awaitable[None]] = nothing

    async def fetch_file(self, request: FetchFile) -> None:
        await self.before_fetch(request.key)
        await super().fetch_file(request)

    async def put_file(self, request: PutFile) -> ObjectInfo:
        await self.before_put(request.key)
        return await super().put_file(request)


async def nothing(key: str) -> None:
    """What happens unless a test says otherwise."""
