"""One request at a time per upload, and the newest wins.

A client whose connection broke comes back while the server still waits on the old one. So a new request ends the old
one (its bytes are kept) rather than being turned away until a timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Hold:
    """A request's hold on an upload. ``deadline`` is set while it waits for bytes and can be ended."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    deadline: asyncio.Timeout | None = None
    superseded: bool = False
    """Whether the present holder was asked to leave; it must then leave its deadline alone."""


class UploadHolds:
    """Holds by upload id, of this process; between processes ``flock`` decides."""

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}

    def peek(self, upload_id: str) -> Hold | None:
        """The hold on an upload, if anybody has one."""
        return self._holds.get(upload_id)

    @asynccontextmanager
    async def hold(self, upload_id: str) -> AsyncIterator[Hold]:
        """End whoever receives bytes for this upload, wait for them to store what they have, and take their place."""
        hold = self._holds.setdefault(upload_id, Hold())
        hold.users += 1
        try:
            if hold.deadline is not None:
                hold.superseded = True
                hold.deadline.reschedule(asyncio.get_running_loop().time())
                hold.deadline = None
            async with hold.lock:
                hold.superseded = False
                yield hold
        finally:
            hold.users -= 1
            if hold.users == 0:
                del self._holds[upload_id]
