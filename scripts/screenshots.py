"""Pictures of every page of a running Echo: light, dark and on a phone.

    make screenshots              a set for the README, from the Echo at http://127.0.0.1:8000
    make screenshots ALL=DIR      every page in every look, into DIR

It signs up a person of its own through the browser and uploads films that ffmpeg makes, so what is shown is the product
and nothing else.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

FILMS = {
    "A walk along the coast": "gradients=s=1280x720:r=25:c0=0x0b3954:c1=0xff6663:c2=0xbfd7ea:c3=0xe0ff4f:n=4",
    "Deep zoom": "mandelbrot=s=1280x720:r=25:end_scale=0.02:end_pts=300",
    "Interview, second take": "gradients=s=1280x720:r=25:c0=0x2d1e2f:c1=0xf7b32b:c2=0xa9e5bb:n=3:speed=0.03",
    "Cells": "life=s=320x180:r=25:mold=10:life_color=0xff8a65:death_color=0x5b2333,scale=1280:-2:flags=neighbor",
}
MAIN = "Deep zoom"
SECONDS = 24
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
README_SET = ("dashboard", "dashboard-dark", "dashboard-phone", "job", "video", "video-dark")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--url", default="http://127.0.0.1:8000")
    arguments.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments.add_argument("--all", type=Path, help="every page in every look, into this directory")
    options = arguments.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium is missing: run 'make system-packages'.")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        films = [make_film(Path(scratch), title, source) for title, source in FILMS.items()]
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        if options.all:
            take(browser, options.url, films, options.all, everything=True)
        else:
            take(browser, options.url, films, options.out, everything=False)
        browser.close()


def make_film(directory: Path, title: str, source: str) -> Path:
    path = directory / f"{title}.mp4"
    subprocess.run(
        [
            "ffmpeg", "-nostdin", "-v", "error", "-y",
            "-f", "lavfi", "-i", source, "-f", "lavfi", "-i", "sine=frequency=220:sample_rate=48000",
            "-t", str(SECONDS), "-c:v", "libx264", "-preset", "veryfast", "-g", "50", "-pix_fmt", "yuv420p",
            "-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart", str(path),
        ],
        check=True,
    )  # fmt: skip
    return path


def take(browser: Browser, url: str, films: list[Path], out: Path, *, everything: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport=DESKTOP, color_scheme="light")
    page = context.new_page()

    def shoot(name: str, *, look: Callable[[], None] = lambda: None) -> None:
        for suffix, size, scheme in (("", DESKTOP, "light"), ("-dark", DESKTOP, "dark"), ("-phone", PHONE, "light")):
            if not everything and name + suffix not in README_SET:
                continue
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            look()
            page.wait_for_timeout(400)  # transitions
            path = out / f"{name}{suffix}.jpg"
            page.screenshot(path=path, type="jpeg", quality=85, full_page=everything)
            print(path)
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
        page.emulate_media(color_scheme="light")

    page.goto(f"{url}/login")
    page.get_by_role("button", name="Sign in").wait_for()
    shoot("login")
    sign_up(page, url)
    page.get_by_text("Your first video").wait_for()
    shoot("empty")

    page.locator("header input[type=file]").set_input_files(films)
    page.get_by_role("link", name=MAIN, exact=True).wait_for()
    page.wait_for_timeout(1500)
    shoot("uploading")
    page.get_by_role("link", name=MAIN, exact=True).click()
    page.get_by_role("link", name="Every step").click()
    page.wait_for_url("**/jobs/**")
    page.locator("[data-step=ladder][data-state=running], [data-step=ladder][data-state=succeeded]").wait_for(
        timeout=120_000
    )
    page.wait_for_timeout(1500)
    shoot("job")
    page.get_by_role("link", name="Echo, my videos").click()
    wait_until(lambda: page.locator("article img").count() == len(films))
    shoot("dashboard")

    page.get_by_role("link", name=MAIN, exact=True).click()
    page.get_by_text("Ready", exact=True).first.wait_for(timeout=300_000)
    page.get_by_label("Description").fill("Twenty seconds into the same curve, and it never repeats.")
    page.get_by_label("Unlisted").check()
    page.get_by_label("Tags").fill("mathematics, fractal,")
    for at, chapter in (("0:00", "From afar"), ("0:08", "The edge"), ("0:16", "Seahorses")):
        page.get_by_role("button", name="Add a chapter").click()
        number = page.get_by_label("Title of chapter").count()
        page.get_by_label(f"Start of chapter {number}").fill(at)
        page.get_by_label(f"Title of chapter {number}").fill(chapter)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Dismiss", exact=True).click()
    link = page.get_by_label("Link", exact=True).input_value()
    page.reload()
    page.get_by_role("button", name="Play", exact=True).first.click()
    wait_until(lambda: playing_for(page) > 6)
    page.get_by_role("button", name="Pause", exact=True).last.click()

    def point() -> None:
        slider = page.get_by_role("slider", name="Position").bounding_box()
        if slider:
            page.mouse.move(slider["x"] + slider["width"] * 0.62, slider["y"] + slider["height"] / 2)
            page.wait_for_timeout(700)

    shoot("video", look=point)
    page.goto(f"{url}/settings")
    page.get_by_text("transcode_ffmpeg").wait_for()
    shoot("settings")
    page.goto(link)
    page.get_by_role("button", name="Play", exact=True).first.click()
    wait_until(lambda: playing_for(page) > 12)
    page.get_by_role("button", name="Pause", exact=True).last.click()
    shoot("watch")
    context.close()


def sign_up(page: Page, url: str) -> None:
    page.goto(f"{url}/signup")
    page.get_by_label("E-mail address").fill(f"you-{secrets.token_hex(3)}@example.org")
    page.get_by_label("Password", exact=True).fill(secrets.token_urlsafe(16))
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url("**/dashboard")


def playing_for(page: Page) -> float:
    return float(page.evaluate("document.querySelector('video').currentTime"))


def wait_until(found: Callable[[], bool], deadline_s: float = 300) -> None:
    end = time.monotonic() + deadline_s
    while not found():
        if time.monotonic() > end:
            sys.exit("Echo did not come so far; look at its log.")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
