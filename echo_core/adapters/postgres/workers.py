"""Workers: who lives, and who can run what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import ARRAY, Double, Integer, Interval, Text, bindparam, text

from echo_core.adapters.postgres.transaction import Transaction
from echo_core.domain.ids import StepId
from echo_core.plugin_api.steps import Resource

FORGET_AFTER = timedelta(days=1)
"""Long enough for somebody who looks for the worker that died last night."""

_CHECK_IN = text(
    """
    insert into echo.workers (name, steps, light_slots, cpu_slots, net_slots, ai_slots, version, expires_at)
    values (
        :name, :steps, :light, :cpu, :net, :ai, :version, clock_timestamp() + make_interval(secs => :lives_s)
    )
    on conflict (name) do update
    set steps = excluded.steps, light_slots = excluded.light_slots, cpu_slots = excluded.cpu_slots,
        net_slots = excluded.net_slots, ai_slots = excluded.ai_slots, seen_at = clock_timestamp(),
        expires_at = excluded.expires_at
    """
).bindparams(
    bindparam("name", type_=Text),
    bindparam("steps", type_=ARRAY(Text)),
    bindparam("version", type_=Text),
    bindparam("lives_s", type_=Double),
    *(bindparam(resource.value, type_=Integer) for resource in Resource),
)

_SLOTS = text(
    """
    select coalesce(sum(light_slots), 0) as light, coalesce(sum(cpu_slots), 0) as cpu,
        coalesce(sum(net_slots), 0) as net, coalesce(sum(ai_slots), 0) as ai
    from echo.workers where expires_at > clock_timestamp()
    """
)

_FORGET = text("delete from echo.workers where seen_at < clock_timestamp() - :age").bindparams(
    bindparam("age", value=FORGET_AFTER, type_=Interval)
)

_UNPROVIDED = text(
    """
    select id from echo.steps
    where state = 'queued' and run_at <= (select clock_timestamp()) - :waiting_for
        and split_part(name, '.', 1) <> all (array(
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

    async def check_in(
        self, name: str, *, steps: Sequence[str], slots: Mapping[Resource, int], version: str, lives_s: float
    ) -> None:
        """This worker lives, and can run these steps, so many of each class at once; it says so again within
        ``lives_s``, or nobody counts on its slots any more."""
        parameters = {"name": name, "steps": list(steps), "version": version, "lives_s": lives_s}
        await self._tx.execute(_CHECK_IN, {**parameters, **{r.value: slots.get(r, 0) for r in Resource}})

    async def count_slots(self, resource: Resource) -> int:
        """How many steps of this class all living workers together can run at once."""
        return int((await self._tx.execute(_SLOTS)).one()._mapping[resource.value])

    async def list_unprovided(self, waiting_for: timedelta, limit: int) -> Sequence[StepId]:
        """Steps that have been due for so long while no worker checked in that can run them."""
        await self._tx.execute(_FORGET)
        parameters = {"waiting_for": waiting_for, "limit": limit}
        return [StepId(row.id) for row in await self._tx.execute(_UNPROVIDED, parameters)]
