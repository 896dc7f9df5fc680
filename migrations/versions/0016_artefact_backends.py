"""Which storage keeps an artefact, and so understands its generation (ADR 0023).

Processes of the version before go on beside it: they neither read nor write the column, and knew no other storage than
the one that new rows are said to be kept by.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "artefacts", sa.Column("backend", sa.Text(), server_default=sa.text("'local'"), nullable=False), schema="echo"
    )
