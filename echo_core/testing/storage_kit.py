"""The conformance kit of storage backends. Inherit it, give it a ``storage`` fixture, and it tests the rules S1 to S11.

.. code-block:: python

    class TestMyStorage(StorageTests):
        @pytest.fixture
        async def storage(self, tmp_path):
            async with open_my_storage(tmp_path) as storage:
                yield storage

The storage must be empty. The kit needs pytest-asyncio in auto mode. The rules are in
``echo_core.plugin_api.storage``; every test names the one it checks.
"""

# ruff: noqa: D102 - the name of a test says what it checks

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

import google_crc32c
import pytest

from echo_core.plugin_api import (
    MAX_KEY_LENGTH,
    BeginUpload,
    FetchFile,
    InsufficientStorageError,
    InvalidRequestError,
    ListObjects,
    NotFoundError,
    PreconditionFailedError,
    PutFile,
    ReadObject,
    ReadUrl,
    ResumeUpload,
    StorageBackend,
    UploadRef,
)
from echo_core.testing.storage_http_kit import StorageUrlTests
from echo_core.testing.storage_probe import VIDEO, list_keys, put_bytes, raises_code, read_bytes

INVALID_KEYS = (
    *("", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/.", "~", "é", "x" * (MAX_KEY_LENGTH + 1)),
    *("a b", "a\\b", "a\x00b", "a\nb", "a\n", "a%2fb", "a?b", "a@b", "a+b", "a#b"),
)
VALID_KEYS = (
    *("x" * 200 + "../a", "x" * 256 + "."),  # a backend that cuts long names must not make "." or ".." of the rest
    *("a", "A.b-c_d/0", "...", "..a", "-", "x" * MAX_KEY_LENGTH, "y" * 300 + "/" + "z" * 200, "/".join("d" * 150)),
)


class StorageObjectTests:
    """The rules that need no HTTP."""

    @pytest.fixture
    async def storage(self) -> StorageBackend:
        """The backend under test; override it."""
        raise NotImplementedError("override the fixture `storage` in your subclass of StorageTests")

    @pytest.mark.parametrize("key", INVALID_KEYS)
    async def test_s1_invalid_key_is_refused_and_touches_nothing(
        self, storage: StorageBackend, tmp_path: Path, key: str
    ) -> None:
        with raises_code(InvalidRequestError, "invalid_key"):
            await storage.stat(key)
        with raises_code(InvalidRequestError, "invalid_key"):
            await storage.delete(key)
        with raises_code(InvalidRequestError, "invalid_key"):
            await read_bytes(storage, ReadObject(key=key))
        with raises_code(InvalidRequestError, "invalid_key"):
            await storage.read_url(ReadUrl(key=key, expires_in_s=60))
        with raises_code(InvalidRequestError, "invalid_key"):
            await storage.begin_upload(BeginUpload(key=key, content_type=VIDEO, size_bytes=1))
        with raises_code(InvalidRequestError, "invalid_key"):
            await put_bytes(storage, tmp_path, key)
        assert (tmp_path / "put-file").read_bytes() == b"content"
        assert await list_keys(storage) == []

    @pytest.mark.parametrize("key", VALID_KEYS)
    async def test_s1_every_valid_key_can_be_used(self, storage: StorageBackend, tmp_path: Path, key: str) -> None:
        await put_bytes(storage, tmp_path, key)
        assert await read_bytes(storage, ReadObject(key=key)) == b"content"
        assert await list_keys(storage) == [key]
        await storage.delete(key)
        assert await list_keys(storage) == []

    async def test_s1_key_may_be_the_folder_of_others(self, storage: StorageBackend, tmp_path: Path) -> None:
        keys = ["a/b/c", "a", "a/b", "A"]
        for key in keys:
            await put_bytes(storage, tmp_path, key, key.encode())
        for key in keys:
            assert await read_bytes(storage, ReadObject(key=key)) == key.encode()
        await storage.delete("a/b")
        assert await list_keys(storage) == ["A", "a", "a/b/c"]

    async def test_s2_unfinished_upload_is_no_object(self, storage: StorageBackend) -> None:
        await storage.begin_upload(BeginUpload(key="a/b", content_type=VIDEO, size_bytes=3))
        with raises_code(NotFoundError, "object_not_found"):
            await storage.stat("a/b")
        assert await list_keys(storage) == []

    async def test_s2_what_put_file_stored_is_all_there(self, storage: StorageBackend, tmp_path: Path) -> None:
        data = bytes(range(256)) * 10_000
        info = await put_bytes(storage, tmp_path, "a", data, "video/webm")
        assert info == await storage.stat("a")
        assert (info.key, info.size_bytes, info.content_type) == ("a", len(data), "video/webm")
        assert info.created_at.tzinfo is not None
        assert await read_bytes(storage, ReadObject(key="a")) == data

    async def test_s2_large_file_comes_back_as_it_went(self, storage: StorageBackend, tmp_path: Path) -> None:
        """Larger than any backend sends or reads at once, and no piece like another."""
        data = b"".join(number.to_bytes(8, "big") * 4096 for number in range(640))
        info = await put_bytes(storage, tmp_path, "a", data)
        assert info.size_bytes == len(data) == 20 << 20
        assert await read_bytes(storage, ReadObject(key="a", generation=info.generation)) == data
        assert (
            await read_bytes(storage, ReadObject(key="a", start=len(data) // 3, end=-7 + len(data)))
            == (data[len(data) // 3 : -7])
        )
        if storage.supports_fetch:
            await storage.fetch_file(FetchFile(key="a", path=tmp_path / "target", generation=info.generation))
            assert (tmp_path / "target").read_bytes() == data

    async def test_s3_put_file_never_overwrites(self, storage: StorageBackend, tmp_path: Path) -> None:
        first = await put_bytes(storage, tmp_path, "a", b"first")
        with raises_code(PreconditionFailedError, "object_exists"):
            await put_bytes(storage, tmp_path, "a", b"other")
        assert (tmp_path / "put-file").read_bytes() == b"other"
        assert await storage.stat("a") == first
        assert await read_bytes(storage, ReadObject(key="a")) == b"first"

    async def test_s3_the_same_bytes_again_change_nothing(self, storage: StorageBackend, tmp_path: Path) -> None:
        first = await put_bytes(storage, tmp_path, "a", b"first")
        assert await put_bytes(storage, tmp_path, "a", b"first", "text/plain") == first
        assert await storage.stat("a") == first

    async def test_s3_of_many_writers_one_wins(self, storage: StorageBackend, tmp_path: Path) -> None:
        folders = [tmp_path / str(number) for number in range(8)]
        for folder in folders:
            folder.mkdir()
        writes = (put_bytes(storage, folder, "deep/er/a", folder.name.encode()) for folder in folders)
        results = await asyncio.gather(*writes, return_exceptions=True)
        winners = [folder.name for folder, result in zip(folders, results, strict=True) if not _is_error(result)]
        assert len(winners) == 1
        assert all(isinstance(result, PreconditionFailedError) for result in results if _is_error(result))
        assert await read_bytes(storage, ReadObject(key="deep/er/a")) == winners[0].encode()

    async def test_s3_upload_to_a_taken_key_is_refused(self, storage: StorageBackend, tmp_path: Path) -> None:
        await put_bytes(storage, tmp_path, "a")
        with raises_code(PreconditionFailedError, "object_exists"):
            await storage.begin_upload(BeginUpload(key="a", content_type=VIDEO, size_bytes=3))

    async def test_s4_missing_object_is_not_found(self, storage: StorageBackend, tmp_path: Path) -> None:
        with raises_code(NotFoundError, "object_not_found"):
            await storage.stat("a/b")
        with raises_code(NotFoundError, "object_not_found"):
            await read_bytes(storage, ReadObject(key="a/b"))
        if storage.supports_fetch:
            with raises_code(NotFoundError, "object_not_found"):
                await storage.fetch_file(FetchFile(key="a/b", path=tmp_path / "target"))
            assert not (tmp_path / "target").exists()

    async def test_s4_folder_of_objects_is_no_object(self, storage: StorageBackend, tmp_path: Path) -> None:
        await put_bytes(storage, tmp_path, "a/b/c")
        with raises_code(NotFoundError, "object_not_found"):
            await storage.stat("a/b")
        with raises_code(NotFoundError, "object_not_found"):
            await storage.stat("a/b/c/d")

    async def test_s4_fetch_file_gives_the_bytes(self, storage: StorageBackend, tmp_path: Path) -> None:
        if not storage.supports_fetch:
            pytest.skip("supports_fetch is False")
        info = await put_bytes(storage, tmp_path, "a", b"0123456789")
        await storage.fetch_file(FetchFile(key="a", path=tmp_path / "target", generation=info.generation))
        assert (tmp_path / "target").read_bytes() == b"0123456789"
        with pytest.raises(InvalidRequestError):
            await storage.fetch_file(FetchFile(key="a", path=tmp_path / "target"))
        with pytest.raises(PreconditionFailedError):
            await storage.fetch_file(FetchFile(key="a", path=tmp_path / "other", generation="another"))

    @pytest.mark.parametrize(("start", "end"), [(0, None), (0, 10), (3, 7), (9, 10), (9, None), (4, 99), (0, 1)])
    async def test_s5_half_open_range(
        self, storage: StorageBackend, tmp_path: Path, start: int, end: int | None
    ) -> None:
        await put_bytes(storage, tmp_path, "a", b"0123456789")
        assert await read_bytes(storage, ReadObject(key="a", start=start, end=end)) == b"0123456789"[start:end]

    @pytest.mark.parametrize(("start", "end"), [(10, None), (10, 11), (11, None), (1000, 2000)])
    async def test_s5_range_behind_the_end(
        self, storage: StorageBackend, tmp_path: Path, start: int, end: int | None
    ) -> None:
        await put_bytes(storage, tmp_path, "a", b"0123456789")
        with raises_code(InvalidRequestError, "range_not_satisfiable"):
            await read_bytes(storage, ReadObject(key="a", start=start, end=end))

    async def test_s5_empty_object_can_be_read(self, storage: StorageBackend, tmp_path: Path) -> None:
        await put_bytes(storage, tmp_path, "a", b"")
        assert await read_bytes(storage, ReadObject(key="a")) == b""
        assert (await storage.stat("a")).size_bytes == 0

    async def test_s6_delete_is_idempotent(self, storage: StorageBackend, tmp_path: Path) -> None:
        for key in ("a/b", "a/c"):
            await put_bytes(storage, tmp_path, key)
        await storage.delete("a/b")
        await storage.delete("a/b")
        await storage.delete("never/was")
        assert await list_keys(storage) == ["a/c"]

    async def test_s6_write_and_delete_next_door_lose_nothing(self, storage: StorageBackend, tmp_path: Path) -> None:
        async def write_and_delete(number: int) -> None:
            folder = tmp_path / str(number)
            folder.mkdir()
            for turn in range(10):
                await put_bytes(storage, folder, f"a/b/{number}-{turn}")
                await storage.delete(f"a/b/{number}-{turn}")
            await put_bytes(storage, folder, f"a/b/{number}")

        await asyncio.gather(*(write_and_delete(number) for number in range(4)))
        assert await list_keys(storage) == [f"a/b/{number}" for number in range(4)]

    @pytest.mark.parametrize("limit", [1, 2, 3, 1000])
    async def test_s7_list_is_ordered_and_gapless(self, storage: StorageBackend, tmp_path: Path, limit: int) -> None:
        keys = ["a", "a-b", "a-b/c", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "aa", "b/c", "x" * 250 + "/a", "x" * 251]
        for key in reversed(keys):
            await put_bytes(storage, tmp_path, key)
        assert await list_keys(storage, limit=limit) == sorted(keys)

    @pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/b/", "a-", "b", "nothing", "../", "/"])
    async def test_s7_prefix_matches_by_string(self, storage: StorageBackend, tmp_path: Path, prefix: str) -> None:
        keys = ["a", "a-b", "a/b", "a/b/c", "a/bc", "b"]
        for key in keys:
            await put_bytes(storage, tmp_path, key)
        assert await list_keys(storage, prefix, limit=2) == [key for key in keys if key.startswith(prefix)]

    async def test_s7_cursor_of_a_deleted_key_still_works(self, storage: StorageBackend, tmp_path: Path) -> None:
        for key in ("a", "b", "c"):
            await put_bytes(storage, tmp_path, key)
        page = await storage.list(ListObjects(prefix="", limit=2))
        await storage.delete("b")
        rest = await storage.list(ListObjects(prefix="", limit=2, cursor=page.next_cursor))
        assert [info.key for info in rest.objects] == ["c"]

    async def test_s10_offset_of_an_upload_that_never_sent(self, storage: StorageBackend) -> None:
        ticket = await storage.begin_upload(BeginUpload(key="a", content_type=VIDEO, size_bytes=3))
        found = await storage.upload_offset(UploadRef(key="a", state=ticket.state))
        assert (found.offset_bytes, found.complete) == (0, False)

    async def test_s10_what_cannot_fit_is_refused_up_front(self, storage: StorageBackend) -> None:
        free = (await storage.usage()).free_bytes
        if free is None:
            pytest.skip("usage() does not know how much is free")
        with raises_code(InsufficientStorageError, "insufficient_storage"):
            # Others may free space on the same disk meanwhile: ask for far more than there is.
            await storage.begin_upload(BeginUpload(key="a", content_type=VIDEO, size_bytes=free + (1 << 50)))
        assert await list_keys(storage) == []

    async def test_s10_size_above_the_bound_is_refused(self, storage: StorageBackend) -> None:
        with raises_code(InvalidRequestError, "upload_too_large"):
            await storage.begin_upload(BeginUpload(key="a", content_type=VIDEO, size_bytes=4, max_size_bytes=3))

    async def test_s10_abort_is_idempotent(self, storage: StorageBackend) -> None:
        if not storage.supports_upload_abort:
            pytest.skip("supports_upload_abort is False")
        ticket = await storage.begin_upload(BeginUpload(key="a", content_type=VIDEO, size_bytes=3))
        for _ in range(2):
            await storage.abort_upload(UploadRef(key="a", state=ticket.state))
        with raises_code(NotFoundError, "upload_gone"):
            await storage.upload_offset(UploadRef(key="a", state=ticket.state))
        with raises_code(NotFoundError, "upload_gone"):
            await storage.resume_upload(ResumeUpload(key="a", state=ticket.state, content_type=VIDEO, size_bytes=3))

    async def test_s10_state_of_another_key_is_refused(self, storage: StorageBackend) -> None:
        ticket = await storage.begin_upload(BeginUpload(key="a", content_type=VIDEO, size_bytes=3))
        with raises_code(NotFoundError, "upload_gone"):
            await storage.upload_offset(UploadRef(key="b", state=ticket.state))

    @pytest.mark.parametrize("state", ["", "another storage's", "0" * 32, "ü", "x" * 5000])
    async def test_s10_state_of_another_storage_is_an_upload_that_is_gone(
        self, storage: StorageBackend, state: str
    ) -> None:
        with raises_code(NotFoundError, "upload_gone"):
            await storage.upload_offset(UploadRef(key="a", state=state))
        with raises_code(NotFoundError, "upload_gone"):
            await storage.resume_upload(ResumeUpload(key="a", state=state, content_type=VIDEO, size_bytes=3))
        if storage.supports_upload_abort:
            await storage.abort_upload(UploadRef(key="a", state=state))

    async def test_s11_checksum_is_that_of_the_bytes(self, storage: StorageBackend, tmp_path: Path) -> None:
        data = b"the bytes of this object"
        algorithm, _, found = (await put_bytes(storage, tmp_path, "a", data)).checksum.partition(":")
        known = {"crc32c": f"{google_crc32c.value(data):08x}", "md5": hashlib.md5(data).hexdigest()}  # noqa: S324
        known["sha256"] = hashlib.sha256(data).hexdigest()
        if algorithm not in known:
            pytest.skip(f"nobody here can compute {algorithm}")
        assert found == known[algorithm]

    async def test_s11_generation_changes_with_the_bytes(self, storage: StorageBackend, tmp_path: Path) -> None:
        first = await put_bytes(storage, tmp_path, "a", b"first")
        await storage.delete("a")
        second = await put_bytes(storage, tmp_path, "a", b"other")
        assert first.generation != second.generation
        assert first.checksum != second.checksum
        assert re.fullmatch(r"[a-z0-9]+:[0-9a-f]+", first.checksum)
        with pytest.raises(PreconditionFailedError):
            await read_bytes(storage, ReadObject(key="a", generation=first.generation))
        assert await read_bytes(storage, ReadObject(key="a", generation=second.generation)) == b"other"

    async def test_source_survives_a_failed_put(self, storage: StorageBackend, tmp_path: Path) -> None:
        """S3 and the promise of ``put_file``: a missing source is an error of its own, and stores nothing."""
        with pytest.raises(NotFoundError):
            await storage.put_file(PutFile(key="a", path=tmp_path / "missing", content_type=VIDEO))
        assert await list_keys(storage) == []

    async def test_check_and_usage_of_a_healthy_storage(self, storage: StorageBackend) -> None:
        await storage.check()
        usage = await storage.usage()
        assert usage.free_bytes is None or usage.free_bytes >= 0


def _is_error(result: object) -> bool:
    return isinstance(result, BaseException)


class StorageTests(StorageObjectTests, StorageUrlTests):
    """All rules. A backend whose URLs cannot be reached in tests sets ``urls_unreachable`` to the reason."""
