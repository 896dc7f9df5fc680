"""What AI makes and costs, and captions as text: docs/adr/0025.

Processes of the version before go on beside it: they neither read nor write these tables.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")
EMPTY = sa.text("''")
ZERO = sa.text("0")

# A user's own, by table. Cost and remembered parts of work are workers' to write; nobody else's to read at all.
USER_GRANTS = {
    "caption_tracks": "select, insert, update, delete",
    "suggestions": "select, update",
    "ai_calls": "select",
    "ai_checkpoints": "",
}

RESERVE = """
create function echo.reserve_ai_call(
    call_id uuid, of_owner uuid, of_video uuid, of_step text, of_capability text, of_provider text, of_model text,
    of_prompt text, tokens_in bigint, tokens_out bigint, of_media_s double precision, of_cost_usd double precision,
    video_budget_usd double precision, day_budget_usd double precision
) returns text language plpgsql security definer set search_path = '' as $$
begin
    if of_cost_usd > 0 then
        -- One at a time: two calls must not both fit into what is left for one.
        perform pg_catalog.pg_advisory_xact_lock(2817364501);
        if of_video is not null and of_cost_usd + (
            select coalesce(sum(c.cost_usd), 0) from echo.ai_calls c where c.video_id = of_video
        ) > video_budget_usd then
            return 'video';
        end if;
        if of_cost_usd + (
            select coalesce(sum(c.cost_usd), 0) from echo.ai_calls c
            where c.at >= pg_catalog.date_trunc('day', pg_catalog.clock_timestamp(), 'UTC')
        ) > day_budget_usd then
            return 'day';
        end if;
    end if;
    insert into echo.ai_calls (
        id, owner_id, video_id, step, capability, provider, model, prompt_version, input_tokens, output_tokens, media_s,
        cost_usd, state
    ) values (
        call_id, of_owner, of_video, of_step, of_capability, of_provider, of_model, of_prompt, tokens_in, tokens_out,
        of_media_s, of_cost_usd, 'reserved'
    );
    return '';
end
$$
"""

SETTLE = """
create function echo.settle_ai_call(
    call_id uuid, of_model text, of_prompt text, tokens_in bigint, tokens_out bigint, of_media_s double precision,
    of_cost_usd double precision
) returns void language sql security definer set search_path = '' as $$
    update echo.ai_calls set state = 'settled', model = coalesce(nullif(of_model, ''), model),
        prompt_version = coalesce(nullif(of_prompt, ''), prompt_version), input_tokens = tokens_in,
        output_tokens = tokens_out, media_s = of_media_s, cost_usd = of_cost_usd
    where id = call_id
$$
"""

RELEASE = """
create function echo.release_ai_call(call_id uuid) returns void
language sql security definer set search_path = '' as $$
    delete from echo.ai_calls where id = call_id and state = 'reserved'
$$
"""

# The API reserves for what it looks up itself (the vector of a question), outside of any user's transaction.
FUNCTIONS = {
    "echo.reserve_ai_call(uuid, uuid, uuid, text, text, text, text, text, bigint, bigint, double precision, "
    "double precision, double precision, double precision)": RESERVE,
    "echo.settle_ai_call(uuid, text, text, bigint, bigint, double precision, double precision)": SETTLE,
    "echo.release_ai_call(uuid)": RELEASE,
}


def upgrade() -> None:
    _of_video(
        "caption_tracks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False, server_default=EMPTY),
        sa.Column("title", sa.Text(), nullable=False, server_default=EMPTY),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("edited", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("forced", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("provider", sa.Text(), nullable=False, server_default=EMPTY),
        sa.Column("model", sa.Text(), nullable=False, server_default=EMPTY),
        sa.Column("cues", JSONB(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=NOW),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=NOW),
        sa.PrimaryKeyConstraint("video_id", "name", name="pk_caption_tracks"),
        sa.CheckConstraint(
            "source in ('embedded', 'transcribed', 'translated', 'uploaded')", name="ck_caption_tracks_source"
        ),
    )
    op.create_index("ix_caption_tracks_owner_id_video_id", "caption_tracks", ["owner_id", "video_id"], schema="echo")
    _of_video(
        "suggestions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("prompt_version", sa.Text(), nullable=False),
        sa.Column("evidence", JSONB(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False, server_default=ZERO),
        sa.Column("auto", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=NOW),
        sa.Column("decided_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_suggestions"),
        sa.CheckConstraint(
            "state in ('pending', 'accepted', 'edited', 'rejected', 'superseded')", name="ck_suggestions_state"
        ),
        sa.CheckConstraint("(state = 'pending') = (decided_at is null)", name="ck_suggestions_decided"),
    )
    op.create_index("ix_suggestions_owner_id_video_id", "suggestions", ["owner_id", "video_id"], schema="echo")
    op.create_index(
        "uq_suggestions_pending",
        "suggestions",
        ["video_id", "field"],
        unique=True,
        schema="echo",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "ai_calls",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        # No reference: what was spent stays spent when the video is deleted.
        sa.Column("video_id", sa.Uuid(), nullable=True),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("capability", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("prompt_version", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("media_s", sa.Double(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=NOW),
        sa.PrimaryKeyConstraint("id", name="pk_ai_calls"),
        sa.CheckConstraint("state in ('reserved', 'settled')", name="ck_ai_calls_state"),
        # A sum with one of these in it would let everything through, or nothing.
        sa.CheckConstraint(
            "cost_usd >= 0 and cost_usd < 'Infinity'::double precision and input_tokens >= 0 and output_tokens >= 0",
            name="ck_ai_calls_amounts",
        ),
        schema="echo",
    )
    op.create_index("ix_ai_calls_video_id", "ai_calls", ["video_id"], schema="echo")
    op.create_index("ix_ai_calls_owner_id_at", "ai_calls", ["owner_id", "at"], schema="echo")
    op.create_index("ix_ai_calls_at", "ai_calls", ["at"], schema="echo")
    _of_video(
        "ai_checkpoints",
        sa.Column("capability", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("value", JSONB(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=NOW),
        sa.PrimaryKeyConstraint("video_id", "capability", "provider", "key", name="pk_ai_checkpoints"),
    )
    for table, grants in USER_GRANTS.items():
        _secure(table, grants)
    _functions()


def _of_video(table: str, *columns: sa.schema.SchemaItem) -> None:
    """A table of what hangs on a video and goes with it."""
    op.create_table(
        table,
        sa.Column("video_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["video_id", "owner_id"],
            ["echo.videos.id", "echo.videos.owner_id"],
            name=f"fk_{table}_video_id_owner_id_videos",
            ondelete="CASCADE",
        ),
        schema="echo",
    )


def _secure(table: str, user_grants: str) -> None:
    op.execute(f"alter table echo.{table} enable row level security")
    op.execute(f"alter table echo.{table} force row level security")
    op.execute(f"create policy {table}_of_service on echo.{table} to service_role using (true) with check (true)")
    if user_grants:
        mine = "owner_id = (select auth.uid())"
        op.execute(
            f"create policy {table}_of_owner on echo.{table} to authenticated using ({mine}) with check ({mine})"
        )
        op.execute(f"grant {user_grants} on echo.{table} to authenticated")
    op.execute(f"grant select, insert, update, delete on echo.{table} to service_role")


def _functions() -> None:
    op.execute("grant select, insert, update, delete on echo.ai_calls to echo_definer")
    op.execute("create policy ai_calls_of_definer on echo.ai_calls to echo_definer using (true) with check (true)")
    op.execute("grant create on schema echo to echo_definer")  # a function's owner must hold it when it gets it
    for signature, definition in FUNCTIONS.items():
        op.execute(definition)
        op.execute(f"revoke all on function {signature} from public")
        op.execute(f"grant execute on function {signature} to echo_api, service_role")
        op.execute(f"alter function {signature} owner to echo_definer")
    op.execute("revoke create on schema echo from echo_definer")
