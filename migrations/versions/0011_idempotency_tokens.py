"""Each reservation of an idempotency key has a token, so that only who made it ends it (ADR 0008).

Processes of the version before go on beside it: they neither read nor write the column.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("idempotency_keys", sa.Column("token", sa.Uuid(), nullable=True), schema="echo")
