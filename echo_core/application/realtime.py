"""The hub: hands committed events and progress to the status connections of this process.

The database numbers every state change of an owner without gaps; whatever else tells of one is a hint. So a hint that
is the next number is delivered as it is, one that is not makes the hub read the missing from the database first, and
what no hint told of is found by asking for the newest numbers every few seconds. Each connection therefore gets each
state change once and in order, whatever the bus lost, doubled or shuffled. Longer than a module should be: the order of
all that a connection is sent is decided here alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog

from echo_core.application.ending import end_tasks
from echo_core.application.ports import Progress, Tokens, UserUnitsOfWork
from echo_core.application.realtime_access import (
    CLOSE_FORBIDDEN,
    CLOSE_RESTART,
    CLOSE_SLOW,
    CLOSE_TOO_MANY,
    CLOSE_TRY_LATER,
    CLOSE_UNAUTHENTICATED,
    RefusedError,
    TicketStore,
)
from echo_core.application.realtime_catch_up import CatchUp, SlowClientError
from echo_core.application.realtime_frames import (
    HeartbeatFrame,
    ReadyFrame,
    RenewedFrame,
    TokenExpiringFrame,
    encoded,
    event_frame,
)
from echo_core.application.realtime_outbox import Outbox, OutboxLimits
from echo_core.application.realtime_progress import ProgressPacer
from echo_core.application.realtime_topics import Connection, Sink, Topic
from echo_core.application.services import Limits
from echo_core.domain.ids import UserId
from echo_core.domain.users import User
from echo_core.plugin_api.context import Clock
from echo_core.plugin_api.events import Event

log = structlog.get_logger("echo.realtime")

TICK_S: Final = 1.0
"""How often tokens are looked at."""
HEARTBEAT_S: Final = 15.0
"""A connection that got nothing between two of these hears that the server is there: one message in 30 s at least."""
EXPIRY_WARNING_S: Final = 60.0
"""How long before its token expires a client is reminded."""
CLOSE_TIMEOUT_S: Final = 5.0
"""How long a close frame may wait for a socket that takes nothing."""
SOURCE_RETRY_S: Final = 1.0
"""A source mends itself; should one end all the same, it is opened again after this."""
YIELD_EVERY: Final = 16
"""Messages between two turns of everything else in this process while a burst is handed out."""


@dataclass(frozen=True, slots=True)
class Discontinuity:
    """The source cannot vouch for what happened before this point."""


class EventSource(Protocol):
    """The bus, from the reading end."""

    def messages(self) -> AsyncGenerator[Event | Progress | Discontinuity, None]:
        """Everything that any process publishes from now on, for ever; it reconnects by itself."""


class RealtimeHub:
    """All status connections of this process. Entered, it runs until it is left; then every client is told to come
    back (1012). One event loop only."""

    def __init__(
        self,
        *,
        units_of_work: UserUnitsOfWork,
        source: EventSource,
        limits: Limits,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._limits = limits
        self._clock = clock
        self._outbox_limits = OutboxLimits(max_messages=limits.ws_max_queue)
        self._catch_up = CatchUp(units_of_work, clock, page_size=max(1, min(200, limits.ws_max_queue // 2)))
        self.topics: dict[UserId, Topic] = {}
        self._group: asyncio.TaskGroup | None = None
        self.progress = ProgressPacer(clock, monotonic)

    # --- running -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled; then close every connection with 1012."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                work = [
                    group.create_task(self._read_source(), name="realtime-source"),
                    group.create_task(self._repeat(self._limits.ws_poll_s, self.poll), name="realtime-poll"),
                    group.create_task(self._repeat(TICK_S, self.check_tokens), name="realtime-tokens"),
                    group.create_task(self._repeat(HEARTBEAT_S, self.send_heartbeats), name="realtime-heartbeat"),
                    group.create_task(self.progress.run(), name="realtime-progress"),
                ]
                try:
                    await asyncio.wait(work, return_when=asyncio.FIRST_EXCEPTION)
                finally:
                    await end_tasks(work)
        finally:
            self._group = None
            await self._close_all()

    async def _read_source(self) -> None:
        while True:
            try:
                handled = 0
                async with aclosing(self._source.messages()) as messages:
                    async for message in messages:
                        self.handle(message)
                        handled += 1
                        if handled % YIELD_EVERY == 0:
                            await asyncio.sleep(0)
            except Exception:
                log.exception("realtime.source_failed")
            await asyncio.sleep(SOURCE_RETRY_S)

    async def _repeat(self, interval_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await work()
            except Exception:
                log.exception("realtime.task_failed", task=work.__name__)

    def _spawn(self, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> asyncio.Task[None]:
        if self._group is None:
            raise RuntimeError("the hub does not run")
        return self._group.create_task(_guarded(work, *args))

    # --- connections -------------------------------------------------------------------------------------------

    @property
    def connection_count(self) -> int:
        """How many sockets are attached."""
        return sum(len(topic.connections) for topic in self.topics.values())

    def attach(self, user: User, sink: Sink, *, last_event_id: int | None = None) -> Connection:
        """Take in an authenticated socket: ``ready`` now, then what was missed or a snapshot, then everything live.

        Every attached connection must be detached once its socket is gone. Raises ``RefusedError``.
        """
        if self._group is None:
            raise RefusedError(CLOSE_TRY_LATER, "starting or stopping")
        topic = self.topics.get(user.id)
        if topic is not None and len(topic.connections) >= self._limits.ws_max_connections_per_user:
            raise RefusedError(CLOSE_TOO_MANY, f"more than {self._limits.ws_max_connections_per_user} connections")
        if self.connection_count >= self._limits.ws_max_connections:
            raise RefusedError(CLOSE_TRY_LATER, "this server has no room for more connections")
        if topic is None:
            topic = self.topics[user.id] = Topic(user)
        outbox = Outbox(sink.send, self._spawn, self._outbox_limits)
        connection = Connection(topic, sink, outbox, user.expires_at_s)
        topic.connections[connection] = None
        outbox.put_state(
            encoded(ReadyFrame(user_id=user.id, heartbeat_seconds=HEARTBEAT_S, expires_at=_moment(user.expires_at_s)))
        )
        connection.starting = self._spawn(self._start, connection, last_event_id, "connected")
        return connection

    def detach(self, connection: Connection) -> None:
        """Forget a connection."""
        connection.closing = True
        connection.live = False
        connection.outbox.close()
        if connection.starting is not None:
            connection.starting.cancel()
        topic = connection.topic
        topic.connections.pop(connection, None)
        if not topic.connections and self.topics.get(topic.owner_id) is topic:
            del self.topics[topic.owner_id]

    def renew(self, connection: Connection, user: User) -> None:
        """Prolong a connection with a newer token of the same user; an older one changes nothing."""
        if user.id != connection.topic.owner_id:
            self.close(connection, CLOSE_FORBIDDEN, "not your user id")
            return
        if user.expires_at_s == 0.0 or user.expires_at_s > connection.expires_at_s > 0.0:
            connection.expires_at_s = user.expires_at_s
            connection.warned = False
            connection.topic.user = user
        connection.outbox.put_state(encoded(RenewedFrame(expires_at=_moment(connection.expires_at_s))))

    def close(self, connection: Connection, code: int, reason: str) -> None:
        """Send a close frame, what waits is dropped, and end the endpoint."""
        if connection.closing:
            return
        connection.closing = True
        connection.live = False
        connection.outbox.close()
        if self._group is None:
            connection.sink.abandon()
        else:
            self._spawn(_say_goodbye, connection.sink, code, reason)

    async def _close_all(self) -> None:
        open_ones = [c for topic in self.topics.values() for c in topic.connections if not c.closing]
        for connection in open_ones:
            connection.closing = True
            connection.live = False
            connection.outbox.close()
        await asyncio.gather(*(_say_goodbye(c.sink, CLOSE_RESTART, "restarting") for c in open_ones))

    async def _start(self, connection: Connection, last_event_id: int | None, reason: str) -> None:
        """Bring a connection to the present and make it live."""
        topic = connection.topic
        try:
            await self._begin(topic)
            await self._catch_up.bring_up(connection, last_event_id, reason)
        except SlowClientError:
            self.close(connection, CLOSE_SLOW, "too slow")
        except Exception:
            log.exception("realtime.start_failed", owner_id=str(topic.owner_id))
            self.close(connection, CLOSE_TRY_LATER, "try again later")
        finally:
            connection.starting = None

    def _start_over(self, topic: Topic) -> None:
        """Numbers are missing or went back (a restored database): everybody gets a snapshot that says so."""
        log.warning("realtime.events_missing", owner_id=str(topic.owner_id), last=topic.last)
        for connection in list(topic.live_connections()):
            connection.live = False
            connection.starting = self._spawn(self._start, connection, None, "gap")

    # --- events ------------------------------------------------------------------------------------------------

    def handle(self, message: Event | Progress | Discontinuity) -> None:
        """Take in one message of the bus."""
        match message:
            case Event():
                self._handle_event(message)
            case Progress():
                self.progress.take(message, self.topics.get(message.owner_id))
            case Discontinuity():
                self._spawn(self.poll)

    def _handle_event(self, event: Event) -> None:
        topic = self.topics.get(UserId(event.owner_id))
        if topic is None or (topic.last is not None and event.sequence <= topic.last):
            return
        if topic.last is None or event.sequence != topic.last + 1:
            topic.hold(event)
            self._fetch_missing(topic)
            return
        self._deliver(topic, event)
        self._deliver_held(topic)

    def _deliver(self, topic: Topic, event: Event) -> None:
        topic.last = event.sequence
        topic.head = max(topic.head, event.sequence)
        topic.note_state(event)
        frame = None
        for connection in topic.connections:
            if not connection.live or connection.sent >= event.sequence:
                continue
            frame = frame or event_frame(event)
            if connection.outbox.put_state(frame, event.job_id):
                connection.sent = event.sequence
            else:
                self.close(connection, CLOSE_SLOW, "too slow")

    def _deliver_held(self, topic: Topic) -> None:
        while topic.pending and (event := topic.take_next()) is not None:
            self._deliver(topic, event)

    def _fetch_missing(self, topic: Topic) -> None:
        if topic.behind and not topic.fetching:
            topic.fetching = True
            self._spawn(self._fetch, topic)

    async def _fetch(self, topic: Topic) -> None:
        """Read what is missing before the events that are held, and deliver both. If the database cannot be read, the
        next hint or poll tries again."""
        try:
            while topic.behind and topic.connections and topic.last is not None:
                asked_after = topic.last
                page = await self._catch_up.read_after(topic, asked_after)
                if not self._deliver_page(topic, page):
                    break
        finally:
            topic.fetching = False

    def _deliver_page(self, topic: Topic, page: Sequence[Event]) -> bool:
        """Deliver in order. False: the database does not have what was promised."""
        last = topic.last or 0
        fresh = [event for event in page if event.sequence > last]
        if page and not fresh:
            return True  # hints were quicker than the query
        if not fresh:
            if topic.behind:
                # Never believe a hint that the database does not confirm.
                log.warning("realtime.hint_unconfirmed", owner_id=str(topic.owner_id), hinted=topic.head, last=last)
                topic.pending.clear()
                topic.head = last
            return False
        if fresh[0].sequence > last + 1:
            topic.begin_at(fresh[0].sequence - 1)
            self._start_over(topic)
        for event in fresh:
            if topic.last is not None and event.sequence == topic.last + 1:
                self._deliver(topic, event)
        self._deliver_held(topic)
        return True

    async def _begin(self, topic: Topic) -> None:
        """Learn where this owner's history stands, once."""
        async with topic.lock:
            if topic.last is not None:
                return
            heads = await self._catch_up.heads([topic.owner_id])
            topic.begin_at(heads.get(topic.owner_id, 0))
            self._deliver_held(topic)
            self._fetch_missing(topic)

    async def poll(self) -> None:
        """Ask the database for the newest numbers of all connected owners and deliver what no hint told of."""
        asked = {topic.owner_id: (topic, topic.last) for topic in self.topics.values() if topic.last is not None}
        if not asked:
            return
        heads = await self._catch_up.heads(list(asked))
        for owner_id, (topic, last_then) in asked.items():
            head = heads.get(owner_id, 0)
            if head < last_then:
                topic.pending.clear()
                topic.begin_at(head)
                self._start_over(topic)
            else:
                topic.head = max(topic.head, head)
                self._fetch_missing(topic)

    # --- time --------------------------------------------------------------------------------------------------

    async def check_tokens(self) -> None:
        """Close connections whose token has expired (4401) and remind those whose token soon will."""
        now_s = self._clock.now().timestamp()
        for topic in list(self.topics.values()):
            for connection in list(topic.connections):
                left_s = connection.expires_at_s - now_s
                if connection.expires_at_s == 0.0 or left_s > EXPIRY_WARNING_S:
                    continue
                if left_s <= 0:
                    self.close(connection, CLOSE_UNAUTHENTICATED, "token_expired")
                elif not connection.warned:
                    connection.warned = True
                    expires_at = datetime.fromtimestamp(connection.expires_at_s, UTC)
                    connection.outbox.put_state(encoded(TokenExpiringFrame(expires_at=expires_at)))

    async def send_heartbeats(self) -> None:
        """Tell connections that got nothing since the last time that the server is there."""
        frame = encoded(HeartbeatFrame(at=self._clock.now()))
        for topic in self.topics.values():
            for connection in topic.connections:
                if connection.outbox.frames == connection.beat:
                    connection.outbox.put_state(frame)
                connection.beat = connection.outbox.frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Realtime:
    """What the status connections of this process work with."""

    hub: RealtimeHub
    tokens: Tokens
    tickets: TicketStore
    limits: Limits
    clock: Clock


async def _guarded(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    """One connection's trouble must not end the hub."""
    try:
        await work(*args)
    except Exception:
        log.exception("realtime.task_failed", task=work.__qualname__)


async def _say_goodbye(sink: Sink, code: int, reason: str) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await sink.close(code, reason)
    except Exception as error:
        log.debug("realtime.close_unsent", code=code, error=repr(error))
    finally:
        sink.abandon()


def _moment(epoch_s: float) -> datetime | None:
    return datetime.fromtimestamp(epoch_s, UTC) if epoch_s else None
