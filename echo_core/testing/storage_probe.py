"""What the storage kit does over and over: store bytes, read them back, expect a code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from echo_core.plugin_api import (
    EchoError,
    ListObjects,
    ObjectInfo,
    PutFile,
    ReadObject,
    StorageBackend,
)

VIDEO = "video/mp4"
MAX_PIECE_BYTES = 1 << 20


async def put_bytes(
    storage: StorageBackend, folder: Path, key: str, data: bytes = b"content", content_type: str = VIDEO
) -> ObjectInfo:
    """Store bytes through ``put_file``, by way of a file in ``folder``."""
    path = folder / "put-file"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return await storage.put_file(PutFile(key=key, path=path, content_type=content_type))


async def read_bytes(storage: StorageBackend, request: ReadObject) -> bytes:
    """All pieces of ``open_read`` together; none may be longer than 1 MiB."""
    pieces = []
    async with aclosing(storage.open_read(request)) as reading:
        async for piece in reading:
            assert len(piece) <= MAX_PIECE_BYTES
            pieces.append(piece)
    return b"".join(pieces)


async def list_keys(storage: StorageBackend, prefix: str = "", limit: int = 1000) -> list[str]:
    """All keys, page by page."""
    keys: list[str] = []
    cursor: str | None = None
    while True:
        page = await storage.list(ListObjects(prefix=prefix, cursor=cursor, limit=limit))
        assert len(page.objects) <= limit
        keys += [info.key for info in page.objects]
        cursor = page.next_cursor
        if cursor is None:
            return keys


@contextmanager
def raises_code(kind: type[EchoError], code: str) -> Iterator[None]:
    """Expect an error of this class with this code."""
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code
