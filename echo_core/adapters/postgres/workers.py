"""Workers: who lives, and who can run what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ARRAY, Integer, Interval, Text, bindparam, text

from echo_core.adapters.postgres.transaction import Transaction
from echo_core.domain.ids import StepId

FORGET_AFTER = timedelta(days=1)
"""Long enough for somebody who looks for the worker that died last night."""

_CHECK_IN = text(
    """
    insert into echo.workers (name, steps, version) values (:name, :steps, :version)
    on conflict (name) do update set steps = excluded.steps, seen_at = clock_timestamp()
    """
).bindparams(bindparam("name", type_=Text), bindparam("steps", type_=ARRAY(Text)), bindparam("version", type_=Text))

_FORGET = text("delete from echo.workers where seen_at < clock_timestamp() - :age").bindparams(
    bindparam("age", value=FORGET_AFTER, type_=Interval)
)

_UNPROVIDED = text(
    """
    select id from echo.steps
    where state = 'queued' and run_at <= (select clock_timestamp()) - :waiting_for
        and name <> all (array(
            select unnest(steps) from echo.workers where seen_at > clock_timestamp() - :waiting_for
        ))
    order by run_at
    limit :limit
    """
).bindparams(bindparam("waiting_for", type_=Interval), bindparam("limit", type_=Integer))


class PostgresWorkerRepository:
    """``WorkerRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def check_in(self, name: str, *, steps: Sequence[str], version: str) -> None:
        """This worker lives, and can run these steps."""
        await self._tx.execute(_CHECK_IN, {"name": name, "steps": list(steps), "version": version})

    async def list_unprovided(self, waiting_for: timedelta, limit: int) -> Sequence[StepId]:
        """Steps that have been due for so long while no worker checked in that can run them."""
        await self._tx.execute(_FORGET)
        parameters = {"waiting_for": waiting_for, "limit": limit}
        return [StepId(row.id) for row in await self._tx.execute(_UNPROVIDED, parameters)]
