"""Real server, real client, real Valkey; the database of events is in memory."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack, suppress

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.events import Event
from tests.fakes.realtime import EventDatabase, progress, user

from .conftest import OWNER, STRANGER, Echo, Valkey, echo

pytestmark = pytest.mark.integration


@pytest.fixture
def database() -> EventDatabase:
    return EventDatabase()


async def publish(api: Echo, *events: Event) -> None:
    """As after a commit: a bus that is away fails nobody."""
    with suppress(UnavailableError):
        await api.bus.publish_events(events)


async def close_code(connection: ClientConnection) -> int | None:
    async with asyncio.timeout(20):
        with suppress(ConnectionClosed):
            while True:
                await connection.recv()
    return connection.close_code


async def test_events_and_progress_of_the_owner_arrive_live(valkey: Valkey, database: EventDatabase) -> None:
    async with echo(valkey, database) as api, api.session() as session:
        await publish(api, database.commit(STRANGER))
        await publish(api, database.commit(OWNER, "job.queued"))
        await api.bus.publish_progress(progress(STRANGER, 1.0))
        await api.bus.publish_progress(progress(OWNER, 42.0))
        await publish(api, database.commit(OWNER, "job.succeeded"))
        await session.until_id(2)
    told = [(f["type"], f.get("id"), f.get("progress")) for f in session.frames[2:]]
    assert told == [("job.queued", 1, None), ("job.progress", None, 42.0), ("job.succeeded", 2, None)]


@pytest.mark.parametrize("compress", [False, True])
async def test_texts_of_every_length_arrive_whole_compressed_or_not(
    valkey: Valkey, database: EventDatabase, compress: bool
) -> None:
    titles = ["", "ü" * 10, "x" * 300, "\U0001f3ac" * 9_000, "y" * 70_000]
    async with echo(valkey, database, compress=compress) as api, api.session() as session:
        assert bool(session.socket.protocol.extensions) == compress
        await publish(api, *(database.commit(OWNER, facts={"title": title}) for title in titles))
        await session.until_id(len(titles))
    assert [f.get("title", "") for f in session.frames if "id" in f and f["type"] != "snapshot"] == titles


async def test_two_processes_tell_the_same(valkey: Valkey, database: EventDatabase) -> None:
    async with (
        echo(valkey, database) as one,
        echo(valkey, database) as two,
        one.session() as here,
        two.session() as there,
    ):
        await publish(one, *database.commit_many(OWNER, 3))
        await here.until_id(3)
        await there.until_id(3)
    assert here.ids == there.ids == [1, 2, 3]


@pytest.mark.complaint(30)
async def test_reconnecting_clients_resume_without_loss_while_events_go_on(
    valkey: Valkey, database: EventDatabase
) -> None:
    total = 400
    async with echo(valkey, database) as api:

        async def produce() -> None:
            for _ in range(total):
                await publish(api, database.commit(OWNER))

        async def consume(reconnect_every: int) -> list[int]:
            ids: list[int] = []
            while len(ids) < total:
                async with api.session(last_event_id=ids[-1] if ids else 0) as session:
                    while len(session.ids) < reconnect_every and len(ids) + len(session.ids) < total:
                        await session.receive()
                    ids += session.ids
            return ids

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            consumers = [group.create_task(consume(every)) for every in (7, 50, 1000)]
            group.create_task(produce())
    assert [task.result() for task in consumers] == [list(range(1, total + 1))] * 3


@pytest.mark.matrix(22)
@pytest.mark.complaint(2)
async def test_emptied_valkey_loses_nothing(valkey: Valkey, database: EventDatabase) -> None:
    async with echo(valkey, database) as api, api.session() as session:
        for _ in range(5):
            await publish(api, *database.commit_many(OWNER, 3))
            await valkey.empty()
        await session.until_id(15)
        await publish(api, database.commit(OWNER))
        await session.until_id(16)
    assert session.ids == list(range(1, 17))


async def test_killed_and_restarted_valkey_loses_nothing(valkey: Valkey, database: EventDatabase) -> None:
    async with echo(valkey, database) as api, api.session() as session:
        await publish(api, database.commit(OWNER))
        await session.until_id(1)
        valkey.kill()
        await publish(api, *database.commit_many(OWNER, 2))
        await session.until_id(3)  # while it is away, the database is asked
        await valkey.start()
        await publish(api, database.commit(OWNER))
        await session.until_id(4)
        async with asyncio.timeout(20):
            while not any(f["type"] == "job.progress" for f in session.frames):
                with suppress(UnavailableError):
                    await api.bus.publish_progress(progress(OWNER, 5.0))
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await session.receive()
    assert session.ids == [1, 2, 3, 4]


async def test_process_starts_and_serves_without_valkey(valkey: Valkey, database: EventDatabase) -> None:
    valkey.kill()
    async with echo(valkey, database) as api, api.session() as session:
        database.commit_many(OWNER, 2)
        await session.until_id(2)
    assert session.ids == [1, 2]


async def test_ticket_from_http_opens_one_connection(valkey: Valkey, database: EventDatabase) -> None:
    async with echo(valkey, database) as api, httpx2.AsyncClient() as http:
        answer = await http.post(
            f"http://127.0.0.1:{api.port}/api/v1/ws-tickets", headers={"Authorization": "Bearer owner"}
        )
        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        ticket = answer.json()["ticket"]
        async with api.connect(query=f"?ticket={ticket}") as connection:
            assert json.loads(await connection.recv())["type"] == "ready"
        async with api.connect() as connection:
            await connection.send(json.dumps({"type": "auth", "ticket": ticket}))
            assert await close_code(connection) == 4401


async def test_page_of_another_site_is_refused_with_403(valkey: Valkey, database: EventDatabase) -> None:
    async with echo(valkey, database, cors_origins=("https://app.example",)) as api:
        with pytest.raises(InvalidStatus) as refused:
            async with api.connect(origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body)["code"] == "origin_not_allowed"
        for welcome in ("https://app.example", f"http://127.0.0.1:{api.port}"):
            async with api.connect(origin=welcome):
                pass


async def test_codes_reach_the_client(valkey: Valkey, database: EventDatabase) -> None:
    async with echo(valkey, database, ws_auth_timeout_s=0.1) as api:
        async with api.connect() as silent:
            assert await close_code(silent) == 4401
        async with api.connect(owner=STRANGER) as stranger:
            await stranger.send(json.dumps({"type": "auth", "token": "owner"}))
            assert await close_code(stranger) == 4403


async def test_stopping_server_sends_1012(valkey: Valkey, database: EventDatabase) -> None:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(echo(valkey, database))
        session = await stack.enter_async_context(api.session())
        api.server.should_exit = True
        assert await close_code(session.socket) == 1012


async def test_stopped_hub_sends_1012_by_itself(valkey: Valkey, database: EventDatabase) -> None:
    async with echo(valkey, database) as api, api.session() as session:
        next(t for t in asyncio.all_tasks() if t.get_coro().__qualname__ == "RealtimeHub.run").cancel()  # type: ignore[union-attr]
        assert await close_code(session.socket) == 1012


@pytest.mark.matrix(22)
async def test_client_that_never_reads_delays_nobody_and_is_forgotten(
    valkey: Valkey, database: EventDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echo_core.application.realtime.CLOSE_TIMEOUT_S", 0.1)
    title = "x" * 100_000  # a few dozen fill the buffers of both kernels
    async with echo(valkey, database, ws_max_connections_per_user=60) as api, AsyncExitStack() as stack:
        healthy = [await stack.enter_async_context(api.session()) for _ in range(5)]
        stalled = await _stalled_client(api)
        stack.callback(stalled.close)
        assert api.hub.connection_count == 6
        rounds = 0
        while api.hub.connection_count == 6 and rounds < 300:
            rounds += 1
            await publish(api, database.commit(OWNER, "video.updated", facts={"title": title}))
            for session in healthy:
                await session.until_id(rounds)
        assert api.hub.connection_count == 5
        assert [session.ids for session in healthy] == [list(range(1, rounds + 1))] * 5


async def _stalled_client(api: Echo) -> socket.socket:
    """A client that signs in and never reads, with as small a buffer as the kernel gives."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", api.port))
    handshake = (
        f"GET /ws/jobs/status/{OWNER.id} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    message = json.dumps({"type": "auth", "token": "owner"}).encode()
    frame = bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message  # masked with zeros
    async with asyncio.timeout(20):
        await loop.sock_sendall(client, handshake.encode())
        await loop.sock_recv(client, 4096)
        await loop.sock_sendall(client, frame)
        await loop.sock_recv(client, 1)  # of ready
    return client


async def test_many_users_hear_only_of_themselves(valkey: Valkey, database: EventDatabase) -> None:
    async with echo(valkey, database) as api, AsyncExitStack() as stack:
        owners = [user(n) for n in range(100, 130)]
        sessions = [
            await stack.enter_async_context(api.session(sign_in_as=f"user {n}", owner=user(n))) for n in range(100, 130)
        ]
        for index, owner in enumerate(owners):
            await publish(api, *database.commit_many(owner, 1 + index % 3))
        for index, session in enumerate(sessions):
            await session.until_id(1 + index % 3)
    assert [session.ids for session in sessions] == [list(range(1, 2 + index % 3)) for index in range(30)]
