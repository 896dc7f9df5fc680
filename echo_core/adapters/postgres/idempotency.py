"""Answers by idempotency key. They are sealed (``adapters/sealing.py``), for upload URLs are among them."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

from sqlalchemy import text

from echo_core.adapters.postgres.transaction import Transaction
from echo_core.adapters.sealing import AnswerSeal, SealBrokenError
from echo_core.application.ports import StoredResponse
from echo_core.domain.errors import InvalidInputError
from echo_core.domain.ids import UserId

# A reservation's "created_at" is when it was last renewed: the version before, which knows no tokens and may run beside
# this one, then leaves it alone too.
_RESERVE = text(
    """
    insert into echo.idempotency_keys as held (owner_id, key, request_hash, token)
    values (:owner_id, :key, :request_hash, :token)
    on conflict (owner_id, key) do update
        set request_hash = excluded.request_hash, created_at = excluded.created_at, token = excluded.token,
            status = 0, body = '', content_type = '', location = '', headers = '{}'
        where held.created_at < clock_timestamp() - interval '1 day'
            or (held.status = 0 and held.created_at < clock_timestamp() - interval '1 minute')
    returning true
    """
)
_FIND = text(
    """
    select request_hash, status, body, content_type, location, headers::text as headers from echo.idempotency_keys
    where owner_id = :owner_id and key = :key
    """
)
_RENEW = text(
    """
    update echo.idempotency_keys set created_at = clock_timestamp()
    where owner_id = :owner_id and key = :key and token = :token and status = 0
    returning true
    """
)
_COMPLETE = text(
    """
    update echo.idempotency_keys
    set status = :status, body = :body, content_type = :content_type, headers = cast(:headers as jsonb),
        request_hash = :sealed_hash
    where owner_id = :owner_id and key = :key and token = :token and request_hash = :request_hash and status = 0
    """
)
_RELEASE = text(
    """
    delete from echo.idempotency_keys where owner_id = :owner_id and key = :key and token = :token and status = 0
    """
)


_NOBODYS = "Idempotency keys belong to callers; a worker's unit of work has none."
SEALED = "sealed:"
"""Before the hash of a request whose answer is sealed. So those of the version before are told apart, and that version,
where it still runs, refuses the key instead of handing out what it cannot read."""


class PostgresIdempotencyRepository:
    """``IdempotencyRepository``."""

    def __init__(self, tx: Transaction, owner_id: UserId | None, seal: AnswerSeal | None) -> None:
        self._tx = tx
        self._owner_id = owner_id
        self._seal = seal

    async def reserve(self, key: str, request_hash: str, token: UUID) -> StoredResponse | None:
        """None: the key is the caller's now. Otherwise what the key stands for."""
        identity = self._identity(key)
        while True:
            taken = await self._tx.execute(_RESERVE, {**identity, "request_hash": request_hash, "token": token})
            if taken.one_or_none() is not None:
                return None
            row = (await self._tx.execute(_FIND, identity)).one_or_none()
            if row is not None:
                facts = row._mapping
                return self._opened(key, StoredResponse(**{**facts, "headers": json.loads(facts["headers"])}))
            # Between the two statements somebody released the key: it is free again.

    async def renew(self, key: str, token: UUID) -> bool:
        """The request still runs. False: the reservation is not the caller's any more."""
        renewed = await self._tx.execute(_RENEW, {**self._identity(key), "token": token})
        return renewed.one_or_none() is not None

    async def complete(self, key: str, token: UUID, response: StoredResponse) -> None:
        """Keep the answer, unless there is one, or somebody took over the key."""
        await self._tx.execute(
            _COMPLETE,
            {
                **self._identity(key),
                "token": token,
                "request_hash": response.request_hash,
                "sealed_hash": SEALED + response.request_hash,
                "status": response.status,
                "body": self._callers_seal().seal(self._owner(), key, body=response.body, location=response.location),
                "content_type": response.content_type,
                "headers": json.dumps(dict(response.headers)),
            },
        )

    async def release(self, key: str, token: UUID) -> None:
        """Forget the caller's reservation; an answer, and somebody else's reservation, stay."""
        await self._tx.execute(_RELEASE, {**self._identity(key), "token": token})

    def _opened(self, key: str, stored: StoredResponse) -> StoredResponse:
        if not stored.request_hash.startswith(SEALED):
            return stored
        try:
            body, location = self._callers_seal().open(self._owner(), key, stored.body)
        except SealBrokenError as error:
            raise InvalidInputError(
                "The answer that this Idempotency-Key stands for cannot be read any more.",
                code="idempotency_key_reused",
                remedy="Look whether what you asked for was done; for anything else use a new key.",
            ) from error
        return replace(stored, request_hash=stored.request_hash.removeprefix(SEALED), body=body, location=location)

    def _owner(self) -> UserId:
        if self._owner_id is None:
            raise RuntimeError(_NOBODYS)
        return self._owner_id

    def _callers_seal(self) -> AnswerSeal:
        if self._seal is None:
            raise RuntimeError(_NOBODYS)
        return self._seal

    def _identity(self, key: str) -> dict[str, object]:
        return {"owner_id": self._owner(), "key": key}
