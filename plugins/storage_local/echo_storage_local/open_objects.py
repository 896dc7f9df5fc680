"""Objects that are being read, kept open for some seconds.

A player asks for a film in hundreds of ranges; opening the object anew for each costs a trip to a thread, a fifth of
the processor time of a 1 MiB range. What is kept is checked at every use by one ``stat`` of a path whose entries the
system has just used, so it does not wait for the disk; an object that was deleted or replaced is noticed at once.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from echo_storage_local.errors import generation_changed
from echo_storage_local.keys import object_path
from echo_storage_local.objects import DATA, ObjectStore, OpenObject
from echo_storage_local.threads import IoThreads

KEPT_S = 10.0
"""Also the longest time that the space of a deleted object stays in use because of us."""
_MAX_KEPT = 128


@dataclass(frozen=True, kw_only=True)
class _Kept:
    opened: OpenObject
    path: str
    identity: tuple[int, int]
    expiry: asyncio.TimerHandle


class OpenObjects:
    """Opens objects for reading; belongs to one event loop."""

    def __init__(self, objects_fd: int, store: ObjectStore, threads: IoThreads) -> None:
        self._objects_fd = objects_fd
        self._store = store
        self._threads = threads
        self._kept: dict[str, _Kept] = {}

    async def open(self, key: str, generation: str | None) -> OpenObject:
        """An open object of the caller's own (S4). Raises ``PreconditionFailedError`` for another generation."""
        kept = self._kept.get(key)
        if kept is not None and not self._is_current(kept):
            self._drop(key)
            kept = None
        if kept is None:
            opened = await self._threads.run(self._store.open, key, generation)
            self._keep(key, opened)
            return opened
        if generation not in (None, kept.opened.info.generation):
            raise generation_changed()
        return OpenObject(info=kept.opened.info, fd=os.dup(kept.opened.fd))

    def close(self) -> None:
        """Close all that is kept."""
        for key in list(self._kept):
            self._drop(key)

    def __len__(self) -> int:
        return len(self._kept)

    def _keep(self, key: str, opened: OpenObject) -> None:
        if key in self._kept or len(self._kept) >= _MAX_KEPT:
            return
        facts = os.fstat(opened.fd)
        self._kept[key] = _Kept(
            opened=OpenObject(info=opened.info, fd=os.dup(opened.fd)),
            path="/".join((*object_path(key), DATA)),
            identity=(facts.st_dev, facts.st_ino),
            expiry=asyncio.get_running_loop().call_later(KEPT_S, self._drop, key),
        )

    def _is_current(self, kept: _Kept) -> bool:
        try:
            facts = os.stat(kept.path, dir_fd=self._objects_fd, follow_symlinks=False)
        except OSError:
            return False
        return (facts.st_dev, facts.st_ino) == kept.identity

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key)
        kept.expiry.cancel()
        kept.opened.close()
