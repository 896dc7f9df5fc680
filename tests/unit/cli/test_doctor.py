"""What the doctor finds, and how it says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from echo_core import bootstrap
from echo_core.entrypoints.cli.examination import Examination, Hop
from echo_core.entrypoints.cli.problems import CliError
from echo_core.entrypoints.cli.round_trip import (
    CLIP,
    Part,
    first_address,
    first_part,
    missing_answers,
    missing_permissions,
)

ORIGIN = "https://app.example"
ALLOWED = {
    "access-control-allow-origin": ORIGIN,
    "access-control-allow-methods": "GET, put",
    "access-control-allow-headers": "Content-Type, Content-Range",
}


async def test_hop_tells_expected_failures_with_their_remedy() -> None:
    heard: list[Hop] = []
    examination = Examination(heard.append)

    async def fails() -> str:
        raise CliError("No.", code="no", remedy="Do this.")

    assert not await examination.hop("storage", fails)
    assert not examination.ok
    assert (heard[0].status, heard[0].code, heard[0].remedy) == ("failed", "no", "Do this.")


async def test_hop_lets_defects_through() -> None:
    async def defect() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Examination(lambda hop: None).hop("x", defect)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"access-control-allow-origin": ORIGIN, "access-control-expose-headers": "ETag, range"}, []),
        ({"access-control-allow-origin": "*", "access-control-expose-headers": "*"}, []),
        ({"access-control-allow-origin": ORIGIN, "access-control-expose-headers": "ETag"}, ["lacks Range"]),
        ({"access-control-allow-origin": ORIGIN}, ["lacks Range"]),
        ({"access-control-expose-headers": "Range"}, ["Allow-Origin"]),
    ],
)
def test_what_answers_to_a_page_lack(headers: dict[str, str], words: list[str]) -> None:
    found = missing_answers(httpx2.Headers(headers), ORIGIN)
    assert len(found) == len(words)
    assert all(word in sentence for word, sentence in zip(words, found, strict=True))


def test_skipped_hops_are_no_failure() -> None:
    examination = Examination(lambda hop: None)
    examination.skip("a", "b", because="later")
    assert examination.ok
    assert [hop.name for hop in examination.hops] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"access-control-allow-origin": "*"}, []),
        ({"access-control-allow-origin": "https://other.example"}, ["Allow-Origin"]),
        ({"access-control-allow-methods": "GET"}, ["PUT"]),
        ({"access-control-allow-headers": "content-type"}, ["content-range"]),
    ],
)
@pytest.mark.complaint(10)
def test_preflight_says_what_is_missing(change: dict[str, str], words: list[str]) -> None:
    missing = missing_permissions(httpx2.Headers({**ALLOWED, **change}), ORIGIN)
    assert len(missing) == len(words)
    assert all(word in found for word, found in zip(words, missing, strict=True))


def test_first_part_is_the_byte_range_of_the_first_segment() -> None:
    playlist = (
        '#EXTM3U\n#EXT-X-MAP:URI="v.mp4?sig=1",BYTERANGE="800@0"\n#EXTINF:4,\n#EXT-X-BYTERANGE:5000@800\nv.mp4?sig=1\n'
    )
    assert first_part(playlist, "https://e/x/media.m3u8") == Part("https://e/x/v.mp4?sig=1", 800, 5000)


def test_first_part_without_ranges_is_the_first_segment() -> None:
    assert first_part("#EXTM3U\n#EXTINF:4,\nseg0.ts\n", "https://e/x/m.m3u8") == Part("https://e/x/seg0.ts")


@pytest.mark.parametrize("text", ["", "#EXTM3U\n", "<html>"])
def test_empty_playlist_is_a_failure(text: str) -> None:
    with pytest.raises(CliError):
        first_address(text, "https://e/")


def test_clip_is_small() -> None:
    assert 0 < CLIP.stat().st_size <= 30 * 1024
    assert CLIP.read_bytes()[4:8] == b"ftyp"


@pytest.fixture
def dependencies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    checks: list[Any] = []

    async def check(_: object) -> list[Any]:
        return checks

    monkeypatch.setattr(bootstrap, "check_dependencies", check, raising=False)
    return checks


def dependency(name: str, **more: Any) -> Any:
    return SimpleNamespace(**{"name": name, "ok": True, "detail": "fine", "remedy": "", "seconds": 0.1, **more})


def test_offline_asks_only_the_dependencies(echoctl: Any, dependencies: list[Any]) -> None:
    dependencies.append(dependency("database"))
    ran = echoctl("doctor", "--offline", "--json")
    assert ran.code == 0
    assert [(h["name"], h["status"]) for h in ran.json["hops"]] == [("configuration", "ok"), ("database", "ok")]


def test_failed_dependency_is_1_with_its_remedy(echoctl: Any, dependencies: list[Any]) -> None:
    dependencies.append(dependency("storage", ok=False, detail="disk full", remedy="Free some space."))
    ran = echoctl("doctor", "--offline")
    assert ran.code == 1
    assert "Free some space." in ran.out
    assert "Failed: storage." in ran.err


def test_what_could_not_be_found_out_is_neither_ok_nor_failed(echoctl: Any, dependencies: list[Any]) -> None:
    dependencies.append(dependency("storage cors", ok=None, detail="it may not read the bucket's settings"))
    ran = echoctl("doctor", "--offline", "--json")
    assert ran.code == 0
    hop = ran.json["hops"][-1]
    assert (hop["name"], hop["status"], hop["code"]) == ("storage cors", "skipped", "")
    assert "it may not read" in hop["detail"]


def test_broken_configuration_skips_the_rest(echoctl: Any, tmp_path: Any) -> None:
    (tmp_path / "echo.toml").write_text("nonsense = 1\n")
    ran = echoctl("doctor", "--json")
    assert ran.code == 1
    statuses = {hop["name"]: hop["status"] for hop in ran.json["hops"]}
    assert statuses.pop("configuration") == "failed"
    assert set(statuses.values()) == {"skipped"}


def test_clip_that_fails_on_the_way_is_deleted_afterwards(echo: Any, echoctl: Any) -> None:
    """The fake serves no ``/readyz``, and then no playlist: the hop that fails is named, and nothing stays."""
    ran = echoctl("doctor", "--json", fake=echo)
    assert ran.code == 1
    failed = [hop["name"] for hop in ran.json["hops"] if hop["status"] == "failed"]
    assert failed == ["api"]
    assert echo.videos == {}
