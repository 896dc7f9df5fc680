"""Whose a video is that anybody may watch: docs/adr/0018.

Processes of the version before go on beside it: they do not call it.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SIGNATURE = "echo.watchable_owner(uuid)"

# One id for one id: nothing can be listed with it, and a private video is as good as none.
WATCHABLE_OWNER = """
create function echo.watchable_owner(of_video uuid) returns uuid
language sql stable security definer set search_path = '' as $$
    select v.owner_id from echo.videos v
    where v.id = of_video and v.visibility in ('unlisted', 'public') and v.deleted_at is null
$$
"""


def upgrade() -> None:
    # 0009 lets the function's owner see the rows, of these columns only what it needs.
    op.execute("grant select (owner_id, visibility, deleted_at) on echo.videos to echo_definer")
    op.execute("grant create on schema echo to echo_definer")  # a function's owner must hold it when it gets it
    op.execute(WATCHABLE_OWNER)
    op.execute(f"revoke all on function {SIGNATURE} from public")
    op.execute(f"grant execute on function {SIGNATURE} to echo_api")
    op.execute(f"alter function {SIGNATURE} owner to echo_definer")
    op.execute("revoke create on schema echo from echo_definer")
