"""When a worker last took on the sweeping of an ended step, so that others take other steps (ADR 0014).

Processes of the version before go on beside it: they neither read nor write the column.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("steps", sa.Column("sweep_tried_at", sa.TIMESTAMP(timezone=True), nullable=True), schema="echo")
