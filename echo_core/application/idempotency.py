"""Idempotency keys: a POST that is sent again is answered again, not done again.

A key belongs to its caller and to one route: the same text on another route is another key.

While a request runs it holds its key by a reservation that it renews. One that is not renewed for a minute is of a dead
process and may be taken over; should that process only have stood still, its reservation's token is not the one that
counts any more, and it changes nothing of its successor's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import structlog

from echo_core.application.ending import end_tasks
from echo_core.application.ports import StoredResponse
from echo_core.application.services import ApiServices
from echo_core.domain.errors import ConflictError, InvalidInputError
from echo_core.domain.users import User

log = structlog.get_logger("echo.idempotency")

RENEW_EVERY_S = 15.0
"""A quarter of the minute after which a reservation is taken over: two renewals may fail."""
ERROR_STATUS = 400
"""From this HTTP status on, nothing was done: the key stays free and the request may be corrected."""


class InProgressError(ConflictError):
    """The first request with this key has not ended yet."""

    default_code = "idempotency_in_progress"
    default_remedy = "Wait a second, then send the same request again."


async def run_once(
    services: ApiServices,
    user: User,
    *,
    route: str,
    key: str,
    request_hash: str,
    run: Callable[[], Awaitable[StoredResponse]],
) -> tuple[StoredResponse, bool]:
    """The answer to a request, and whether it is an earlier one's. ``route`` has no spaces.

    Raises ``InvalidInputError`` (``idempotency_key_reused``) for another request under the same key,
    ``InProgressError``, and whatever ``run`` raises (the key is then free again).
    """
    key, token = f"{route} {key}", uuid4()
    async with services.units_of_work.for_user(user) as uow:
        earlier = await uow.idempotency.reserve(key, request_hash, token)
    if earlier is not None:
        return _answer(earlier, request_hash), True
    async with _renewing(services, user, key, token):
        try:
            response = await run()
        except BaseException:
            await _release(services, user, key, token)
            raise
        if response.status >= ERROR_STATUS:
            await _release(services, user, key, token)
            return response, False
        async with services.units_of_work.for_user(user) as uow:
            await uow.idempotency.complete(key, token, replace(response, request_hash=request_hash))
        return response, False


@asynccontextmanager
async def _renewing(services: ApiServices, user: User, key: str, token: UUID) -> AsyncIterator[None]:
    """Hold the reservation while inside. No ``TaskGroup``: what the request raises must come out as it is."""
    renewing = asyncio.create_task(_renew(services, user, key, token), name="renew idempotency key")
    try:
        yield
    finally:
        await end_tasks([renewing])


async def _renew(services: ApiServices, user: User, key: str, token: UUID) -> None:
    while True:
        await asyncio.sleep(RENEW_EVERY_S)
        try:
            async with services.units_of_work.for_user(user) as uow:
                held = await uow.idempotency.renew(key, token)
        except Exception:
            log.warning("idempotency.renewal_failed", exc_info=True)
            continue
        if not held:
            log.warning("idempotency.reservation_lost")
            return


def _answer(earlier: StoredResponse, request_hash: str) -> StoredResponse:
    if earlier.request_hash != request_hash:
        raise InvalidInputError(
            "This Idempotency-Key was used for another request.",
            code="idempotency_key_reused",
            remedy="Use a new key for every new request; repeat a key only with the very same request.",
        )
    if earlier.status == 0:
        raise InProgressError("The first request with this Idempotency-Key is still being worked on.")
    return earlier


async def _release(services: ApiServices, user: User, key: str, token: UUID) -> None:
    async with services.units_of_work.for_user(user) as uow:
        await uow.idempotency.release(key, token)
