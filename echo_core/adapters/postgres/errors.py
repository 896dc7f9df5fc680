"""The database's errors as Echo's: what may work later is an ``UnavailableError``; anything else stays what it is."""

from __future__ import annotations

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from echo_core.plugin_api.errors import UnavailableError

BUSY = frozenset({"40001", "40P01", "55P03", "57014"})
"""serialization_failure, deadlock_detected, lock_not_available, query_canceled (statement_timeout)."""
REFUSED = frozenset({"28000", "28P01", "3D000"})
"""invalid_authorization_specification, invalid_password, invalid_catalog_name."""
CUT_OFF = frozenset({"25P03", "25P04"})
"""idle_in_transaction_session_timeout, transaction_timeout: this process stood still, and its session was ended."""
AWAY_CLASSES = ("08", "53", "57P", "58", "XX")
"""connection exceptions, insufficient resources, operator intervention, system errors, internal errors."""


def unavailable(error: BaseException) -> UnavailableError | None:
    """The error as one that may pass by itself, or None if it never will."""
    if isinstance(error, PoolTimeoutError):
        return UnavailableError(
            "All connections to the database are in use.",
            code="database_busy",
            remedy="Try again in a moment; if this goes on, raise database.pool_size.",
        )
    state = sqlstate(error)
    if state in BUSY:
        return UnavailableError(
            "The database was too busy for this change.", code="database_busy", remedy="Try again in a moment."
        )
    if state in REFUSED:
        return UnavailableError(
            "The database refused the login.",
            code="database_unavailable",
            remedy="Check the user, password and database name in database.url (and api_url, worker_url).",
        )
    if state == "08P01" and "startup parameter" in str(error):  # protocol_violation, as PgBouncer says it
        return UnavailableError(
            "There is a pooler in front of the database that takes no settings.",
            code="database_unavailable",
            remedy="Set database.transaction_pooling = true if it pools transactions, or add statement_timeout and "
            "idle_in_transaction_session_timeout to its ignore_startup_parameters.",
        )
    if _is_away(error, state):
        return UnavailableError(
            "The database cannot be reached.",
            code="database_unavailable",
            remedy="Try again in a moment; if this goes on, check that PostgreSQL runs and that database.url is right.",
        )
    return None


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of an error of asyncpg, wrapped by SQLAlchemy or not."""
    if isinstance(error, DBAPIError):
        error = error.orig if error.orig is not None else error
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def _is_away(error: BaseException, state: str | None) -> bool:
    if state is not None:
        return state in CUT_OFF or state.startswith(AWAY_CLASSES)
    if isinstance(error, DBAPIError):
        # Without an SQLSTATE nothing came from the server. The driver's own complaints about arguments have the
        # cause asyncpg.DataError, which has one.
        return error.connection_invalidated or isinstance(_driver_error(error), asyncpg.InterfaceError | OSError)
    if isinstance(error, AsyncAdapt_asyncpg_dbapi.Error):
        error = error.__cause__ or error
    # An InternalClientError: the server said goodbye to an idle connection that the driver has not seen closed yet.
    return isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError)


def _driver_error(error: DBAPIError) -> BaseException | None:
    return error.orig.__cause__ if error.orig is not None else None


_OF_THE_DATABASE = (
    DBAPIError,
    PoolTimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    AsyncAdapt_asyncpg_dbapi.Error,
    OSError,
)


class translated:  # noqa: N801 - reads as the verb it stands for; a class, since it wraps every call of the driver
    """Raise ``UnavailableError`` for errors of the database that may pass. Wrap single calls of the driver with it,
    never a caller's code: an ``OSError`` counts as the database's."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _OF_THE_DATABASE) and (mapped := unavailable(error)) is not None:
            raise mapped from error
