"""The roles, and auth.uid(): created where they are missing, never replaced.

On Supabase ``anon``, ``authenticated``, ``service_role`` and ``auth.uid()`` are there and stay as they are. Roles
belong to the whole server, so another instance of Echo on it may be creating them at this moment.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# service_role gets BYPASSRLS only from a role that may give it; the policies of 0003 let it see every row anyway.
# echo_definer owns the functions of 0003: they see only what it was granted, whatever the migrating role may see.
ROLES = """
do $$
declare
    may_bypass constant boolean := (
        select rolsuper or (rolbypassrls and current_setting('server_version_num')::int >= 160000)
        from pg_roles where rolname = current_user
    );
    wanted record;
begin
    for wanted in
        select * from (values
            ('anon', 'nologin noinherit'),
            ('authenticated', 'nologin noinherit'),
            ('service_role', 'nologin noinherit' || case when may_bypass then ' bypassrls' else '' end),
            ('echo_definer', 'nologin noinherit'),
            ('echo_api', 'login noinherit'),
            ('echo_worker', 'login noinherit')
        ) as roles (name, attributes)
    loop
        if not exists (select from pg_roles where rolname = wanted.name) then
            begin
                execute format('create role %I %s', wanted.name, wanted.attributes);
            exception when duplicate_object or unique_violation then
                null;
            end;
        end if;
    end loop;
end
$$
"""

MEMBERSHIPS = """
do $$
declare
    wanted record;
begin
    for wanted in
        select * from (values
            ('anon', 'echo_api'), ('authenticated', 'echo_api'), ('service_role', 'echo_worker'),
            ('echo_definer', current_user::text)
        ) as memberships (role, member)
    loop
        if not pg_has_role(wanted.member, wanted.role, 'member')
            -- From PostgreSQL 16 the creator of a role administers it without being able to become it.
            or (wanted.role = 'echo_definer' and not (select rolsuper from pg_roles where rolname = current_user))
        then
            execute format('grant %I to %I', wanted.role, wanted.member);
        end if;
    end loop;
end
$$
"""

AUTH = """
do $$
begin
    if to_regnamespace('auth') is null then
        create schema auth;
        grant usage on schema auth to anon, authenticated, service_role;
    end if;
    if to_regprocedure('auth.uid()') is null then
        create function auth.uid() returns uuid language sql stable as $uid$
            select coalesce(
                nullif(current_setting('request.jwt.claim.sub', true), ''),
                nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
            )::uuid
        $uid$;
    end if;
end
$$
"""


def upgrade() -> None:
    op.execute(ROLES)
    op.execute(MEMBERSHIPS)
    op.execute(AUTH)
