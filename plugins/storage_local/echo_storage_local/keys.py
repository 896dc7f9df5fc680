"""Keys and the paths they are stored under.

A key's folders are folders; the object itself is a folder that ends in ``@``, so that ``a`` and ``a/b`` can both be
keys. A segment may be longer than a file name can be (255 bytes): it is cut, every piece but the last is a folder that
ends in ``+``, and every piece but the first begins with ``+`` (so that none is ``..``). Neither sign can occur in a
key, so the mapping is one to one and cannot leave its root.
"""

from __future__ import annotations

from echo_core.plugin_api import validate_key

OBJECT_MARK = "@"
CUT_MARK = "+"
_PIECE_LENGTH = 200


def object_path(key: str) -> tuple[str, ...]:
    """The folders that lead to the object's own folder, which comes last. Raises for anything but a key (S1)."""
    folders: list[str] = []
    for segment in validate_key(key).split("/"):
        for at in range(0, len(segment), _PIECE_LENGTH):
            before = CUT_MARK if at > 0 else ""
            behind = CUT_MARK if at + _PIECE_LENGTH < len(segment) else ""
            folders.append(before + segment[at : at + _PIECE_LENGTH] + behind)
    folders[-1] += OBJECT_MARK
    return tuple(folders)
