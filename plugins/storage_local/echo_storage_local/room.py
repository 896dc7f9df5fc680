"""How much fits: free space, less what is kept free, less what running uploads still have to send."""

from __future__ import annotations

import os
import threading
import time

from echo_core.plugin_api import InsufficientStorageError, StorageUsage

_CLAIM_LIFETIME_S = 3600.0
"""A client that has been silent for so long no longer keeps room from others; its bytes stay and it may go on."""


class Room:
    """Admission of bytes. Claims live in this process: they stop two big uploads from both being let in."""

    def __init__(self, root_fd: int, min_free_bytes: int) -> None:
        self._root_fd = root_fd
        self._min_free_bytes = min_free_bytes
        self._claims: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def usage(self) -> StorageUsage:
        """Free and total bytes as users see them: what is kept free counts as used."""
        facts = os.fstatvfs(self._root_fd)
        free = max(0, facts.f_bavail * facts.f_frsize - self._min_free_bytes)
        return StorageUsage(free_bytes=free, total_bytes=facts.f_blocks * facts.f_frsize)

    def require(self, size_bytes: int, *, claimant: str = "") -> None:
        """Raise ``InsufficientStorageError`` unless ``size_bytes`` more fit beside the claims of others."""
        now = time.monotonic()
        with self._lock:
            self._claims = {who: (size, at) for who, (size, at) in self._claims.items() if now - at < _CLAIM_LIFETIME_S}
            claimed = sum(size for who, (size, _) in self._claims.items() if who != claimant)
        free = self.usage().free_bytes or 0
        if size_bytes > free - claimed:
            raise InsufficientStorageError(
                f"There is no room for {size_bytes} bytes: {max(0, free - claimed)} bytes can still be stored."
            )

    def claim(self, claimant: str, size_bytes: int) -> None:
        """Keep room for what an upload has yet to send; 0 gives it back."""
        with self._lock:
            if size_bytes > 0:
                self._claims[claimant] = (size_bytes, time.monotonic())
            else:
                self._claims.pop(claimant, None)
