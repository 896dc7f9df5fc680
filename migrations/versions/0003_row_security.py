"""Who may see and do what: grants, forced row level security, and three functions that see more than their callers.

A policy names its role (``to authenticated``) and computes the caller once for a statement (``(select auth.uid())``).
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What the API may do in a user's name, table by table; row level security narrows it to that user's rows.
USER_GRANTS = {
    "videos": "select, insert, update, delete",
    "uploads": "select, insert, update",
    "jobs": "select, insert, update",
    "steps": "select, insert, update",
    "artefacts": "select",
    "events": "select, insert",
    "event_counters": "select, insert, update",
    "idempotency_keys": "select, insert, update, delete",
    "users": "select",
}
OWNER = {"users": "id"}

QUEUE_POSITION = """
create function echo.queue_position(of_step uuid) returns bigint
language sql stable security definer set search_path = '' as $$
    select count(*)
    from (
        select from echo.steps before
        join echo.steps mine on before.resource = mine.resource and before.state = 'queued'
            and (before.run_at, before.id) < (mine.run_at, mine.id)
        where mine.id = of_step
        limit 10000
    ) as counted
    having exists (
        select from echo.steps where id = of_step and state = 'queued'
            -- auth.uid() by hand: the owner of schema auth alone could let echo_definer use it.
            and owner_id::text = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )
$$
"""

EVENT_HEADS = """
create function echo.event_heads(owners uuid[]) returns table (owner_id uuid, newest bigint)
language sql stable security definer set search_path = '' as $$
    select c.owner_id, c.newest from echo.event_counters c where c.owner_id = any (owners)
$$
"""

QUEUE_STATISTICS = """
create function echo.queue_statistics()
returns table (resource text, queued bigint, oldest_age_s double precision, running bigint)
language sql stable security definer set search_path = '' as $$
    select s.resource,
        count(*) filter (where s.state = 'queued'),
        coalesce(extract(epoch from clock_timestamp() - min(s.run_at) filter (
            where s.state = 'queued' and s.run_at <= clock_timestamp()
        )), 0)::double precision,
        count(*) filter (where s.state = 'running')
    from echo.steps s
    where s.state in ('queued', 'running')
    group by s.resource
$$
"""

# Each function and who may call it. Not even a user's transaction may call the last two.
FUNCTIONS = {
    "echo.queue_position(uuid)": (QUEUE_POSITION, "authenticated"),
    "echo.event_heads(uuid[])": (EVENT_HEADS, "echo_api"),
    "echo.queue_statistics()": (QUEUE_STATISTICS, "echo_api"),
}


def _secure(table: str, user_grants: str) -> None:
    owner = OWNER.get(table, "owner_id")
    mine = f"{owner} = (select auth.uid())"
    op.execute(f"alter table echo.{table} enable row level security")
    op.execute(f"alter table echo.{table} force row level security")
    op.execute(f"create policy {table}_of_owner on echo.{table} to authenticated using ({mine}) with check ({mine})")
    op.execute(f"create policy {table}_of_service on echo.{table} to service_role using (true) with check (true)")
    op.execute(f"grant {user_grants} on echo.{table} to authenticated")
    op.execute(f"grant select, insert, update, delete on echo.{table} to service_role")


def upgrade() -> None:
    op.execute("grant usage on schema echo to authenticated, service_role, echo_api")
    for table, user_grants in USER_GRANTS.items():
        _secure(table, user_grants)
    # Whoever holds the newest number of its owner's events may see the table's, whoever counts steps the steps.
    op.execute("grant usage on schema echo to echo_definer")
    for table in ("steps", "event_counters"):
        op.execute(f"grant select on echo.{table} to echo_definer")
        op.execute(f"create policy {table}_of_definer on echo.{table} for select to echo_definer using (true)")
    op.execute("grant create on schema echo to echo_definer")  # a function's owner must hold it when it gets it
    for signature, (definition, caller) in FUNCTIONS.items():
        op.execute(definition)
        op.execute(f"revoke all on function {signature} from public")
        op.execute(f"grant execute on function {signature} to {caller}")
        op.execute(f"alter function {signature} owner to echo_definer")
    op.execute("revoke create on schema echo from echo_definer")
