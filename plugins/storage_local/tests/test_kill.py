"""kill -9 while bytes arrive: what was acknowledged is there, and the upload goes on to the right bytes."""

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import google_crc32c
import pytest

from echo_core.plugin_api import NotFoundError, UploadRef

MIB = 1 << 20
DATA = os.urandom(5 * MIB + 321)


async def test_killed_server_keeps_what_it_acknowledged_and_another_goes_on(serve_store, tmp_path: Path, http) -> None:
    script = Path(__file__).with_name("serve_alone.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(tmp_path), str(len(DATA)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        state, url = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().split()
        headers = {"content-range": f"bytes 0-{2 * MIB - 1}/{len(DATA)}"}
        assert (await http.put(url, content=DATA[: 2 * MIB], headers=headers)).status_code == 308
        parts = urlsplit(url)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(DATA)}\r\n\r\n"
        writer.write(head.encode() + DATA[: 4 * MIB])
        await writer.drain()
    finally:
        process.kill()
        await process.wait()
    writer.close()

    async with serve_store() as served:
        ref = UploadRef(key="v/a", state=state)
        assert (await served.storage.upload_offset(ref)).offset_bytes >= 2 * MIB
        with pytest.raises(NotFoundError):
            await served.storage.stat("v/a")
        again = url.replace(parts.netloc, urlsplit(served.base_url).netloc)
        asked = await http.put(again, headers={"content-range": f"bytes */{len(DATA)}"})
        kept = int(asked.headers["range"].removeprefix("bytes=0-")) + 1
        headers = {"content-range": f"bytes {kept}-{len(DATA) - 1}/{len(DATA)}"}
        assert (await http.put(again, content=DATA[kept:], headers=headers)).status_code == 200
        info = await served.storage.stat("v/a")
        assert (info.size_bytes, info.checksum) == (len(DATA), f"crc32c:{google_crc32c.value(DATA):08x}")
