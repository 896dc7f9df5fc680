"""Indexes of the queue: for when an owner was last served, and for all that is unfinished; ``ix_steps_queued`` goes.

Looking for one owner's first steps, the planner took the latter for its order and read past everybody else's: with ten
thousand steps waiting, a hundred times as many rows as with ``ix_steps_claimed``. Nothing else needs it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_steps_served",
        "steps",
        ["resource", "owner_id", sa.literal_column("started_at desc")],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("started_at is not null"),
    )
    op.create_index(
        "ix_steps_unfinished",
        "steps",
        ["resource", "owner_id"],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("state in ('pending', 'queued', 'running')"),
    )
    op.drop_index("ix_steps_queued", table_name="steps", schema="echo")
