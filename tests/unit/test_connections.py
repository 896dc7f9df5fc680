"""What one connection may send, and how many there may be, over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from echo_core.entrypoints.http.connections import MAX_HEAD_BYTES, MAX_HEADERS, bounded_protocol

HEAD = b"GET / HTTP/1.1\r\nhost: echo.test\r\n"
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        continue
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(*, max_connections: int = 100, head_timeout_s: float = 30) -> AsyncIterator[Connect]:
    protocol = bounded_protocol(max_connections=max_connections, head_timeout_s=head_timeout_s)
    config = uvicorn.Config(hello, port=0, http=protocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    address = server.servers[0].sockets[0].getsockname()
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*address)
        writers.append(writer)
        return reader, writer

    try:
        async with asyncio.timeout(30):
            yield connect
    finally:
        for writer in writers:
            writer.close()
        server.should_exit = True
        await server.shutdown()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes the connection."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    try:
        writer.write(data)
        await writer.drain()
    except ConnectionError:
        return


@pytest.mark.parametrize(
    "rest",
    [
        b"x: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"".join(b"h%d: 1\r\n" % n for n in range(MAX_HEADERS)) + b"\r\n",
    ],
    ids=["bytes", "number"],
)
async def test_head_over_its_bounds_is_refused(rest: bytes) -> None:
    async with serving() as connect:
        reader, writer = await connect()
        await send(writer, HEAD + rest)
        assert (await answer(reader)).startswith(b"HTTP/1.1 431 ")


async def test_head_without_end_is_cut_off_before_it_fills_the_memory() -> None:
    async with serving() as connect:
        reader, writer = await connect()
        await send(writer, HEAD + b"x: ")
        sent = 0
        while sent < 64 * MAX_HEAD_BYTES and not reader.at_eof() and not writer.is_closing():
            await send(writer, b"a" * 16384)
            sent += 16384
            await asyncio.sleep(0)
        assert sent < 64 * MAX_HEAD_BYTES
        assert (await answer(reader))[:12] in {b"HTTP/1.1 431", b""}


async def test_usual_requests_and_large_bodies_pass() -> None:
    async with serving() as connect:
        reader, writer = await connect()
        body = b"b" * (4 * MAX_HEAD_BYTES)
        for _ in range(2):
            await send(writer, HEAD + b"x: " + b"a" * 8192 + b"\r\n\r\n")
            assert b"200 OK" in await reader.readuntil(b"ok")
            length = str(len(body)).encode()
            await send(writer, b"POST / HTTP/1.1\r\nhost: e\r\ncontent-length: " + length + b"\r\n\r\n" + body)
            assert b"200 OK" in await reader.readuntil(b"ok")


@pytest.mark.parametrize("said", [b"", HEAD], ids=["nothing", "half a head"])
async def test_connection_that_sends_no_request_is_closed(said: bytes) -> None:
    async with serving(head_timeout_s=0.1) as connect:
        reader, writer = await connect()
        if said:
            await send(writer, said)
        assert await answer(reader) == b""


async def test_second_request_that_never_ends_is_closed_too() -> None:
    async with serving(head_timeout_s=0.1) as connect:
        reader, writer = await connect()
        await send(writer, HEAD + b"\r\n")
        await reader.readuntil(b"ok")
        await send(writer, HEAD)
        assert await answer(reader) == b""


async def test_connections_over_the_limit_are_told_to_come_back() -> None:
    async with serving(max_connections=2) as connect:
        kept = [await connect() for _ in range(2)]
        for reader, writer in kept:
            await send(writer, HEAD + b"\r\n")
            await reader.readuntil(b"ok")
        reader, _ = await connect()
        refused = await answer(reader)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in refused
        kept[0][1].close()
        await kept[0][1].wait_closed()
        answered = b""
        while b"200 OK" not in answered:
            reader, writer = await connect()
            await send(writer, HEAD + b"connection: close\r\n\r\n")
            answered = await answer(reader)
