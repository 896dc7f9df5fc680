"""Connections to the database."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from echo_core.adapters.postgres.values import json_text
from echo_core.plugin_api.errors import InvalidRequestError

POOL_TIMEOUT_S = 10.0
"""How long a caller waits for a free connection before it is told that the database is busy."""
IDLE_IN_TRANSACTION_TIMEOUT_S = 5
"""Units of work take milliseconds; one that idles this long belongs to a process that hangs, or to a host that was cut
off, and holds locks that others wait for: the renewal of leases, too, so it is well below a lease."""
TRANSACTION_TIMEOUT_SINCE = 17
"""Version of PostgreSQL. To earlier ones, a session that has prepared a statement and hangs before running it is
active, not idle, and no timeout ends it."""
KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
"""Seconds, and tries: the server forgets the connections of a host that vanished within a minute, not two hours."""
BEGIN_WITH = "echo_begin_with"
"""Execution option of an engine: what ``transaction`` appends to the statement that begins."""
CLIENT_GRACE_S = 5.0
"""The client gives up this much later than the server should have: only then is the server itself gone."""


def driver_url(url: str) -> URL:
    """A ``postgresql://`` (or ``postgres://``) address as SQLAlchemy and asyncpg want it.

    Raises ``InvalidRequestError`` (code ``invalid_database_url``), which never repeats the address: it has a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise _invalid_url() from None  # the cause quotes parts of the address
    if parsed.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        raise _invalid_url()
    query = dict(parsed.query)
    if (mode := query.pop("sslmode", None)) is not None:
        query["ssl"] = mode  # libpq's name, which every hosted service prints, and asyncpg's
    return parsed.set(drivername="postgresql+asyncpg", query=query)


def _invalid_url() -> InvalidRequestError:
    return InvalidRequestError(
        "The address of the database is not valid.",
        code="invalid_database_url",
        remedy="Write database.url as postgresql://user:password@host:5432/name.",
    )


@asynccontextmanager
async def open_engine(
    url: str,
    *,
    application_name: str = "echo",
    pool_size: int = 10,
    statement_timeout_s: float = 10.0,
    connect_timeout_s: float = 5.0,
    transaction_pooling: bool = False,
) -> AsyncIterator[AsyncEngine]:
    """A pool of connections, closed at the end. Nothing connects before the first use.

    The connections are in autocommit mode: ``Transaction`` begins, in the round trip that also takes on the role, and
    commits. ``statement_timeout_s`` 0: none. ``transaction_pooling``: a pooler stands between, from which each
    transaction gets another connection. No statement stays prepared then, and what is set is set for the transaction.
    """
    settings = {
        "statement_timeout": str(round(statement_timeout_s * 1000)),
        "idle_in_transaction_session_timeout": str(round(_idle_timeout_s(statement_timeout_s) * 1000)),
        "timezone": "UTC",
    }
    connect_args: dict[str, Any] = {
        "server_settings": {
            "application_name": application_name,
            **({} if transaction_pooling else settings | KEEPALIVES),
        },
        "timeout": connect_timeout_s,
        "command_timeout": statement_timeout_s + CLIENT_GRACE_S if statement_timeout_s else None,
    }
    begin_with = ""
    if transaction_pooling:
        connect_args |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        begin_with = "; select " + ", ".join(
            f"set_config('{name}', '{value}', true)" for name, value in settings.items()
        )
    engine = create_async_engine(
        driver_url(url),
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_use_lifo=True,
        connect_args=connect_args,
        execution_options={BEGIN_WITH: begin_with},
        json_serializer=json_text,
        json_deserializer=msgspec.json.decode,
        hide_parameters=True,  # titles, tokens and claims have no place in logs
    )
    event.listen(engine.sync_engine, "connect", partial(_give_up_after, connect_timeout_s))
    if statement_timeout_s and not transaction_pooling:
        longest_s = statement_timeout_s + _idle_timeout_s(statement_timeout_s)
        event.listen(engine.sync_engine, "connect", partial(_end_transactions_after, longest_s))
    try:
        yield engine
    finally:
        await engine.dispose()


def _idle_timeout_s(statement_timeout_s: float) -> float:
    return min(IDLE_IN_TRANSACTION_TIMEOUT_S, statement_timeout_s / 2) or IDLE_IN_TRANSACTION_TIMEOUT_S


def _end_transactions_after(seconds: float, connection: Any, _record: object) -> None:
    """Let the server end a session whose transaction takes longer, whatever it waits for.

    Not among the startup parameters, where earlier servers would refuse it.
    """
    if connection.driver_connection.get_server_version().major >= TRANSACTION_TIMEOUT_SINCE:
        command = f"set transaction_timeout = {round(seconds * 1000)}"
        connection.run_async(lambda driver: driver.execute(command))


def _give_up_after(seconds: float, connection: Any, _record: object) -> None:
    """Let the system end a connection whose packets nobody has acknowledged for so long.

    A host that was cut off would else wait for an answer as long as a statement may take. How long the server computes
    does not matter: its kernel acknowledges at once.
    """
    transport = getattr(connection.driver_connection, "_transport", None)  # asyncpg has no public way to its socket
    plug = transport.get_extra_info("socket") if transport is not None else None
    if plug is None or plug.family == socket.AF_UNIX or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    with socket.socket(fileno=os.dup(plug.fileno())) as own:  # uvloop's stands for a socket, but takes no options
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
