"""When to look for an upload's object, and uploads whose object is not what was announced: docs/adr/0021.

Processes of the version before go on beside it. They make no upload quarantined; one that reads such a row fails that
request or round, and nothing else, until it is replaced.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

EMPTY = sa.text("''")


def upgrade() -> None:
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
