"""When to look for an upload's object, and uploads whose object is not what was announced: docs/adr/0021. Since when a
step waits for the storage: docs/adr/0022.

Processes of the version before go on beside it. They make no upload quarantined; one that reads such a row fails that
request or round, and nothing else, until it is replaced. A step's waiting they neither see nor end.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

EMPTY = sa.text("''")
SIGNATURE = "echo.hint_upload(uuid, text)"

# Moves the time of a look, and nothing else; says nothing, so nothing can be learned with it.
HINT_UPLOAD = """
create function echo.hint_upload(of_video uuid, of_key text) returns void
language sql volatile security definer set search_path = '' as $$
    update echo.uploads set check_at = clock_timestamp()
    where video_id = of_video and storage_key = of_key and state = 'open' and check_at > clock_timestamp()
$$
"""


def upgrade() -> None:
    waiting_since = sa.Column("waiting_since", sa.TIMESTAMP(timezone=True), nullable=True)
    op.add_column("steps", waiting_since, schema="echo")
    op.drop_constraint(op.f("ck_uploads_state"), "uploads", schema="echo", type_="check")
    op.create_check_constraint(
        op.f("ck_uploads_state"), "uploads", "state in ('open', 'completed', 'quarantined', 'expired')", schema="echo"
    )
    for column in ("quarantine_code", "quarantine_message"):
        op.add_column("uploads", sa.Column(column, sa.Text(), nullable=False, server_default=EMPTY), schema="echo")
    op.create_index(
        "ix_uploads_unfinished",
        "uploads",
        ["expires_at"],
        schema="echo",
        postgresql_where=sa.text("state in ('open', 'quarantined')"),
    )
    # now() rather than clock_timestamp(), so that no row has to be rewritten.
    in_two_minutes = sa.text("now() + '00:02:00'::interval")
    check_at = sa.Column("check_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=in_two_minutes)
    op.add_column("uploads", check_at, schema="echo")
    op.create_index(
        "ix_uploads_check_at", "uploads", ["check_at"], schema="echo", postgresql_where=sa.text("state = 'open'")
    )
    op.drop_index("ix_uploads_open", "uploads", schema="echo")
    op.execute(
        "grant select (video_id, storage_key, state, check_at), update (check_at) on echo.uploads to echo_definer"
    )
    op.execute("create policy uploads_of_definer on echo.uploads for select to echo_definer using (true)")
    op.execute(
        "create policy uploads_hinted_by_definer on echo.uploads for update to echo_definer "
        "using (state = 'open') with check (state = 'open')"
    )
    op.execute("grant create on schema echo to echo_definer")  # a function's owner must hold it when it gets it
    op.execute(HINT_UPLOAD)
    op.execute(f"revoke all on function {SIGNATURE} from public")
    op.execute(f"grant execute on function {SIGNATURE} to echo_api")
    op.execute(f"alter function {SIGNATURE} owner to echo_definer")
    op.execute("revoke create on schema echo from echo_definer")
