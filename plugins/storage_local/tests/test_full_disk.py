"""A real disk that becomes full under an upload."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from echo_core.plugin_api import BeginUpload, UploadRef

MIB = 1 << 20
DATA = os.urandom(6 * MIB)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk: Path) -> Path:
    """Take what is left."""
    ballast = disk / "ballast"
    facts = os.statvfs(disk)
    ballast.write_bytes(bytes(facts.f_bavail * facts.f_frsize))
    return ballast


async def test_upload_goes_on_where_it_was_when_there_is_room_again(disk, clock, http, tmp_path) -> None:
    from .conftest import serve

    async with serve(disk, clock) as served:
        ticket = await served.storage.begin_upload(
            BeginUpload(
                key="v/a", content_type="video/mp4", size_bytes=len(DATA), max_size_bytes=None, expires_in_s=3600
            )
        )
        parts = urlsplit(ticket.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nhost: echo.test\r\ncontent-length: {len(DATA)}\r\n\r\n"
        writer.write(head.encode() + DATA[: 2 * MIB])
        await writer.drain()
        async with asyncio.timeout(30):
            while not any(p.stat().st_size >= MIB for p in disk.rglob("data")):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        ballast = await asyncio.to_thread(fill, disk)
        writer.write(DATA[2 * MIB :])
        async with asyncio.timeout(30):
            status = await reader.readline()
        writer.close()
        assert status.split()[1] == b"507"
        told = await served.storage.upload_offset(UploadRef(key="v/a", state=ticket.state))
        kept = told.offset_bytes
        assert not told.complete
        assert 0 < kept < len(DATA)
        refused = await http.put(
            ticket.url, content=DATA[kept:], headers={"content-range": f"bytes {kept}-{len(DATA) - 1}/{len(DATA)}"}
        )
        assert (refused.status_code, refused.json()["code"]) == (507, "insufficient_storage")
        await asyncio.to_thread(ballast.unlink)
        done = await http.put(
            ticket.url, content=DATA[kept:], headers={"content-range": f"bytes {kept}-{len(DATA) - 1}/{len(DATA)}"}
        )
        assert done.status_code == 200, done.text
        assert int(done.json()["size"]) == len(DATA)
        (stored,) = await asyncio.to_thread(lambda: list(disk.rglob("data")))
        assert await asyncio.to_thread(stored.read_bytes) == DATA
