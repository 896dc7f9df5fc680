"""No name that anybody sends leads out of the place that is its video's own."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from echo_storage_local.backend import open_local_storage
from echo_storage_local.config import LocalStorageConfig
from echo_storage_local.keys import object_path
from hypothesis import example, given
from hypothesis import strategies as st

from echo_core.adapters.clock import SystemClock
from echo_core.domain.errors import InvalidInputError
from echo_core.domain.ids import VideoId
from echo_core.domain.uploads import check_filename, source_key
from echo_core.plugin_api import (
    BeginUpload,
    EchoError,
    InvalidRequestError,
    ListObjects,
    NotFoundError,
    PluginContext,
    PutFile,
    ReadObject,
    ReadUrl,
    UploadRef,
)
from echo_core.testing.transcoder_kit import files_below
from tests.security.conftest import BOB, World

VIDEO = VideoId(UUID("01900000-0000-7000-8000-000000000001"))
NAMES = [
    "../../../../etc/passwd",
    "..\\..\\windows\\system32\\cmd.exe",
    "/etc/passwd",
    "C:\\film.mp4",
    "\\\\server\\share\\film.mp4",
    "file:///etc/passwd",
    "film.mp4/../../../x",
    "film\x00.mp4",
    "..",
    "...",
    "..mp4",
    ".htaccess",
    ".mp4",
    "-rf",
    "~root",
    "con",
    "NUL.mp4",
    "film.mp4.",
    "film.mp4 ",
    "film.mp4@",
    "film+",
    "a" * 300 + ".mp4",
    "ü" * 300,
    "a." * 200,
    "\uff0e\uff0e\uff0f\uff0e\uff0e\uff0fx",
    "\u2025/\u2024\u2024/x",
    "a\u2215b\u2044c\uff0fd\uff3ce",
    "\u202e4pm.exe",
    "fi\u200dlm\u2028.mp4\r\nX: y",
    "%2e%2e%2f%2e%2e%2fx",
    "%c0%ae%c0%ae/x",
    "\ud800film.mp4",
    "$(id)`id`;|&<>'\".mp4",
    "%d%n%s.mp4",
]
SAFE = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,99}")


@given(
    st.one_of(
        st.text(max_size=300), st.text(alphabet="./\\ ~@+%a\x00\uff0e\uff0f", max_size=30), st.sampled_from(NAMES)
    )
)
@example("a" * 99 + "/..")
def test_every_file_name_becomes_a_plain_name_below_its_video(filename: str) -> None:
    try:
        shown = check_filename(filename)
    except InvalidInputError:
        return
    assert not {"/", "\\", "\0", "\n", "\r"} & set(shown)
    assert len(shown) <= 255
    key = source_key(VIDEO, shown)
    prefix, _, name = key.rpartition("/")
    assert prefix == f"videos/{VIDEO}/source"
    assert SAFE.fullmatch(name)
    assert ".." not in name
    assert object_path(key)[:3] == ("videos", str(VIDEO), "source")


@pytest.mark.integration
@pytest.mark.asyncio(loop_scope="module")
async def test_hostile_names_arrive_as_plain_ones_over_http(world: World) -> None:
    url = "/api/v1/videos/signed-upload-url"
    for name in NAMES:
        announced: dict[str, Any] = {"filename": name, "contentType": "video/mp4", "sizeBytes": 3}
        try:
            answer = await world.client.post(url, json=announced, headers=world.bearer(BOB))
        except UnicodeEncodeError:
            continue  # no JSON can hold it
        if answer.status_code == 422:
            continue
        begun = answer.json()
        assert re.fullmatch(rf"videos/{begun['videoId']}/source/{SAFE.pattern}", begun["storagePath"]), name
        assert (await world.client.put(begun["uploadUrl"], content=b"abc")).status_code == 200
        assert (await world.storage.stat(begun["storagePath"])).size_bytes == 3


KEYS = ["", "/", ".", "..", "../a", "a/../b", "a/./b", "/a", "a/", "a//b", "a\\b", "a\0", "a\n", "a b", "é", "%2e%2e/a"]
KEYS += [
    "a@",
    "a@/data",
    "a+",
    "a" * 513,
    "videos/../../x",
    "..@",
    "a:b",
    "~/x",
    "a/..",
    "\ud800",
    "objects/../uploads",
]


@pytest.mark.integration
async def test_the_store_takes_no_other_keys_and_touches_nothing_outside(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("secret")
    context = PluginContext(
        plugin="storage_local",
        config=LocalStorageConfig(min_free_bytes=0),
        data_dir=tmp_path / "data",
        routes_url="http://echo.test/plugins/storage_local",
        clock=SystemClock(),
        derive_key=lambda label: hashlib.sha256(label.encode()).digest(),
    )
    source = tmp_path / "source"
    source.write_bytes(b"x")
    async with open_local_storage(context) as storage:
        before = files_below(tmp_path)
        for key in KEYS:
            calls = (
                storage.begin_upload(BeginUpload(key=key, content_type="video/mp4", size_bytes=1)),
                storage.stat(key),
                anext(storage.open_read(ReadObject(key=key))),
                storage.read_url(ReadUrl(key=key, expires_in_s=60)),
                storage.put_file(PutFile(key=key, path=source, content_type="video/mp4")),
                storage.delete(key),
            )
            for call in calls:
                with pytest.raises(InvalidRequestError) as caught:
                    await call
                assert caught.value.code == "invalid_key", key
        for state in ("", "..", "../objects", "x", "0" * 31, "0" * 32, "/" * 32, "0" * 30 + ".."):
            with pytest.raises(EchoError):
                await storage.upload_offset(UploadRef(key="a", state=state))
            await storage.abort_upload(UploadRef(key="a", state=state))
        for prefix in ("../", "/", "..", "a/../../"):
            assert (await storage.list(ListObjects(prefix=prefix))).objects == ()
        assert files_below(tmp_path) == before


@pytest.mark.integration
async def test_a_link_in_place_of_an_upload_is_not_followed(tmp_path: Path) -> None:
    context = PluginContext(
        plugin="storage_local",
        config=LocalStorageConfig(min_free_bytes=0),
        data_dir=tmp_path,
        routes_url="http://echo.test/plugins/storage_local",
        clock=SystemClock(),
        derive_key=lambda label: hashlib.sha256(label.encode()).digest(),
    )
    async with open_local_storage(context) as storage:
        ticket = await storage.begin_upload(BeginUpload(key="a", content_type="video/mp4", size_bytes=1))
        uploads = tmp_path / "objects" / "uploads"
        (uploads / ticket.state).rename(tmp_path / "elsewhere")
        (uploads / ticket.state).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(NotFoundError):
            await storage.upload_offset(UploadRef(key="a", state=ticket.state))
        mark = (tmp_path / "elsewhere" / "mark").read_bytes()
        await storage.abort_upload(UploadRef(key="a", state=ticket.state))
        assert (tmp_path / "elsewhere" / "mark").read_bytes() == mark
