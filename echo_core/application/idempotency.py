"""Idempotency keys: a POST that is sent again is answered again, not done again.

A key belongs to its caller and to one route: the same text on another route is another key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from echo_core.application.ports import StoredResponse
from echo_core.application.services import ApiServices
from echo_core.domain.errors import ConflictError, InvalidInputError
from echo_core.domain.users import User

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
    key = f"{route} {key}"
    async with services.units_of_work.for_user(user) as uow:
        earlier = await uow.idempotency.reserve(key, request_hash)
    if earlier is not None:
        return _answer(earlier, request_hash), True
    try:
        response = await run()
    except BaseException:
        await _release(services, user, key)
        raise
    if response.status >= ERROR_STATUS:
        await _release(services, user, key)
        return response, False
    async with services.units_of_work.for_user(user) as uow:
        await uow.idempotency.complete(key, replace(response, request_hash=request_hash))
    return response, False


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


async def _release(services: ApiServices, user: User, key: str) -> None:
    async with services.units_of_work.for_user(user) as uow:
        await uow.idempotency.release(key)
