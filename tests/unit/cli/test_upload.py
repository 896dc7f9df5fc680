"""``echoctl upload`` against a server that speaks the contract."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from echo_core.entrypoints.cli.sources import source_file

SIGN = "POST /api/v1/videos/signed-upload-url"
FAILED = {
    "state": "failed",
    "percent": 40.0,
    "error": {"code": "unreadable_media", "message": "The file is damaged.", "remedy": "Export it again."},
    "steps": [
        {
            "name": "inspect",
            "state": "failed",
            "attempt": 1,
            "percent": 0,
            "error": {"code": "unreadable_media", "message": "The file is damaged.", "remedy": "Export it again."},
        }
    ],
}


def records(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state").rglob("*.json"))


def only(echo: Any) -> Any:
    (video,) = echo.videos.values()
    return video


def test_upload_prints_the_id_and_nothing_else_on_stdout(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 0
    assert ran.out == f"{only(echo).id}\n"
    assert bytes(only(echo).stored) == video.read_bytes()
    assert records(tmp_path) == []


def test_upload_sends_whole_chunks_and_the_rest(echo: Any, echoctl: Any, video: Path) -> None:
    echoctl("upload", video, fake=echo)
    size = video.stat().st_size
    assert echo.ranges == [f"bytes 0-262143/{size}", f"bytes 262144-524287/{size}", f"bytes 524288-655359/{size}"]


def test_upload_goes_in_one_put_where_the_storage_likes_that(echo: Any, echoctl: Any, video: Path) -> None:
    echo.in_one_put = True
    assert echoctl("upload", video, fake=echo).code == 0
    assert bytes(only(echo).stored) == video.read_bytes()
    assert echo.ranges == ["all"]


@pytest.mark.parametrize("status", [400, 403, 412, 503])
def test_upload_goes_on_by_the_resumable_way_when_one_put_fails(
    echo: Any, echoctl: Any, video: Path, status: int
) -> None:
    echo.in_one_put = True
    echo.faults.append(status)
    assert echoctl("upload", video, fake=echo).code == 0
    assert bytes(only(echo).stored) == video.read_bytes()
    assert len(echo.videos) == 1
    assert echo.ranges[0] == "all"
    assert all(span.startswith("bytes") for span in echo.ranges[1:])


def test_upload_sets_the_title_before_sending(echo: Any, echoctl: Any, video: Path) -> None:
    echoctl("upload", video, "--title", "Our holiday", fake=echo)
    assert only(echo).title == "Our holiday"


def test_title_for_several_files_is_refused(echo: Any, echoctl: Any, video: Path) -> None:
    ran = echoctl("upload", video, video, "--title", "Both", fake=echo)
    assert ran.code == 2
    assert echo.log == []


def test_second_run_continues_where_the_first_failed(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    def fail_second() -> None:
        if len(echo.ranges) == 2:
            echo.faults.append(400)

    echo.on_put = fail_second
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 1
    assert "Boom." in ran.err
    assert "Mend it." in ran.err
    assert len(records(tmp_path)) == 1

    echo.on_put = None
    del echo.ranges[:]
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 0
    assert echo.log.count(SIGN) == 1
    assert echo.ranges[0].startswith("bytes */")
    assert echo.ranges[1].startswith("bytes 262144-")
    assert bytes(only(echo).stored) == video.read_bytes()
    assert records(tmp_path) == []


def test_crash_before_the_answer_makes_no_second_video(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    echo.faults.append(400)
    echoctl("upload", video, fake=echo)
    (record,) = records(tmp_path)
    facts = json.loads(record.read_text())
    record.write_text(json.dumps({**facts, "video_id": "", "storage_path": ""}))
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 0
    assert len(echo.videos) == 1


def test_record_holds_neither_token_nor_address(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    echo.faults.append(400)
    echoctl("upload", video, fake=echo)
    (record,) = records(tmp_path)
    assert set(json.loads(record.read_text())) == {"idempotency_key", "video_id", "storage_path", "job_id"}
    assert "http" not in record.read_text()
    assert record.stat().st_mode & 0o077 == 0


def test_upload_starts_over_when_the_server_forgot_it(echo: Any, echoctl: Any, video: Path) -> None:
    echo.faults.append(400)
    echoctl("upload", video, fake=echo)
    echo.videos.clear()
    echo.answers.clear()
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 0
    assert "from the beginning" in ran.err
    assert bytes(only(echo).stored) == video.read_bytes()


def test_upload_that_the_storage_forgot_goes_on_with_the_same_video(echo: Any, echoctl: Any, video: Path) -> None:
    puts = 0

    def forget() -> None:
        nonlocal puts
        puts += 1
        if puts == 3:
            only(echo).stored.clear()
            only(echo).session += 1

    echo.on_put = forget
    echo.forgets = 1
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 0
    assert echo.log.count(SIGN) == 1
    assert sum("upload/resume" in line for line in echo.log) == 2
    assert bytes(only(echo).stored) == video.read_bytes()


def test_damaged_record_is_ignored(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    echo.faults.append(400)
    echoctl("upload", video, fake=echo)
    (record,) = records(tmp_path)
    record.write_text("{")
    assert echoctl("upload", video, fake=echo).code == 0


def test_expired_address_is_replaced_during_the_upload(echo: Any, echoctl: Any, video: Path) -> None:
    def expire_once() -> None:
        if len(echo.ranges) == 2:
            only(echo).session += 1

    echo.on_put = expire_once
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 0
    assert bytes(only(echo).stored) == video.read_bytes()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda p: p.write_bytes(b""), "empty_file"),
        (lambda p: p.mkdir(), "not_a_file"),
        (lambda p: None, "file_missing"),
        (lambda p: os.mkfifo(p), "not_a_file"),
    ],
)
def test_what_is_no_video_file_is_refused_without_a_request(
    echo: Any, echoctl: Any, tmp_path: Path, make: Any, code: str
) -> None:
    path = tmp_path / "x.mp4"
    make(path)
    ran = echoctl("upload", path, fake=echo)
    assert ran.code == 2
    assert f"({code})" in ran.err
    assert echo.log == []


def test_text_file_is_refused_by_its_name(echo: Any, echoctl: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    ran = echoctl("upload", path, fake=echo)
    assert ran.code == 2
    assert "(not_a_video)" in ran.err


@pytest.mark.complaint(21)
def test_others_go_on_after_one_fails(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mov"
    other.write_bytes(b"x" * 1000)
    echo.faults.append(400)
    ran = echoctl("upload", tmp_path / "missing.mp4", video, other, "--json", fake=echo)
    assert ran.code == 1
    assert (ran.json["succeeded"], ran.json["failed"]) == (1, 2)
    by_name = {Path(f["path"]).name: f for f in ran.json["files"]}
    assert by_name["missing.mp4"]["error"]["code"] == "file_missing"
    assert by_name["holiday.mp4"]["error"] == {
        "code": "boom",
        "message": "Boom.",
        "remedy": "Mend it.",
        "requestId": "r-1",
    }
    assert by_name["other.mov"]["ok"] is True
    assert "1 ok, 2 failed." in ran.err


def test_file_changed_during_upload_is_said_and_its_half_video_removed(
    echo: Any, echoctl: Any, video: Path, tmp_path: Path
) -> None:
    def append() -> None:
        with video.open("ab") as file:
            file.write(b"more")

    echo.on_put = append
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 1
    assert "(file_changed)" in ran.err
    assert echo.videos == {}
    assert records(tmp_path) == []


def checksum_of(path: Path) -> str:
    return f"crc32c:{google_crc32c.value(path.read_bytes()):08x}"


def test_upload_tells_the_checksum_of_the_file(echo: Any, echoctl: Any, video: Path) -> None:
    echoctl("upload", video, fake=echo)
    assert only(echo).checksum == checksum_of(video)


def test_upload_to_a_server_of_the_version_before_leaves_out_what_that_does_not_know(
    echo: Any, echoctl: Any, video: Path
) -> None:
    echo.unknown_fields = {"protocols", "checksum"}
    assert echoctl("upload", video, fake=echo).code == 0
    assert bytes(only(echo).stored) == video.read_bytes()
    assert only(echo).checksum == ""
    assert echo.log.count(SIGN) == 2


def test_field_that_every_server_knows_is_never_left_out(echo: Any, echoctl: Any, video: Path) -> None:
    echo.unknown_fields = {"sizeBytes"}
    ran = echoctl("upload", video, fake=echo)
    assert (ran.code, echo.log.count(SIGN)) == (1, 1)
    assert "There is no such field." in ran.err


def test_file_that_grows_after_it_was_sent_has_no_checksum(echo: Any, echoctl: Any, video: Path) -> None:
    source = source_file(video)
    assert source.checksum() == checksum_of(video)
    with video.open("ab") as file:
        file.write(b"more")
    assert source.checksum() is None


def test_upload_that_was_stored_as_something_else_is_an_error_and_removed(
    echo: Any, echoctl: Any, video: Path, tmp_path: Path
) -> None:
    echo.spoilt = checksum_of(video)
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 1
    assert "(upload_checksum_mismatch, " in ran.err
    assert echo.videos == {}
    assert records(tmp_path) == []


def test_watch_prints_the_playback_address(echo: Any, echoctl: Any, video: Path) -> None:
    ran = echoctl("upload", video, "--watch", fake=echo)
    assert ran.code == 0
    assert ran.out == f"{echo.url}/api/v1/stream/video/{only(echo).id}/master.m3u8?token=t\n"
    assert "inspect succeeded" in ran.err


def test_watch_of_a_failing_job_ends_with_4_and_says_why(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    echo.jobs[0] = FAILED
    ran = echoctl("upload", video, "--watch", fake=echo)
    assert ran.code == 4
    assert "inspect: The file is damaged." in ran.err
    assert "Export it again." in ran.err
    assert f"echoctl jobs retry {only(echo).job_id}" in ran.err
    assert ran.out == ""
    assert records(tmp_path) == []


def test_run_after_an_interrupted_watch_only_watches(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    from echo_core.entrypoints.cli.watching import Watcher

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watcher, "run", _interrupted)
        ran = echoctl("upload", video, "--watch", fake=echo)
    assert ran.code == 130
    assert "Run the same command again" in ran.err
    del echo.ranges[:]
    ran = echoctl("upload", video, "--watch", fake=echo)
    assert ran.code == 0
    assert echo.ranges == []
    assert len(echo.videos) == 1
    assert records(tmp_path) == []


async def _interrupted(_: object) -> None:
    raise KeyboardInterrupt


def test_same_file_in_two_processes_is_refused(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    from echo_core.entrypoints.cli.instance import subject_of
    from echo_core.entrypoints.cli.records import RecordStore, UploadIdentity
    from echo_core.entrypoints.cli.sources import source_file

    identity = UploadIdentity(source=source_file(video), url=echo.url, account=subject_of(next(iter(echo.tokens))))
    with RecordStore(tmp_path / "state" / "echo" / "uploads").open(identity):
        ran = echoctl("upload", video, fake=echo)
    assert ran.code == 5
    assert "(already_uploading)" in ran.err


def test_unreachable_server_is_3_and_tried_once(echoctl: Any, video: Path, tmp_path: Path) -> None:
    from socket import create_server

    with create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    token = "e30.eyJzdWIiOiJ1In0.x"
    other = tmp_path / "b.mp4"
    other.write_bytes(b"x")
    ran = echoctl("upload", video, other, "--url", f"http://127.0.0.1:{port}", "--token", token, "--json")
    assert ran.code == 3
    assert ran.json["failed"] == 2
    assert "echoctl up" in ran.err


def test_expired_token_from_a_file_is_read_again(echo: Any, echoctl: Any, video: Path, tmp_path: Path) -> None:
    """Whoever keeps the file fresh has written a new token since the command began."""
    (good,) = echo.tokens
    path = tmp_path / "token"
    path.write_text(f"{good}old\n")

    from echo_core.entrypoints.cli.instance import FileToken

    with pytest.MonkeyPatch.context() as patch:
        renew = FileToken.renew

        async def refreshed(self: FileToken) -> bool:
            path.write_text(good)
            return await renew(self)

        patch.setattr(FileToken, "renew", refreshed)
        ran = echoctl("upload", video, "--url", echo.url, "--token-file", path)
    assert ran.code == 0


def test_token_that_stays_refused_is_an_error(echo: Any, echoctl: Any, video: Path) -> None:
    echo.tokens.clear()
    ran = echoctl("upload", video, fake=echo)
    assert ran.code == 1
    assert "(token_expired, request r-1)" in ran.err


def test_foreign_address_without_token_is_refused(echoctl: Any, video: Path) -> None:
    ran = echoctl("upload", video, "--url", "https://video.example")
    assert ran.code == 2
    assert "(token_required)" in ran.err


def test_empty_xdg_state_home_counts_as_unset(
    echo: Any, echoctl: Any, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    echo.faults.append(400)
    echoctl("upload", video, fake=echo)
    assert list((tmp_path / "home/.local/state/echo/uploads").glob("*.json"))
