"""Which workers there are, and which steps each of them can run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("steps", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column(
            "started_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
        schema="echo",
    )
    op.execute("alter table echo.workers enable row level security")
    op.execute("alter table echo.workers force row level security")
    op.execute("create policy workers_of_service on echo.workers to service_role using (true) with check (true)")
    op.execute("grant select, insert, update, delete on echo.workers to service_role")
    op.execute("grant usage on schema echo to echo_worker")  # for echo.schema_revision()
