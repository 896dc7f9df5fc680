"""How many steps of each class a worker can run at once, and until when it counts as living."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for resource in ("light", "cpu", "net"):
        column = sa.Column(f"{resource}_slots", sa.Integer(), server_default=sa.text("0"), nullable=False)
        op.add_column("workers", column, schema="echo")
    op.add_column(
        "workers",
        sa.Column(
            "expires_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        schema="echo",
    )
