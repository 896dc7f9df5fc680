"""People at their browsers: what the journeys do again and again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, CDPSession, ConsoleMessage, Locator, Page, Request, WebError, expect

from tests.e2e.api import Api
from tests.e2e.conftest import Instance

PASSWORD = "correct horse battery"
PATIENCE_MS = 20_000
"""Longest wait for something that the page shows; the machine may be busy with other tests."""
PROCESSED_MS = 90_000
"""Longest wait for a short clip to be processed."""
NOT_FOUND = r"status of 404"
"""What the browser's console says of every 404, expected or not."""
CUT = r"net::ERR_INTERNET_DISCONNECTED|net::ERR_NETWORK_CHANGED|WebSocket connection to .* failed"
NOTHING_HERE = "There is nothing here"

_TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`Content-Security-Policy: ${event.violatedDirective} refuses ${event.blockedURI}`));
"""


@dataclass
class Guard:
    """Keeps what a context says and asks for. ``check`` fails on what no journey may cause unless it is allowed."""

    origins: set[str]
    allowed: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        context.add_init_script(_TELL_VIOLATIONS)
        context.on("console", self._take_line)
        context.on("weberror", self._take_error)
        context.on("request", self._take_request)
        context.on("page", lambda page: page.on("websocket", lambda socket: self._take_url(socket.url)))

    def allow(self, pattern: str) -> None:
        """Forgive console errors that match, before and after."""
        self.allowed.append(pattern)

    def check(self) -> None:
        left = [fault for fault in self.faults if not any(re.search(pattern, fault) for pattern in self.allowed)]
        assert not left, "\n".join(left)

    def _take_line(self, message: ConsoleMessage) -> None:
        self.lines.append(message.text)
        if message.type == "error":
            self.faults.append(f"console: {message.text} ({message.location['url']})")

    def _take_error(self, error: WebError) -> None:
        self.faults.append(f"uncaught: {error.error}")

    def _take_request(self, request: Request) -> None:
        self._take_url(request.url)

    def _take_url(self, url: str) -> None:
        self.urls.append(url)
        parts = urlsplit(url)
        if parts.scheme in {"data", "blob", "about"}:
            return
        origin = f"{parts.scheme.replace('ws', 'http', 1)}://{parts.netloc}"
        if origin not in self.origins:
            self.faults.append(f"asked another host: {url}")


@dataclass
class Person:
    """Somebody at a browser of their own."""

    instance: Instance
    context: BrowserContext
    guard: Guard
    page: Page
    email: str = ""

    def sign_up(self, email: str) -> None:
        self.email = email
        self.page.goto("/signup")
        self.page.get_by_label("E-mail address").fill(email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_role("button", name="Create account").click()
        self.expect_dashboard()

    def sign_in(self, email: str) -> None:
        self.email = email
        self.page.goto("/login")
        self.page.get_by_label("E-mail address").fill(email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.expect_dashboard()

    def expect_dashboard(self) -> None:
        expect(self.page.get_by_role("heading", name="My videos", level=1)).to_be_visible()

    def session(self) -> dict[str, Any]:
        """What supabase-js keeps of the session."""
        kept = self.page.evaluate(
            "() => Object.entries(localStorage).filter(([key]) => /^sb-.*-auth-token$/.test(key))"
        )
        assert len(kept) == 1, kept
        session: dict[str, Any] = json.loads(kept[0][1])
        return session

    def api(self) -> Api:
        """The same person as a program, for what a journey needs and does not show."""
        api = Api(self.instance.url, str(self.session()["access_token"]))
        self.instance.apis.append(api)
        return api

    def choose(self, *files: Path, button: str = "Upload videos") -> None:
        """Choose files in the picker that the button opens."""
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_role("button", name=button).click()
        chooser.value.set_files(list(files))

    def row(self, title: str) -> Locator:
        """The video's line in the list."""
        return self.page.get_by_role("article").filter(has=self.page.get_by_role("link", name=title, exact=True))

    def badge(self, title: str) -> Locator:
        """The status in the video's line."""
        return self.row(title).locator(":scope > span").last

    def upload_line(self, name: str) -> Locator:
        return self.page.locator(f'[data-upload="{name}"]')

    def open_video(self, title: str) -> str:
        """Open the video's page from the list; returns its id."""
        self.page.get_by_role("article").get_by_role("link", name=title, exact=True).click()
        expect(self.page.get_by_role("heading", name=title, level=1)).to_be_visible()
        return video_id_of(self.page)

    def new_page(self, path: str) -> Page:
        """Another tab of the same browser, which becomes this person's ``page``."""
        self.page = self.context.new_page()
        self.page.goto(path)
        return self.page

    def devtools(self) -> CDPSession:
        return self.context.new_cdp_session(self.page)


def video_id_of(page: Page) -> str:
    match = re.search(r"/video/([0-9a-f-]{36})", page.url)
    assert match, page.url
    return match[1]


def throttle(devtools: CDPSession, *, upload_bps: int) -> None:
    """Let so many bytes leave in a second, from now on or again."""
    _emulate(devtools, offline=False, upload_bps=upload_bps)


def cut(devtools: CDPSession) -> None:
    """Take the network away: what is under way is lost, open WebSockets fall silent."""
    _emulate(devtools, offline=True, upload_bps=-1)


def _emulate(devtools: CDPSession, *, offline: bool, upload_bps: int) -> None:
    devtools.send("Network.enable")
    devtools.send(
        "Network.emulateNetworkConditions",
        {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": upload_bps},
    )


def expect_nothing_here(page: Page) -> None:
    expect(page.get_by_role("heading", name=NOTHING_HERE)).to_be_visible()


def expect_status(page: Page, label: str) -> None:
    """The badge beside the title of the video's page."""
    expect(page.get_by_role("heading", level=1).locator("xpath=following-sibling::span")).to_have_text(
        label, timeout=PROCESSED_MS
    )
