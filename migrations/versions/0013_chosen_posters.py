"""The picture that an owner chose as poster, by its name; empty: the best one.

Processes of the version before go on beside it: they neither read nor write the column.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("videos", sa.Column("poster", sa.Text(), nullable=False, server_default=sa.text("''")), schema="echo")
