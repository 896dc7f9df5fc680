"""Up to which run the storage of a step has been swept (``application/sweeping.py``)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "steps", sa.Column("swept_token", sa.BigInteger(), server_default=sa.text("0"), nullable=False), schema="echo"
    )
    op.create_index(
        "ix_steps_unswept",
        "steps",
        ["id"],
        unique=False,
        schema="echo",
        postgresql_where=sa.text(
            "state in ('succeeded', 'failed', 'skipped', 'cancelled') and swept_token < lease_token"
        ),
    )
