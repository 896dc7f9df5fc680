"""The list of videos as one function, which becomes the caller itself: docs/adr/0007."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SIGNATURE = "echo.list_videos(text, integer, uuid, text, text)"

# Not "security definer": it runs in the role that it takes on, so row level security filters what it sees. As the
# only statement of its transaction it leaves neither role nor claims behind on the connection.
LIST_VIDEOS = """
create function echo.list_videos(claims text, newest integer, before uuid, with_status text, pattern text)
returns text language plpgsql set search_path = '' as $$
begin
    perform set_config('role', 'authenticated', true), set_config('request.jwt.claims', claims, true);
    return (
        -- One text for the whole page: reading it costs the caller a third of what fifty rows of fifteen values do.
        select coalesce(json_agg(listed order by listed.id desc), '[]')
        from (
            select v.id, v.status, v.title, v.filename, v.visibility, v.created_at, v.updated_at,
                v.duration_s, v.width, v.height, v.size_bytes, seen.has_poster, seen.playable, job.id as job_id,
                -- A job that goes on is never told to be done.
                case when work.percent > 99.9 then 99.9 else round(work.percent::numeric, 1) end as percent
            from (
                select * from echo.videos
                where deleted_at is null
                    and id < coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                    and (with_status is null or status = with_status)
                    and (pattern is null or title ilike pattern or filename ilike pattern)
                order by id desc
                limit newest
            ) as v
            cross join lateral (
                select coalesce(bool_or(kind = 'poster'), false) as has_poster,
                    coalesce(bool_or(kind = 'rendition' and (facts ->> 'type' = 'video' or v.width is null)), false)
                        as playable
                from echo.artefacts where video_id = v.id and kind in ('poster', 'rendition')
            ) as seen
            left join lateral (
                -- There is only one; the limit keeps the planner from joining all jobs of the owner.
                select id, state from echo.jobs where video_id = v.id and kind = 'process' limit 1
            ) as job on true
            left join lateral (
                select 100 * sum(
                        case when state in ('succeeded', 'failed', 'skipped', 'cancelled') then 1 else progress end
                        * coalesce(nullif(expected_s, 0), weight)
                    ) / nullif(sum(coalesce(nullif(expected_s, 0), weight)), 0) as percent
                from echo.steps
                where job_id = job.id and job.state in ('queued', 'running') and state <> 'skipped'
            ) as work on true
        ) as listed
    );
end
$$
"""


def upgrade() -> None:
    op.execute(LIST_VIDEOS)
    op.execute(f"revoke all on function {SIGNATURE} from public")
    op.execute(f"grant execute on function {SIGNATURE} to echo_api")
