"""Steps of AI have a resource class, and workers slots, of their own.

Code of before reads each step's class into a closed list: it would fail every request for a job that has such a step,
and every round of a worker that rings for it. So it is told to stop (``needs_code``, ADR 0013).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None
needs_code = "0017"

SIGNATURE = "echo.queue_outlook(uuid[])"

# As in 0009, and the slots of the new class.
#
# The order of claims (leases.py), foretold: whoever has fewer running, then whoever was served longest ago. So the
# n-th step of an owner comes after every owner's (n-1)-th; within such a level first those who have most running (their
# turn before was earliest), then by when they were served, then by arrival. A step that has not been queued yet stands
# behind its owner's queued ones, by its place in the pipeline: all videos are inspected before any gets its poster.
#
# Only the asking owner's steps are put into order; of everybody else numbers and sums are enough, so that a long queue
# is counted once and not sorted. Of an owner whose steps come before in part, that part of the work is counted.
QUEUE_OUTLOOK = """
create function echo.queue_outlook(of_jobs uuid[])
returns table (step_id uuid, steps_before bigint, work_before_s double precision, slots bigint)
language sql stable security definer set search_path = '' as $$
    with asked as materialized (
        select s.id, s.resource, s.owner_id from echo.steps s
        where s.job_id = any (of_jobs) and s.state in ('pending', 'queued', 'running')
            -- auth.uid() by hand: the owner of schema auth alone could let echo_definer use it.
            and (
                current_setting('role', true) = 'service_role'
                or s.owner_id::text = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
            )
    ), moment as materialized (
        select clock_timestamp() as now
    ), share as materialized (
        select s.resource, s.owner_id,
            count(*) filter (where s.state = 'running') as running,
            count(*) filter (where s.state = 'queued' and s.run_at <= m.now) as queued,
            count(*) filter (where s.state = 'pending' or s.run_at > m.now) as later,
            coalesce(sum(s.expected_s) filter (where s.state = 'queued' and s.run_at <= m.now), 0) as queued_s,
            coalesce(sum(s.expected_s) filter (where s.state = 'pending' or s.run_at > m.now), 0) as later_s
        from echo.steps s cross join moment m
        where s.state in ('pending', 'queued', 'running') and s.resource in (select a.resource from asked a)
        group by s.resource, s.owner_id
    ), busy as materialized (
        select s.id, s.resource, s.owner_id, case
            when s.progress >= 0.05 then elapsed.s * (1 - s.progress) / s.progress
            else greatest(s.expected_s - elapsed.s, 0.1 * s.expected_s)
        end as work_s
        from echo.steps s cross join moment m cross join lateral (
            select greatest(extract(epoch from m.now - s.started_at), 0)::float8 as s
        ) elapsed
        where s.state = 'running' and s.resource in (select a.resource from asked a)
    ), turn as materialized (
        select s.*, row_number() over (
            partition by s.resource
            order by s.running desc, last.started_at nulls first, first.run_at, first.id, s.owner_id
        ) as turn
        from share s
        left join lateral (
            select p.started_at from echo.steps p
            where p.resource = s.resource and p.owner_id = s.owner_id and p.started_at is not null
            order by p.started_at desc limit 1
        ) last on true
        left join lateral (
            select q.run_at, q.id from echo.steps q
            where q.state = 'queued' and q.resource = s.resource and q.owner_id = s.owner_id
            order by q.run_at, q.id limit 1
        ) first on true
    ), line as (
        select s.id, s.resource, s.owner_id, s.state,
            s.state = 'queued' and s.run_at <= m.now as waits,
            row_number() over own as level,
            count(*) filter (where s.state = 'queued' and s.run_at <= m.now) over own as own_waiting,
            sum(case when s.state = 'running' then 0 else s.expected_s end) over own
                - case when s.state = 'running' then 0 else s.expected_s end as own_work_s
        from echo.steps s cross join moment m
        where s.state in ('pending', 'queued', 'running')
            and (s.resource, s.owner_id) in (select a.resource, a.owner_id from asked a)
        window own as (
            partition by s.resource, s.owner_id
            order by s.state = 'running' desc, coalesce(s.run_at <= m.now, false) desc,
                s.state = 'queued' desc, s.run_at, s.position, s.id
            rows unbounded preceding
        )
    ), others as (
        select l.id,
            sum(least(greatest(ahead.steps - t.running, 0), t.queued)) as waiting,
            sum(
                t.queued_s * least(greatest(ahead.steps - t.running, 0), t.queued) / greatest(t.queued, 1)
                + t.later_s * least(greatest(ahead.steps - t.running - t.queued, 0), t.later) / greatest(t.later, 1)
            ) as work_s
        from line l
        join asked a on a.id = l.id
        join turn mine on mine.resource = l.resource and mine.owner_id = l.owner_id
        join turn t on t.resource = l.resource and t.owner_id <> l.owner_id
        cross join lateral (select case when t.turn < mine.turn then l.level else l.level - 1 end as steps) ahead
        group by l.id
    )
    select l.id,
        case when l.waits then l.own_waiting - 1 + coalesce(o.waiting, 0)::bigint end,
        l.own_work_s + coalesce(o.work_s, 0) + (
            select coalesce(sum(b.work_s), 0) from busy b where b.resource = l.resource and b.id <> l.id
        ),
        (
            select coalesce(
                sum(case l.resource
                    when 'light' then w.light_slots when 'cpu' then w.cpu_slots when 'ai' then w.ai_slots
                    else w.net_slots
                end), 0
            )
            from echo.workers w, moment m where w.expires_at > m.now
        )
    from line l
    join asked a on a.id = l.id
    left join others o on o.id = l.id
$$
"""


def upgrade() -> None:
    op.add_column(
        "workers", sa.Column("ai_slots", sa.Integer(), server_default=sa.text("0"), nullable=False), schema="echo"
    )
    op.drop_constraint(op.f("ck_steps_resource"), "steps", schema="echo", type_="check")
    op.create_check_constraint(
        op.f("ck_steps_resource"), "steps", "resource in ('light', 'cpu', 'net', 'ai')", schema="echo"
    )
    op.execute("grant select (ai_slots) on echo.workers to echo_definer")
    # Dropped rather than replaced: it is echo_definer's, but the schema's owner may drop it.
    op.execute(f"drop function {SIGNATURE}")
    op.execute("grant create on schema echo to echo_definer")  # a function's owner must hold it when it gets it
    op.execute(QUEUE_OUTLOOK)
    op.execute(f"revoke all on function {SIGNATURE} from public")
    op.execute(f"grant execute on function {SIGNATURE} to authenticated, service_role")
    op.execute(f"alter function {SIGNATURE} owner to echo_definer")
    op.execute("revoke create on schema echo from echo_definer")
