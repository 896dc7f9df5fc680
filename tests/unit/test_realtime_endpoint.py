"""The WebSocket endpoint, driven as an ASGI application without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request

from echo_core.application.realtime import Realtime, RealtimeHub
from echo_core.domain.users import User
from echo_core.entrypoints.http import ws
from echo_core.entrypoints.http.ws import WaitingRoom, origin_allowed, ws_routes
from tests.fakes.realtime import (
    START,
    EventDatabase,
    ManualClock,
    MemoryTickets,
    TableTokens,
    limits,
    running_hub,
    settle,
    user,
)

OWNER = user(1, expires_at_s=START.timestamp() + 3600)
NEWER = user(1, expires_at_s=START.timestamp() + 7200)
TOKENS = TableTokens({"good": OWNER, "newer": NEWER, "other": user(2)})


class Client:
    """The other end of one connection: what a server would put between the application and a browser."""

    def __init__(self, app: Starlette, path: str, headers: dict[str, str], query: str = "") -> None:
        self._app = app
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.scope = {
            "type": "websocket",
            "path": path,
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "client": ("192.0.2.1", 1),
            "extensions": {"websocket.http.response": {}},
            "subprotocols": [],
        }
        self.task: asyncio.Task[None] | None = None

    def connect(self) -> None:
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(self._app(self.scope, self._incoming.get, self._take))

    async def say(self, message: object) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})
        await settle()

    async def say_bytes(self, data: bytes) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "bytes": data})
        await settle()

    async def leave(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
        if self.task is not None:
            await self.task

    async def _take(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(m["text"]) for m in self.sent if m["type"] == "websocket.send"]

    @property
    def closed(self) -> int | None:
        return next((m["code"] for m in self.sent if m["type"] == "websocket.close"), None)

    @property
    def status(self) -> int | None:
        return next((m["status"] for m in self.sent if m["type"] == "websocket.http.response.start"), None)


class World:
    def __init__(self, hub: RealtimeHub, tickets: MemoryTickets, **changes: Any) -> None:
        self.hub = hub
        self.tickets = tickets
        services = Realtime(hub=hub, tokens=TOKENS, tickets=tickets, limits=limits(**changes), clock=tickets.clock)
        self.app = Starlette(routes=ws_routes(lambda: services, current_user=_current_user))
        self.clients: list[Client] = []

    def client(self, *, user_id: object = OWNER.id, query: str = "", **headers: str) -> Client:
        client = Client(self.app, f"/ws/jobs/status/{user_id}", {"host": "echo.test", **headers}, query)
        self.clients.append(client)
        client.connect()
        return client


async def _current_user(request: Request) -> User:
    return await TOKENS.verify(request.headers.get("authorization", "").removeprefix("Bearer "))


@asynccontextmanager
async def world(**changes: Any) -> AsyncIterator[World]:
    clock = ManualClock()
    async with running_hub(EventDatabase(), clock=clock, **changes) as hub:
        it = World(hub, MemoryTickets(clock), **changes)
        yield it
        for client in it.clients:
            await client.leave()
        assert hub.connection_count == 0


async def test_nothing_is_sent_before_auth() -> None:
    async with world() as it:
        client = it.client()
        await settle()
        assert [m["type"] for m in client.sent] == ["websocket.accept"]
        await client.say({"type": "auth", "token": "good"})
        assert [f["type"] for f in client.frames] == ["ready", "snapshot"]
        assert client.frames[0] == {
            "type": "ready",
            "userId": str(OWNER.id),
            "heartbeatSeconds": 15.0,
            "expiresAt": "2026-01-01T01:00:00Z",
        }


async def test_silence_is_closed_with_4401() -> None:
    async with world(ws_auth_timeout_s=0.0) as it:
        client = it.client()
        await settle()
        assert client.closed == 4401
        assert client.frames == []


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"type": "auth", "token": "bad"}, 4401),
        ({"type": "auth", "token": "other"}, 4403),
        ({"type": "ping"}, 4400),
        ("not json", 4400),
        ({"type": "auth", "token": "x" * 8192}, 1009),
    ],
)
async def test_bad_first_message_is_answered_with_a_close_code_alone(first: object, code: int) -> None:
    async with world() as it:
        client = it.client()
        await client.say(first)
        assert client.closed == code
        assert client.frames == []
        assert it.hub.connection_count == 0


async def test_binary_first_message_is_refused() -> None:
    async with world() as it:
        client = it.client()
        await client.say_bytes(b"{}")
        assert client.closed == 4400


async def test_somebody_elses_topic_is_4403() -> None:
    async with world() as it:
        client = it.client(user_id=user(2).id)
        await client.say({"type": "auth", "token": "good"})
        assert client.closed == 4403


async def test_renewing_keeps_the_connection_and_a_bad_renewal_ends_it() -> None:
    async with world() as it:
        client = it.client()
        await client.say({"type": "auth", "token": "good"})
        await client.say({"type": "auth", "token": "newer"})
        assert client.frames[-1] == {"type": "renewed", "expiresAt": "2026-01-01T02:00:00Z"}
        await client.say({"type": "auth", "token": "bad"})
        assert client.closed == 4401
        assert client.task is not None
        assert client.task.done()


async def test_renewing_as_somebody_else_is_4403() -> None:
    async with world() as it:
        client = it.client()
        await client.say({"type": "auth", "token": "good"})
        await client.say({"type": "auth", "token": "other"})
        assert client.closed == 4403


async def test_expiry_ends_the_endpoint() -> None:
    async with world() as it:
        client = it.client()
        await client.say({"type": "auth", "token": "good"})
        it.tickets.clock.advance(3600)
        await it.hub.check_tokens()
        await settle()
        assert client.closed == 4401
        assert client.task is not None
        assert client.task.done()


async def test_ping_is_answered_and_nonsense_is_named_then_ended() -> None:
    async with world() as it:
        client = it.client()
        await client.say({"type": "auth", "token": "good"})
        await client.say({"type": "ping"})
        assert client.frames[-1]["type"] == "pong"
        for nonsense in [{"type": "subscribe"}, "not json", "[]"]:
            await client.say(nonsense)
            assert client.frames[-1]["type"] == "error"
            assert client.frames[-1]["code"] == "unknown_message"
        for _ in range(8):
            await client.say("{}")
        assert client.closed == 4400


async def test_message_over_8_kib_is_1009_later_too() -> None:
    async with world() as it:
        client = it.client()
        await client.say({"type": "auth", "token": "good"})
        await client.say({"type": "ping", "pad": "x" * 9000})
        assert client.closed == 1009


async def test_ticket_in_the_query_needs_no_message_and_works_once() -> None:
    async with world() as it:
        ticket = await ws.issue_ticket(it.tickets, OWNER, clock=it.tickets.clock, expires_in_s=30)
        first = it.client(query=f"ticket={ticket.ticket}&lastEventId=0")
        await settle()
        assert [f["type"] for f in first.frames] == ["ready"]
        second = it.client(query=f"ticket={ticket.ticket}")
        await settle()
        assert second.closed == 4401


async def test_last_event_id_in_the_query_must_be_a_number() -> None:
    async with world() as it:
        client = it.client(query="ticket=x&lastEventId=-1")
        await settle()
        assert client.closed == 4400


async def test_foreign_origin_is_denied_before_accept() -> None:
    async with world() as it:
        client = it.client(origin="https://evil.example")
        await settle()
        assert client.status == 403
        assert [m["type"] for m in client.sent] == ["websocket.http.response.start", "websocket.http.response.body"]


async def test_server_without_denial_responses_closes_before_accept() -> None:
    async with world() as it:
        client = it.client(origin="https://evil.example")
        client.scope["extensions"] = {}
        await settle()
        assert [m["type"] for m in client.sent] == ["websocket.close"]


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "echo.test", True),
        ("http://echo.test", "anything", True),
        ("http://echo.test:80", "anything", True),
        ("https://echo.test", "other", False),
        ("https://a.example", "a.example", True),
        ("https://a.example", "a.example:443", True),
        ("http://a.example:8000", "a.example:8000", True),
        ("http://a.example:8001", "a.example:8000", False),
        ("https://listed.example", "echo.test", True),
        ("https://listed.example.evil", "echo.test", False),
        ("https://evil.example", "echo.test", False),
        ("null", "echo.test", False),
        ("null", "", False),
        ("", "", False),
        ("file://", "", False),
    ],
)
def test_origins(origin: str | None, host: str, allowed: bool) -> None:
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    assert origin_allowed(Headers(headers), limits(cors_origins=("https://listed.example",))) is allowed


async def test_sockets_that_do_not_say_who_they_are_are_limited() -> None:
    async with world() as it:
        held = [it.client() for _ in range(ws.MAX_UNAUTHENTICATED_PER_ADDRESS)]
        await settle()
        late = it.client()
        await settle()
        assert late.status == 503
        await held[0].say({"type": "auth", "token": "good"})
        again = it.client()
        await settle()
        assert again.status is None


def test_waiting_room_limits_one_address_and_everybody() -> None:
    room = WaitingRoom()
    with room.place("a") as first:
        assert first
    with ExitStack() as places:
        for number in range(ws.MAX_UNAUTHENTICATED):
            assert places.enter_context(room.place(f"address {number % 100}"))
        assert not places.enter_context(room.place("another"))
    with room.place("another") as in_time:
        assert in_time


async def test_too_many_connections_of_one_user_are_4429() -> None:
    async with world(ws_max_connections_per_user=1) as it:
        first, second = it.client(), it.client()
        await first.say({"type": "auth", "token": "good"})
        await second.say({"type": "auth", "token": "good"})
        assert (first.closed, second.closed) == (None, 4429)
