"""What rows know of the objects that they name: which storage keeps them, and which bytes they are."""

from __future__ import annotations


class StoredObject:
    """A row that names an object in the storage ``backend``, which calls its bytes ``generation``."""

    __slots__ = ()

    backend: str
    generation: str

    def pin(self, storage: str) -> str | None:
        """What a read from this storage is pinned to. None: nothing, since only the storage that made a generation
        understands it: another one keeps a verified copy under the same key."""
        return (self.generation or None) if self.backend == storage else None


def checksums_differ(one: str, other: str) -> bool:
    """Whether two checksums (``algorithm:hex``) tell different bytes. Of different algorithms, or unknown, they tell
    nothing."""
    algorithm, _, value = one.partition(":")
    other_algorithm, _, other_value = other.partition(":")
    return bool(value and other_value) and algorithm == other_algorithm and value != other_value


def checksums_agree(one: str, other: str) -> bool:
    """Whether two checksums tell the same bytes."""
    return bool(one.partition(":")[2]) and one == other
