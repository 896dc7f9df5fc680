"""Who runs which step: claims, heartbeats, and taking back what nobody tends. All on the database's clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ARRAY, BigInteger, Boolean, Double, Integer, Interval, Text, Uuid, bindparam, text

from echo_core.adapters.postgres.job_rows import Wanted, load_jobs
from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.application.ports import Heartbeat, LeaseRef, UnsweptStep
from echo_core.domain.ids import StepId, VideoId
from echo_core.domain.jobs import NUMBER_MARK, Job
from echo_core.domain.progress import Rates
from echo_core.plugin_api.steps import Resource

RECONCILER_LOCK = 0x6563_686F_0001
"""Key of the advisory lock that makes one reconciler of many ("echo", 1)."""
CANDIDATES_OF_OWNER = 16
CANDIDATES = 64
"""Steps that one claim considers; far more than are being claimed, cancelled or settled at one moment."""
RATES_FROM = 2000
"""The newest successes that ``learned_rates`` looks at."""

# "(select clock_timestamp())" is read once for a statement and can use an index; a bare call does neither.

# Fair among owners without reading the whole queue: "owner" hops through the index from one owner to the next, and of
# each the first few due steps stand for all. More than one, since others may be claiming the first at this moment.
# Where few run at once, everybody often has none running: then whoever was served longest ago comes first, or one
# owner's hundred uploads would all go before another's one. The outer conditions are checked again on the row that was
# locked; written so that no index of queued steps seems fit for them, and candidates are looked up by id. The function
# echo.queue_outlook foretells this order: change both together.
_CLAIM = Query(
    text(
        """
    with recursive owner as (
        (
            select owner_id from echo.steps where state = 'queued' and resource = :resource
            order by owner_id limit 1
        )
        union all
        select (
            select next.owner_id from echo.steps next
            where next.state = 'queued' and next.resource = :resource and next.owner_id > owner.owner_id
            order by next.owner_id limit 1
        )
        from owner where owner.owner_id is not null
    ), candidate as materialized (
        select due.id, due.run_at, busy.running, served.at
        from owner
        cross join lateral (
            select count(*) as running from echo.steps r
            where r.state = 'running' and r.resource = :resource and r.owner_id = owner.owner_id
        ) busy
        left join lateral (
            select p.started_at as at from echo.steps p
            where p.resource = :resource and p.owner_id = owner.owner_id and p.started_at is not null
            order by p.started_at desc limit 1
        ) served on true
        cross join lateral (
            select s.id, s.run_at from echo.steps s
            where s.state = 'queued' and s.resource = :resource and s.owner_id = owner.owner_id
                and (:names is null or split_part(s.name, '.', 1) = any (:names))
                and s.run_at <= (select clock_timestamp())
            order by s.run_at, s.id limit :per_owner
        ) due
        order by busy.running, served.at nulls first, due.run_at, due.id
        limit :candidates
    )
    select s.id as step_id, s.job_id
    from candidate
    join echo.steps s on s.id = candidate.id
    join echo.jobs j on j.id = s.job_id
    where s.state || '' = 'queued'
    order by candidate.running, candidate.at nulls first, candidate.run_at, candidate.id
    limit 1
    for no key update of s, j skip locked
    """
    ).bindparams(
        bindparam("resource", type_=Text),
        bindparam("names", type_=ARRAY(Text)),
        bindparam("per_owner", type_=Integer),
        bindparam("candidates", type_=Integer),
    )
)

_HAS_READY = Query(
    text(
        """
    select exists (
        select from echo.steps
        where state = 'queued' and resource = :resource and run_at <= (select clock_timestamp())
            and (:names is null or split_part(name, '.', 1) = any (:names))
    )
    """
    ).bindparams(bindparam("resource", type_=Text), bindparam("names", type_=ARRAY(Text)))
)

# "target" locks in the order of ids, like load_jobs, and writes nothing when there is nothing to write: a watch
# without "extend" comes twice a second.
_RENEW = Query(
    text(
        """
    with lease as (
        select * from unnest(:ids, :tokens, :progress) as lease (id, token, progress)
    ), held as (
        select s.id, s.cancel_requested from echo.steps s
        join lease l on l.id = s.id and l.token = s.lease_token
        where s.state = 'running'
    ), target as materialized (
        select s.id, l.progress from echo.steps s
        join lease l on l.id = s.id and l.token = s.lease_token
        where s.state = 'running' and (:extend or s.progress <> l.progress)
        order by s.id
        for no key update of s
    ), written as (
        update echo.steps s
        set progress = target.progress,
            lease_expires_at = case
                when :extend then clock_timestamp() + make_interval(secs => :lease_s) else s.lease_expires_at
            end
        from target where s.id = target.id
        returning s.id
    )
    select held.id, held.cancel_requested from held
    where not :extend or held.id in (select id from written)
    """
    ).bindparams(
        bindparam("ids", type_=ARRAY(Uuid)),
        bindparam("tokens", type_=ARRAY(BigInteger)),
        bindparam("progress", type_=ARRAY(Double)),
        bindparam("extend", type_=Boolean),
        bindparam("lease_s", type_=Double),
    )
)

_EXPIRED = text(
    """
    select s.id as step_id, s.job_id
    from echo.steps s
    join echo.jobs j on j.id = s.job_id
    where s.state = 'running' and s.lease_expires_at < (select clock_timestamp())
    order by s.lease_expires_at
    limit :limit
    for no key update of s, j skip locked
    """
).bindparams(bindparam("limit", type_=Integer))

_RING_AGAIN = text(
    """
    with due as (
        select id from echo.steps
        where state = 'queued' and run_at <= (select clock_timestamp())
            and (rung_at is null or rung_at <= (select clock_timestamp()) - :older_than)
        order by run_at
        limit :limit
        for no key update skip locked
    )
    update echo.steps s set rung_at = clock_timestamp() from due where s.id = due.id
    returning s.id, s.resource
    """
).bindparams(bindparam("older_than", type_=Interval), bindparam("limit", type_=Integer))

_RATES = text("select name, work_per_media_s, bytes_per_media_s from echo.learned_rates(:newest)").bindparams(
    bindparam("newest", type_=BigInteger)
)

_UNSWEPT = text(
    """
    with due as (
        select id from echo.steps
        where state in ('succeeded', 'failed', 'skipped', 'cancelled') and swept_token < lease_token
            and (sweep_tried_at is null or sweep_tried_at <= (select clock_timestamp()) - :older_than)
        order by sweep_tried_at nulls first, id
        limit :limit
        for no key update skip locked
    )
    update echo.steps s set sweep_tried_at = clock_timestamp()
    from due, echo.jobs j where s.id = due.id and j.id = s.job_id
    returning s.id, s.name, s.lease_token, j.video_id
    """
).bindparams(bindparam("older_than", type_=Interval), bindparam("limit", type_=Integer))

_MARK_SWEPT = text(
    "update echo.steps set swept_token = greatest(swept_token, :lease_token) where id = :step_id"
).bindparams(bindparam("lease_token", type_=BigInteger), bindparam("step_id", type_=Uuid))

_LOCK_RECONCILER = text("select pg_try_advisory_xact_lock(:key)").bindparams(bindparam("key", type_=BigInteger))


class LeaseQueries:
    """The part of ``JobRepository`` that only workers use."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def claim_candidate(
        self, resource: Resource, names: Sequence[str] | None = None
    ) -> tuple[Job, StepId] | None:
        """Lock the next queued step whose time has come, and its job; what others have locked is passed over.

        Order: owners with fewer running steps of this class first, then those that were served longest ago, then by
        ``run_at``. Only steps of these ``names``; None: of any.
        """
        row = await self._tx.find(
            _CLAIM,
            resource=resource.value,
            names=names,
            per_owner=CANDIDATES_OF_OWNER,
            candidates=CANDIDATES,
        )
        if row is None:
            return None
        jobs = await load_jobs(self._tx, Wanted.IDS, for_update=True, ids=[row["job_id"]])
        return jobs[0], StepId(row["step_id"])

    async def has_ready(self, resource: Resource, names: Sequence[str] | None = None) -> bool:
        """Whether the time of any queued step (of these names) has come, locked or not."""
        return bool((await self._tx.find(_HAS_READY, resource=resource.value, names=names))[0])

    async def renew(self, leases: Sequence[LeaseRef], *, lease_s: float, extend: bool) -> Sequence[Heartbeat]:
        """Store progress, tell what became of leases and, with ``extend``, renew them from the database's now.

        One answer for each lease, in their order.
        """
        if not leases:
            return []
        rows = await self._tx.fetch(
            _RENEW,
            ids=[lease.step_id for lease in leases],
            tokens=[lease.lease_token for lease in leases],
            progress=[lease.progress for lease in leases],
            extend=extend,
            lease_s=lease_s,
        )
        held = {row["id"]: row["cancel_requested"] for row in rows}
        return [
            Heartbeat(step_id=s, owned=s in held, cancel_requested=held.get(s, False))
            for s in (lease.step_id for lease in leases)
        ]

    async def list_expired(self, limit: int) -> Sequence[tuple[Job, StepId]]:
        """Running steps whose lease has run out, locked with their jobs; what others have locked is passed over.

        All jobs are as they were before any of it: with two steps of one job, look at the second in the changed job.
        """
        rows = (await self._tx.execute(_EXPIRED, {"limit": limit})).all()
        if not rows:
            return []
        ids = list({row.job_id for row in rows})
        jobs = {job.id: job for job in await load_jobs(self._tx, Wanted.IDS, for_update=True, ids=ids)}
        return [(jobs[row.job_id], StepId(row.step_id)) for row in rows]

    async def list_unrung(self, older_than: timedelta, limit: int) -> Sequence[tuple[StepId, Resource]]:
        """Queued steps whose time has come and for which this was not called for ``older_than``; marks them."""
        rows = await self._tx.execute(_RING_AGAIN, {"older_than": older_than, "limit": limit})
        return [(StepId(row.id), Resource(row.resource)) for row in rows]

    async def learned_rates(self) -> Rates:
        """What steps have taken of late, everybody's: medians of recent successes."""
        rows = (await self._tx.execute(_RATES, {"newest": RATES_FROM})).all()
        return Rates(
            # One of several steps of a spec has a part of the video that is another one each time.
            work_per_media_s={row.name: row.work_per_media_s for row in rows if NUMBER_MARK not in row.name},
            bytes_per_media_s=rows[0].bytes_per_media_s if rows else None,
        )

    async def claim_unswept(self, older_than: timedelta, limit: int) -> Sequence[UnsweptStep]:
        """Ended steps whose storage has not been swept up to their last run, and for which this was not called for
        ``older_than``; marks them. Those that were never tried come first; what others have locked is passed over."""
        return [
            UnsweptStep(
                step_id=StepId(row.id), video_id=VideoId(row.video_id), name=row.name, lease_token=row.lease_token
            )
            for row in await self._tx.execute(_UNSWEPT, {"older_than": older_than, "limit": limit})
        ]

    async def mark_swept(self, step_id: StepId, lease_token: int) -> None:
        """Nothing unnamed is left in storage of the step's runs up to this token. No such step is no error."""
        await self._tx.execute(_MARK_SWEPT, {"step_id": step_id, "lease_token": lease_token})

    async def try_lock_reconciler(self) -> bool:
        """Take the transaction-scoped advisory lock of the reconciler; False: another worker has it."""
        return bool((await self._tx.execute(_LOCK_RECONCILER, {"key": RECONCILER_LOCK})).scalar_one())
