"""Uploads whose object was found and is not what was announced: docs/adr/0021.

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
    op.drop_index("ix_uploads_open", "uploads", schema="echo")
