"""Storage and database, each walked once, video by video in the order of their ids, which is the order of their keys as
well: memory holds one video and one page, and the two can be merged."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from uuid import UUID

from echo_core.application.ports import VideoInventory, WorkerUnitsOfWork
from echo_core.domain.ids import VideoId
from echo_core.plugin_api.storage import ListObjects, ObjectInfo, StorageBackend

ROOT = "videos/"
PAGE = 200
"""Videos that are read from the database at once."""


async def walk_objects(
    storage: StorageBackend, *, saw: Callable[[ObjectInfo, VideoId | None], None] = lambda stored, video_id: None
) -> AsyncGenerator[tuple[VideoId, list[ObjectInfo]]]:
    """Objects by video. ``saw`` is told of each; without a video it is not Echo's, and left out."""
    current: VideoId | None = None
    group: list[ObjectInfo] = []
    cursor: str | None = None
    while True:
        page = await storage.list(ListObjects(prefix=ROOT, cursor=cursor))
        for stored in page.objects:
            video_id = _video_of(stored.key)
            saw(stored, video_id)
            if video_id is None:
                continue
            if video_id != current:
                if current is not None:
                    yield current, group
                current, group = video_id, []
            group.append(stored)
        if (cursor := page.next_cursor) is None:
            break
    if current is not None:
        yield current, group


async def walk_videos(units_of_work: WorkerUnitsOfWork) -> AsyncGenerator[VideoInventory]:
    """What the database knows, tombstoned videos included; also what comes while it is walked."""
    after: VideoId | None = None
    while True:
        async with units_of_work.for_worker() as uow:
            page = await uow.inventory.list_page(after, PAGE)
        for video in page:
            yield video
        if len(page) < PAGE:
            return
        after = page[-1].id


def _video_of(key: str) -> VideoId | None:
    """Whose object it is; None: no key of Echo's."""
    try:
        parsed = UUID(text := key.removeprefix(ROOT).partition("/")[0])
    except ValueError:
        return None
    # Only the form in which keys are made sorts as ids do.
    return VideoId(parsed) if str(parsed) == text else None
