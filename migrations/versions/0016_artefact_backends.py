"""Which storage keeps an artefact, and so understands its generation (ADR 0023).

Rows that are there already are kept by the storage that keeps their video's source: no instance has moved yet.
Processes of the version before go on beside it: they neither read nor write the column, and what they add is said to
be kept by the storage that comes with Echo.
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
    # The owner of the tables is bound by their policies too (force), and has none that lets it see a row.
    for table in ("artefacts", "uploads"):
        op.execute(f"alter table echo.{table} no force row level security")
    op.execute(
        "update echo.artefacts a set backend = u.backend from echo.uploads u "
        "where u.video_id = a.video_id and u.backend <> a.backend"
    )
    for table in ("artefacts", "uploads"):
        op.execute(f"alter table echo.{table} force row level security")
