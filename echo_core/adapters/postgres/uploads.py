"""Uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import cache
from typing import Any

from sqlalchemy import Double, Integer, Text, Uuid, bindparam, func, insert, select, text, update

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import UploadRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import UserId, VideoId
from echo_core.domain.uploads import StorageUse, Upload, UploadState

COLUMNS = tuple(UploadRow.__table__.c[f.name] for f in fields(Upload))
"""Those of the entity; ``check_at`` is the database's alone."""
UNCHANGEABLE = frozenset({"video_id", "owner_id", "created_at"})


class PostgresUploadRepository:
    """``UploadRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, upload: Upload) -> None:
        """Store a new upload."""
        await self._tx.execute(insert(UploadRow.__table__), asdict(upload))

    async def get(self, video_id: VideoId, *, for_update: bool = False) -> Upload:
        """Raises ``UnknownEntityError``."""
        row = await self._tx.find(_get(for_update), video_id=video_id)
        if row is None:
            raise _unknown_upload()
        return _upload(row)

    async def save(self, upload: Upload) -> None:
        """Store what changed. Raises ``UnknownEntityError``."""
        values = {name: value for name, value in asdict(upload).items() if name not in UNCHANGEABLE}
        statement = update(UploadRow.__table__).where(UploadRow.video_id == upload.video_id).values(values)
        if (await self._tx.execute(statement)).rowcount == 0:
            raise _unknown_upload()

    async def use_of(self, owner_id: UserId, *, with_bytes: bool) -> StorageUse:
        """What an owner's videos take; without ``with_bytes`` only how many uploads are unfinished. Holds a lock on
        this owner's use until the end of the transaction."""
        await self._tx.execute(_LOCK_USE, {"owner_id": owner_id})
        statement = _USE if with_bytes else _UNFINISHED
        row = (await self._tx.execute(statement, {"owner_id": owner_id})).one()
        return StorageUse(**{name: int(value) for name, value in row._mapping.items()})

    async def claim_due(self, backend: str, *, for_s: float) -> Upload | None:
        """The open upload of this backend that is longest due, the caller's for so long (worker only)."""
        row = await self._tx.find(_CLAIM_DUE, backend=backend, for_s=for_s)
        return None if row is None else _upload(row)

    async def put_off(self, video_id: VideoId) -> None:
        """Nothing was found: the next look comes later, the more so the older the upload is (worker only)."""
        await self._tx.execute(_PUT_OFF, {"video_id": video_id})

    async def list_expired(self, limit: int) -> Sequence[Upload]:
        """Open and quarantined uploads past their expiry by the database's clock, oldest first (worker only)."""
        return [_upload(row) for row in await self._tx.fetch(_EXPIRED, limit=limit)]


_LOCK_USE = text(
    "select pg_advisory_xact_lock(hashtextextended('echo.use:' || cast(:owner_id as text), 0))"
).bindparams(bindparam("owner_id", type_=Uuid))
# By the index of unfinished uploads, which are few in all, rather than by an owner's, who may have many videos.
_UNFINISHED = text(
    "select count(*) as unfinished from echo.uploads where state in ('open', 'quarantined') and owner_id = :owner_id"
).bindparams(bindparam("owner_id", type_=Uuid))
# Of an open upload without a size nothing is known until it is complete.
_USE = text(
    """
    select
        count(*) filter (where u.state in ('open', 'quarantined')) as unfinished,
        coalesce(sum(u.size_bytes) filter (where u.state in ('open', 'quarantined')), 0) as unfinished_bytes,
        coalesce(sum(u.size_bytes) filter (where u.state = 'completed'), 0) as source_bytes,
        (
            select coalesce(sum(a.size_bytes), 0) from echo.artefacts a where a.owner_id = :owner_id
        ) as derived_bytes
    from echo.uploads u
    where u.owner_id = :owner_id
    """
).bindparams(bindparam("owner_id", type_=Uuid))


@cache
def _get(for_update: bool) -> Query:
    statement = select(*COLUMNS).where(UploadRow.video_id == bindparam("video_id", type_=Uuid))
    return Query(statement.with_for_update(key_share=True) if for_update else statement)


_SOONEST, _LATEST = "interval '2 minutes'", "interval '1 hour'"
"""Between two looks for the object of an upload."""
_EXPIRED = Query(
    select(*COLUMNS)
    .where(
        text("state in ('open', 'quarantined')"),  # as the index says it
        # Read once, as a subquery: a bare clock_timestamp() could not use the index.
        UploadRow.expires_at < select(func.clock_timestamp()).scalar_subquery(),
    )
    .order_by(UploadRow.expires_at)
    .limit(bindparam("limit", type_=Integer))
)


_CLAIM_DUE = Query(
    text(
        f"""
        with due as (
            select video_id from echo.uploads
            where state = 'open' and check_at <= (select clock_timestamp())
                and backend = :backend and expires_at > (select clock_timestamp())
            order by check_at, video_id
            for no key update skip locked
            limit 1
        )
        update echo.uploads u
        set check_at = clock_timestamp() + make_interval(secs => :for_s)
        from due where u.video_id = due.video_id
        returning {", ".join(f"u.{column.name}" for column in COLUMNS)}
        """  # noqa: S608 - names of columns
    ).bindparams(bindparam("backend", type_=Text), bindparam("for_s", type_=Double))
)
_PUT_OFF = text(
    f"""
    update echo.uploads
    set check_at = clock_timestamp() + least(greatest((clock_timestamp() - created_at) / 4, {_SOONEST}), {_LATEST})
    where video_id = :video_id and state = 'open' and check_at > (select clock_timestamp())
    """  # noqa: S608 - constants
).bindparams(bindparam("video_id", type_=Uuid))


def _unknown_upload() -> UnknownEntityError:
    return UnknownEntityError("There is no such upload.", remedy="Start the upload again.")


def _upload(row: Any) -> Upload:
    return Upload(**{**row, "state": UploadState(row["state"])})
