"""Moving from one storage to another: what is copied, what is not, and what goes wrong meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from echo_core.application.checksums import Measure
from echo_core.application.storage_copy import (
    CopiedObject,
    NamedStorage,
    ScratchRoom,
    StorageCopier,
    StorageCopy,
)
from echo_core.domain.ids import VideoId, new_video_id
from echo_core.plugin_api.errors import InsufficientStorageError, ProviderError, UnavailableError
from echo_core.plugin_api.storage import FetchFile, ObjectInfo, PutFile
from tests.fakes.hooked_storage import HookedStorage, nothing
from tests.fakes.inventory import FakeInventory
from tests.fakes.scratch import fresh, is_empty


class Store(HookedStorage):
    """Tells what was fetched; may damage what passes or tell its checksums by an algorithm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[FetchFile] = []
        self.damages = False
        self.algorithm = ""

    async def fetch_file(self, request: FetchFile) -> None:
        self.fetched.append(request)
        await super().fetch_file(request)

    async def put_file(self, request: PutFile) -> ObjectInfo:
        stored = await super().put_file(request)
        if self.damages or self.algorithm:
            data = self.objects[request.key].data
            data = b"?" + data[1:] if self.damages else data
            del self.objects[request.key]
            stored = self.store(request.key, data, request.content_type)
        if self.algorithm:
            stored = replace(stored, checksum=f"{self.algorithm}:{stored.checksum[-4:]}")
            self.objects[request.key] = replace(self.objects[request.key], info=stored)
        return stored


@dataclass
class Move:
    scratch: Path
    source: Store = field(default_factory=Store)
    target: Store = field(default_factory=Store)
    rows: FakeInventory = field(default_factory=FakeInventory)
    told: list[CopiedObject] = field(default_factory=list)
    selected: str = "old"

    def video(self, *names: str, video_id: VideoId | None = None) -> tuple[VideoId, list[str]]:
        video_id = video_id or new_video_id()
        keys = [f"videos/{video_id}/ladder/1/{name}" for name in names]
        for key in keys:
            stored = self.source.store(key, f"bytes of {key}".encode(), "video/x-test")
            self.rows.add(video_id, stored, backend="old")
        return video_id, keys

    async def run(self, *, dry_run: bool = False, parallel: int = 4) -> StorageCopy:
        self.told = []
        scratch = fresh(self.scratch)
        copier = StorageCopier(
            units_of_work=self.rows,
            source=NamedStorage(name="old", backend=self.source),
            target=NamedStorage(name="new", backend=self.target),
            selected=self.selected,
            scratch=scratch,
            parallel=parallel,
            dry_run=dry_run,
            told=self.told.append,
        )
        result = await copier.run()
        assert is_empty(scratch)
        assert len(self.told) == result.objects
        return result


@pytest.fixture
def move(tmp_path: Path) -> Move:
    return Move(tmp_path)


def counts(result: StorageCopy) -> dict[str, int]:
    return {outcome.value: count for outcome, count in result.counts.items() if count}


async def test_everything_that_rows_name_is_copied_once(move: Move) -> None:
    for _ in range(3):
        move.video("a", "b", "c")
    move.source.store("videos/of-nobody/x", b"x")
    move.rows.unfinished = 2
    result = await move.run()
    assert counts(result) == {"copied": 9}
    assert (result.totals.objects, result.totals.unfinished, result.size_bytes) == (9, 2, result.totals.size_bytes)
    assert {key: (o.data, o.info.content_type) for key, o in move.target.objects.items()} == {
        row.key: (move.source.objects[row.key].data, "video/x-test")
        for v in move.rows.videos.values()
        for row in v.rows
    }
    move.source.fetched.clear()
    assert counts(await move.run()) == {"present": 9}
    assert move.source.fetched == []


async def test_what_the_source_had_pinned_is_fetched_pinned(move: Move) -> None:
    _, (mine, other) = move.video("mine", "other")
    move.rows.change(other, backend="another", generation="of another")
    await move.run()
    pins = {request.key: request.generation for request in move.source.fetched}
    assert pins == {mine: move.source.objects[mine].info.generation, other: None}


async def test_deleted_videos_are_left_out(move: Move) -> None:
    video_id, _ = move.video("a")
    move.rows.videos[video_id] = replace(move.rows.videos[video_id], deleted=True)
    result = await move.run()
    assert (result.objects, move.target.objects) == (0, {})


async def test_a_dry_run_changesnothing(move: Move) -> None:
    _, (there, missing) = move.video("there", "missing")
    move.target.store(there, move.source.objects[there].data)
    move.selected = "new"
    before = dict(move.rows.videos)
    result = await move.run(dry_run=True)
    assert counts(result) == {"present": 1, "missing": 1}
    assert result.repinned == 2
    assert move.rows.videos == before
    assert set(move.target.objects) == {there}
    assert missing not in move.target.objects
    assert move.source.fetched == []


async def test_a_damaged_source_is_told_and_the_rest_is_copied(move: Move) -> None:
    _, (good, bad, gone) = move.video("good", "bad", "gone")
    info = move.source.objects.pop(bad).info
    move.source.store(bad, b"?" * info.size_bytes)
    move.rows.change(bad, generation=move.source.objects[bad].info.generation)
    await move.source.delete(gone)
    result = await move.run()
    assert {f.key: f.code for f in result.failures} == {bad: "source_damaged", gone: "object_not_found"}
    assert "--step ladder" in next(f.remedy for f in result.failures if f.key == bad)
    assert set(move.target.objects) == {good}


async def test_a_replaced_source_object_is_no_source(move: Move) -> None:
    _, (key,) = move.video("a")
    move.rows.change(key, generation="before it was replaced")
    result = await move.run()
    assert [f.code for f in result.failures] == ["generation_changed"]


@pytest.mark.parametrize("listed", [True, False], ids=["before", "meanwhile"])
async def test_another_object_of_the_target_is_never_overwritten(move: Move, listed: bool) -> None:
    _, (key, good) = move.video("a", "b")

    async def somebody_stores(putting: str) -> None:
        if putting == key and key not in move.target.objects:
            move.target.store(key, b"another")

    if listed:
        move.target.store(key, b"another")
    else:
        move.target.before_put = somebody_stores
    planned = await move.run(dry_run=True)
    assert [(f.key, f.code) for f in planned.failures] == [(key, "object_exists")] * listed
    result = await move.run()
    assert [(f.key, f.code) for f in result.failures] == [(key, "object_exists")]
    assert move.target.objects[key].data == b"another"
    assert good in move.target.objects


async def test_an_object_whose_checksum_cannot_be_compared_is_compared_by_its_bytes(move: Move) -> None:
    """The same bytes are there already, the target says so in its own way."""
    _, (same, other) = move.video("same", "other")
    for key in (same, other):
        data = move.source.objects[key].data
        stored = move.target.store(key, data if key == same else b"?" + data[1:])
        move.rows.change(key, checksum="")
        assert stored.size_bytes == len(data)
    result = await move.run()
    assert counts(result) == {"present": 1, "failed": 1}
    assert [(f.key, f.code) for f in result.failures] == [(other, "object_exists")]


async def test_what_is_damaged_on_its_way_is_removed_and_can_be_copied_again(move: Move) -> None:
    _, (key,) = move.video("a")
    for algorithm in ("", "odd"):
        move.target.damages, move.target.algorithm = True, algorithm
        result = await move.run()
        assert [f.code for f in result.failures] == ["copy_damaged"]
        assert move.target.objects == {}
    move.target.damages = False
    assert counts(await move.run()) == {"copied": 1}
    assert move.target.objects[key].data == move.source.objects[key].data


@pytest.mark.parametrize("moment", ["before_fetch", "before_put"])
@pytest.mark.parametrize("deleted", ["row", "video", "tombstone"])
async def test_what_is_deleted_while_it_is_copied_is_no_failure_and_leavesnothing(
    move: Move, moment: str, deleted: str
) -> None:
    video_id, (key,) = move.video("a")

    async def delete(touched: str) -> None:
        if deleted == "row":
            move.rows.forget(key)
        elif deleted == "video":
            del move.rows.videos[video_id]
        else:
            move.rows.videos[video_id] = replace(move.rows.videos[video_id], deleted=True)
        await move.source.delete(key)

    setattr(move.source if moment == "before_fetch" else move.target, moment, delete)
    for selected in ("old", "new"):
        move.selected = selected
        result = await move.run()
        assert result.failures == []
        assert move.target.objects == {}
        assert counts(result) in ({"gone": 1}, {})


async def test_what_is_uploaded_while_it_runs_is_copied_too(move: Move) -> None:
    move.video("a")
    later: list[str] = []

    async def upload(key: str) -> None:
        if not later:
            later.extend(move.video("later")[1])

    for _ in range(200):
        move.video("x")
    move.source.before_fetch = upload
    await move.run()
    assert later[0] in move.target.objects


async def test_rows_are_pinned_to_the_target_once_the_instance_uses_it(move: Move) -> None:
    _, keys = move.video("a", "b")
    assert (await move.run()).repinned == 0
    assert {move.rows.row(key).backend for key in keys} == {"old"}
    _, later = move.video("later")
    move.selected = "new"
    result = await move.run()
    assert (counts(result), result.repinned) == ({"present": 2, "copied": 1}, 3)
    for key in (*keys, *later):
        assert move.rows.row(key).pin("new") == move.target.objects[key].info.generation
    again = await move.run()
    assert (counts(again), again.repinned) == ({"present": 3}, 0)


@pytest.mark.parametrize("interrupted", [False, True])
async def test_what_the_new_storage_has_lost_is_copied_and_pinned_again(move: Move, interrupted: bool) -> None:
    _, (key, other) = move.video("a", "b")
    move.selected = "new"
    await move.run()
    data = move.target.objects[key].data
    await move.target.delete(key)
    if interrupted:
        move.target.store(key, data)  # by a run that came no further
    result = await move.run()
    assert (counts(result), result.repinned) == ({"present": 2} if interrupted else {"copied": 1, "present": 1}, 1)
    assert move.rows.row(key).pin("new") == move.target.objects[key].info.generation
    assert move.rows.row(other).pin("new") == move.target.objects[other].info.generation


async def test_a_row_that_changed_meanwhile_is_not_repinned(move: Move) -> None:
    _, (key,) = move.video("a")
    move.selected = "new"

    async def change(putting: str) -> None:
        move.rows.change(key, backend="third", generation="of the third")

    move.target.before_put = change
    result = await move.run()
    assert (counts(result), result.repinned) == ({"copied": 1}, 0)
    assert move.rows.row(key).backend == "third"


async def test_an_interrupted_copy_goes_on_where_it_was(move: Move) -> None:
    for _ in range(10):
        move.video("a", "b")
    stored, forever = asyncio.Event(), asyncio.Event()

    async def stop_somewhere(key: str) -> None:
        if len(move.target.objects) >= 7:
            stored.set()
            await forever.wait()

    move.target.before_put = stop_somewhere
    running = asyncio.create_task(move.run())
    await stored.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    done = len(move.target.objects)
    assert 7 <= done < 20
    move.target.before_put = nothing
    assert counts(await move.run()) == {"present": done, "copied": 20 - done}


@pytest.mark.parametrize("parallel", [1, 3])
async def test_no_more_than_so_many_are_copied_at_once(move: Move, parallel: int) -> None:
    move.video(*"abcdefgh")
    now, most = 0, 0
    together = asyncio.Event()

    async def count(key: str) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == parallel:
            together.set()
        await together.wait()
        now -= 1

    move.source.before_fetch = count
    async with asyncio.timeout(30):
        await move.run(parallel=parallel)
    assert most == parallel


async def test_a_storage_that_cannot_be_used_ends_it_at_once(move: Move) -> None:
    move.video("a")

    class Away(Store):
        async def check(self) -> None:
            raise UnavailableError("It does not answer.")

    move.target = Away()
    with pytest.raises(UnavailableError):
        await move.run()


async def test_an_error_of_one_object_does_not_end_it(move: Move) -> None:
    _, (first, *rest) = move.video("a", "b", "c")

    async def fail(key: str) -> None:
        if key == first:
            raise ProviderError("No.", code="no", remedy="Wait.")
        if key == rest[0]:
            raise OSError(28, "No space left on device")

    move.source.before_fetch = fail
    result = await move.run()
    failed = {f.key: (f.code, f.remedy) for f in result.failures}
    assert failed == {first: ("no", "Wait."), rest[0]: ("file_error", "")}
    assert set(move.target.objects) == {rest[1]}


# --- room -----------------------------------------------------------------------------------------------------


async def test_scratch_is_handed_out_up_to_the_reserve(tmp_path: Path) -> None:
    room = ScratchRoom(tmp_path, 100, free_bytes=lambda path: 1000)
    order: list[str] = []
    let_go = asyncio.Event()

    async def hold(name: str, size_bytes: int) -> None:
        async with room.taken(size_bytes):
            order.append(name)
            await let_go.wait()
        order.append(f"-{name}")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hold("most", 800))
        while order != ["most"]:
            await asyncio.sleep(0.001)
        waiting = tasks.create_task(hold("too much", 200))
        tasks.create_task(hold("linked", 0))
        while "linked" not in order:
            await asyncio.sleep(0.001)
        assert "too much" not in order
        let_go.set()
        await waiting
    assert order.index("too much") > order.index("-most")


async def test_what_fits_never_is_refused(tmp_path: Path) -> None:
    room = ScratchRoom(tmp_path, 100, free_bytes=lambda path: 1000)
    with pytest.raises(InsufficientStorageError):
        async with room.taken(901):
            raise AssertionError
    async with room.taken(900):
        pass


# --- checksums ------------------------------------------------------------------------------------------------


def test_known_checksums_are_compared_and_others_saynothing() -> None:
    measure = Measure(["md5"])
    measure.add(b"1234")
    measure.add(b"56789")
    assert measure.size_bytes == 9
    # The check values of these algorithms, of the digits 1 to 9.
    assert measure.agrees("crc32c:e3069283") is True
    assert measure.agrees("crc32:cbf43926") is True
    assert measure.agrees("crc32:cbf43927") is False
    assert measure.agrees("md5:25f9e794323b453885f5181f1b624d0b") is True
    assert measure.agrees("blake3:00") is None
    assert measure.agrees("") is None
