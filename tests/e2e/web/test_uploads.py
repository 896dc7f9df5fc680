"""Uploads that are interrupted, and one of a size that no memory holds."""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import struct
import time
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.e2e.web.browser import CUT, PROCESSED_MS, Person, cut, expect_status, throttle
from tests.e2e.web.conftest import SignUp

pytestmark = pytest.mark.e2e

MIB = 1 << 20
CUT_MS = 20_000
PATIENT_MS = 60_000


def padded(clip: Path, target: Path, size_bytes: int) -> Path:
    """The clip with an empty box at its end (ISO/IEC 14496-12, 8.1.2): large to send, quick to process."""
    shutil.copy(clip, target)
    with target.open("ab") as file:
        box = size_bytes - clip.stat().st_size
        file.write(struct.pack(">I4s", box, b"free"))
        file.write(b"\x5a" * (box - 8))
    return target


def sent_range(request: Request) -> tuple[int, int] | None:
    """First and last byte of a chunk; None for what is no chunk."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/\d+", request.headers.get("content-range", ""))
    return (int(match[1]), int(match[2])) if request.method == "PUT" and match else None


def sent_share(page: Page, name: str) -> float:
    told = page.get_by_role("progressbar", name=f"Upload of {name}").first.get_attribute("aria-valuenow")
    return int(told or 0) / 100


def wait_for_share(page: Page, name: str, share: float) -> None:
    page.wait_for_function(
        """([label, percent]) => {
          const bar = document.querySelector(`[data-upload] [role=progressbar][aria-label="${label}"]`);
          return Number(bar?.getAttribute("aria-valuenow")) >= percent;
        }""",
        arg=[f"Upload of {name}", 100 * share],
        timeout=PATIENT_MS,
    )


def chromium_bytes() -> int:
    """Memory of all processes of the browser."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss if "chrom" in process.name() else 0
    assert total, "no Chromium runs"
    return total


def expect_uploaded(person: Person, name: str) -> None:
    expect(person.upload_line(name).get_by_text("Uploaded", exact=True)).to_be_visible(timeout=PATIENT_MS)


@pytest.mark.complaint(9)
def test_closing_the_page_loses_neither_bytes_nor_what_was_typed(
    sign_up: SignUp, short_clip: Path, tmp_path: Path
) -> None:
    film = padded(short_clip, tmp_path / "film.mp4", 24 * MIB)
    ada = sign_up()
    chunks: list[tuple[int, int]] = []
    ada.context.on("request", lambda request: chunks.extend(filter(None, [sent_range(request)])))
    throttle(ada.devtools(), upload_bps=6 * MIB)
    ada.choose(film)
    ada.upload_line(film.name).get_by_role("link").click()
    ada.page.get_by_label("Title", exact=True).fill("Typed meanwhile")
    wait_for_share(ada.page, film.name, 0.5)
    address = ada.page.url
    ada.page.close(run_before_unload=False)
    before = len(chunks)

    page = ada.new_page("/dashboard")
    with page.expect_response("**/upload/resume") as resumed:
        ada.choose(film)
    offset = resumed.value.json()["offsetBytes"]
    assert 0 < offset < film.stat().st_size
    expect_uploaded(ada, film.name)
    assert chunks[before][0] == offset
    assert sum(last - first + 1 for first, last in chunks) < 1.7 * film.stat().st_size

    page.goto(address)
    expect(page.get_by_text("What you typed last time is back.")).to_be_visible()
    expect(page.get_by_label("Title", exact=True)).to_have_value("Typed meanwhile")
    expect_status(page, "Ready")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Typed meanwhile", level=1)).to_be_visible()
    page.goto("/dashboard")
    expect(ada.badge("Typed meanwhile")).to_have_text("Ready")
    assert ada.page.get_by_role("article").count() == 1


def test_upload_outlasts_a_network_that_is_gone(sign_up: SignUp, short_clip: Path, tmp_path: Path) -> None:
    film = padded(short_clip, tmp_path / "film.mp4", 24 * MIB)
    ada = sign_up()
    ada.guard.allow(CUT)
    devtools = ada.devtools()
    throttle(devtools, upload_bps=6 * MIB)
    ada.choose(film)
    wait_for_share(ada.page, film.name, 0.3)
    cut(devtools)
    cut_at = time.monotonic()
    line = ada.upload_line(film.name)
    expect(line).to_contain_text("Offline")
    expect(line).to_contain_text("goes on by itself")
    ada.page.wait_for_timeout(CUT_MS - 1000 * (time.monotonic() - cut_at))
    expect(line).to_contain_text("Offline")
    throttle(devtools, upload_bps=24 * MIB)
    expect_uploaded(ada, film.name)
    expect(ada.badge("film")).to_have_text("Ready", timeout=PROCESSED_MS)


@pytest.mark.complaint(30)
def test_processing_is_followed_again_after_the_network_was_gone(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    ada.guard.allow(CUT)
    link = ada.page.locator("[data-link]")
    expect(link).to_have_attribute("data-link", "live")
    devtools = ada.devtools()
    ada.choose(short_clip)
    expect(ada.badge("short")).to_have_text(re.compile("Processing|Playable"))
    cut(devtools)
    cut_at = time.monotonic()
    expect(link).not_to_have_attribute("data-link", "live")
    ada.page.wait_for_timeout(CUT_MS - 1000 * (time.monotonic() - cut_at))
    expect(link).not_to_have_attribute("data-link", "live")
    throttle(devtools, upload_bps=-1)
    expect(link).to_have_attribute("data-link", "live")
    expect(ada.badge("short")).to_have_text("Ready", timeout=PROCESSED_MS)


def test_upload_of_gigabytes_takes_no_memory(sign_up: SignUp, tmp_path: Path) -> None:
    film = tmp_path / "sparse.mp4"
    with film.open("wb") as file:
        file.truncate(4_000 * MIB)
    ada = sign_up()
    devtools = ada.devtools()
    devtools.send("Performance.enable")

    def heap_bytes() -> float:
        devtools.send("HeapProfiler.collectGarbage")
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        return next(float(metric["value"]) for metric in metrics if metric["name"] == "JSHeapUsedSize")

    before, resident_before = heap_bytes(), chromium_bytes()
    ada.choose(film)
    wait_for_share(ada.page, film.name, 0.08)
    assert heap_bytes() - before < 50 * MIB
    assert chromium_bytes() - resident_before < 200 * MIB  # buffers of bytes are outside the heap
    ada.page.get_by_role("button", name="Cancel sparse.mp4").click()
    ada.page.get_by_role("button", name="Cancel upload").click()
    expect(ada.upload_line(film.name)).to_have_count(0)
    expect(ada.page.get_by_role("heading", name="Your first video")).to_be_visible()
    film.unlink()


def test_files_are_dropped_anywhere_and_each_is_told_its_fate(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    page = ada.page
    page.goto("/settings")
    expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()  # it listens from here on
    transfer = page.evaluate_handle(
        """(clip) => {
          const transfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(clip), (char) => char.charCodeAt(0));
          transfer.items.add(new File([bytes], "dropped.mp4", { type: "video/mp4" }));
          transfer.items.add(new File(["words"], "notes.txt", { type: "text/plain" }));
          transfer.items.add(new File([], "empty.mp4", { type: "video/mp4" }));
          return transfer;
        }""",
        base64.b64encode(short_clip.read_bytes()).decode(),
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    expect(page.get_by_text("Drop to upload")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.get_by_text("Drop to upload")).to_have_count(0)
    expect(ada.upload_line("notes.txt")).to_contain_text("is not a video or a sound")
    expect(ada.upload_line("empty.mp4")).to_contain_text("The file is empty.")
    expect(ada.upload_line("dropped.mp4")).to_contain_text("Uploaded")
    page.goto("/dashboard")
    expect(page.get_by_role("article")).to_have_count(1)


def test_an_upload_that_another_browser_began_goes_on_with_the_same_file_only(
    sign_up: SignUp, short_clip: Path, tmp_path: Path
) -> None:
    ada = sign_up()
    size = short_clip.stat().st_size
    body = {"filename": short_clip.name, "contentType": "video/mp4", "sizeBytes": size}
    ada.api().call("POST", "/api/v1/videos/signed-upload-url", expect=201, json=body)
    ada.page.reload()
    other = padded(short_clip, tmp_path / short_clip.name, size + 9)
    ada.choose(other, button=f"Continue the upload of {short_clip.name}")
    expect(ada.page.get_by_text("This is another file", exact=True)).to_be_visible()
    ada.choose(short_clip, button=f"Continue the upload of {short_clip.name}")
    expect_uploaded(ada, short_clip.name)
    expect(ada.page.get_by_role("article")).to_have_count(1)
    expect(ada.badge("short")).to_have_text("Ready", timeout=PROCESSED_MS)


def test_files_that_are_chosen_without_a_network_go_when_it_is_back(sign_up: SignUp, short_clip: Path, tmp_path: Path) -> None:
    films = [Path(shutil.copy(short_clip, tmp_path / f"film-{number}.mp4")) for number in range(5)]
    ada = sign_up()
    ada.guard.allow(CUT)
    devtools = ada.devtools()
    cut(devtools)
    ada.choose(*films)
    expect(ada.upload_line(films[0].name)).to_contain_text("Waiting for the network")
    expect(ada.upload_line(films[4].name)).to_contain_text("Waits for the uploads before it")
    throttle(devtools, upload_bps=-1)
    for film in films:
        expect_uploaded(ada, film.name)
    expect(ada.page.get_by_role("article")).to_have_count(5)


def test_pausing_while_it_begins_makes_one_video(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    ada.guard.allow(r"status of 409")  # the second request waits for the answer of the first
    held: list[Route] = []
    ada.page.route("**/signed-upload-url", lambda route: held.append(route))
    ada.choose(short_clip)
    line = ada.upload_line(short_clip.name)
    with ada.page.expect_request("**/signed-upload-url"):
        line.get_by_role("button", name="Pause").click()
        line.get_by_role("button", name="Resume").click()
    for route in held:
        route.continue_()
    ada.page.unroute("**/signed-upload-url")
    expect_uploaded(ada, short_clip.name)
    ada.page.reload()
    expect(ada.page.get_by_role("article")).to_have_count(1)


def test_what_one_person_uploads_the_next_at_the_same_browser_does_not_see(sign_up: SignUp, short_clip: Path, tmp_path: Path) -> None:
    film = padded(short_clip, tmp_path / "private.mp4", 24 * MIB)
    ada = sign_up()
    throttle(ada.devtools(), upload_bps=MIB)
    ada.choose(film)
    expect(ada.upload_line(film.name)).to_be_visible()
    first = ada.page
    ada.new_page("/settings")
    ada.page.get_by_role("button", name="Sign out", exact=True).click()
    expect(first.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    ada.page = first
    ada.sign_up("next-at-this-browser@example.org")
    expect(ada.upload_line(film.name)).to_have_count(0)
    expect(ada.page.get_by_text("Your first video")).to_be_visible()


def test_an_upload_pauses_and_goes_on_and_leaving_meanwhile_asks_first(
    sign_up: SignUp, short_clip: Path, tmp_path: Path
) -> None:
    film = padded(short_clip, tmp_path / "film.mp4", 24 * MIB)
    ada = sign_up()
    devtools = ada.devtools()
    throttle(devtools, upload_bps=4 * MIB)
    ada.choose(film)
    wait_for_share(ada.page, film.name, 0.2)
    asked: list[str] = []
    ada.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    with ada.page.expect_event("dialog"):
        ada.page.close(run_before_unload=True)
    assert asked == ["beforeunload"]
    line = ada.upload_line(film.name)
    line.get_by_role("button", name="Pause").click()
    expect(line).to_contain_text("Paused at")
    throttle(devtools, upload_bps=-1)
    paused = sent_share(ada.page, film.name)
    line.get_by_role("button", name="Resume").click()
    expect_uploaded(ada, film.name)
    assert 0.2 <= paused < 1


def test_without_a_websocket_the_page_asks_instead(sign_up: SignUp, short_clip: Path) -> None:
    ada = sign_up()
    ada.guard.allow(r"WebSocket")
    ada.page.route_web_socket(re.compile("/ws/jobs/status/"), lambda socket: socket.close(code=1013))
    ada.page.reload()
    expect(ada.page.locator("[data-link]")).to_have_attribute("data-link", "polling")
    ada.choose(short_clip)
    expect(ada.badge("short")).to_have_text("Ready", timeout=PROCESSED_MS)
    expect(ada.page.locator("[data-link]")).to_have_attribute("data-link", "polling")
