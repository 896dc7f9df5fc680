"""What work takes while it runs, told before it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes on the worker's scratch disk and bytes of memory, at their highest. 0: next to nothing, or not known."""

    scratch_bytes: int = 0
    memory_bytes: int = 0

    def __add__(self, other: Needs) -> Needs:
        """Both at once."""
        return Needs(
            scratch_bytes=self.scratch_bytes + other.scratch_bytes, memory_bytes=self.memory_bytes + other.memory_bytes
        )
