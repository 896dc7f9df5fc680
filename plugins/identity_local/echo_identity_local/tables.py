"""The tables, and the migrations that made them."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, ForeignKey, LargeBinary, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from echo_core.plugin_api import Migration

SCHEMA = "echo_identity_local"
"""What the kernel names the schema of this plugin."""

_metadata = MetaData(schema=SCHEMA)
_Moment = DateTime(timezone=True)

users = Table(
    "users",
    _metadata,
    Column("id", Uuid, primary_key=True),
    Column("email", Text, nullable=False),
    Column("email_verified_at", _Moment),
    Column("password_hash", Text),
    Column("user_metadata", JSONB, nullable=False),
    Column("app_metadata", JSONB, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("updated_at", _Moment, nullable=False),
    Column("last_sign_in_at", _Moment),
    Column("banned_until", _Moment),
)

sessions = Table(
    "sessions",
    _metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey(users.c.id), nullable=False),
    Column("method", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("refreshed_at", _Moment, nullable=False),
    Column("revoked_at", _Moment),
)

refresh_tokens = Table(
    "refresh_tokens",
    _metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("session_id", Uuid, ForeignKey(sessions.c.id), nullable=False),
    Column("parent_hash", LargeBinary),
    Column("created_at", _Moment, nullable=False),
    Column("revoked_at", _Moment),
)

flow_states = Table(
    "flow_states",
    _metadata,
    Column("code_hash", LargeBinary, primary_key=True),
    Column("user_id", Uuid, ForeignKey(users.c.id), nullable=False),
    Column("method", Text, nullable=False),
    Column("code_challenge", Text, nullable=False),
    Column("code_challenge_method", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
)

identities = Table(
    "identities",
    _metadata,
    Column("issuer", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("user_id", Uuid, ForeignKey(users.c.id), nullable=False),
    Column("identity_data", JSONB, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("updated_at", _Moment, nullable=False),
    Column("last_sign_in_at", _Moment, nullable=False),
)

oauth_states = Table(
    "oauth_states",
    _metadata,
    Column("state_hash", LargeBinary, primary_key=True),
    Column("browser_hash", LargeBinary, nullable=False),
    Column("redirect_to", Text, nullable=False),
    Column("code_challenge", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
)

MIGRATIONS = (
    Migration(
        name="0001_users",
        sql="""
        create table users (
            id uuid constraint users_pkey primary key,
            email text not null constraint users_email_key unique,
            password_hash text not null,
            user_metadata jsonb not null,
            app_metadata jsonb not null,
            created_at timestamptz not null,
            updated_at timestamptz not null,
            last_sign_in_at timestamptz,
            banned_until timestamptz
        );
        create table sessions (
            id uuid constraint sessions_pkey primary key,
            user_id uuid not null constraint sessions_user_id_fkey references users on delete cascade,
            method text not null,
            created_at timestamptz not null,
            refreshed_at timestamptz not null,
            revoked_at timestamptz
        );
        create index sessions_user_id_idx on sessions (user_id);
        create table refresh_tokens (
            token_hash bytea constraint refresh_tokens_pkey primary key,
            session_id uuid not null constraint refresh_tokens_session_id_fkey references sessions on delete cascade,
            parent_hash bytea,
            created_at timestamptz not null,
            revoked_at timestamptz
        );
        create index refresh_tokens_session_id_idx on refresh_tokens (session_id);
        create unique index refresh_tokens_active_key on refresh_tokens (session_id) where revoked_at is null;
        create table flow_states (
            code_hash bytea constraint flow_states_pkey primary key,
            user_id uuid not null constraint flow_states_user_id_fkey references users on delete cascade,
            method text not null,
            code_challenge text not null,
            code_challenge_method text not null,
            created_at timestamptz not null
        );
        create index flow_states_created_at_idx on flow_states (created_at)
        """,
    ),
    # An address may have two users: the one who has shown that it is theirs, and one who has not.
    Migration(
        name="0002_verified_addresses",
        sql="""
        alter table users add column email_verified_at timestamptz;
        alter table users alter column password_hash drop not null;
        alter table users drop constraint users_email_key;
        create unique index users_email_key on users (email, (email_verified_at is null))
        """,
    ),
    Migration(
        name="0003_identities",
        sql="""
        create table identities (
            issuer text not null,
            subject text not null,
            provider text not null,
            user_id uuid not null constraint identities_user_id_fkey references users on delete cascade,
            identity_data jsonb not null,
            created_at timestamptz not null,
            updated_at timestamptz not null,
            last_sign_in_at timestamptz not null,
            constraint identities_pkey primary key (issuer, subject)
        );
        create unique index identities_user_id_key on identities (user_id, provider)
        """,
    ),
    Migration(
        name="0004_oauth_states",
        sql="""
        create table oauth_states (
            state_hash bytea constraint oauth_states_pkey primary key,
            browser_hash bytea not null,
            redirect_to text not null,
            code_challenge text not null,
            created_at timestamptz not null
        );
        create index oauth_states_created_at_idx on oauth_states (created_at)
        """,
    ),
)
