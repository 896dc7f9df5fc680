"""A Chromium for all journeys, and a fresh browser profile for every person in them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.conftest import Clips, Instance
from tests.e2e.web.browser import PATIENCE_MS, Guard, Person

_numbers = itertools.count(1)


@pytest.fixture(scope="package")  # not the session: its event loop would be in the way of other folders' async tests
def chromium() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert executable, "Chromium is missing: run 'make system-packages'"
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        yield browser
        browser.close()


Visit = Callable[..., Person]
SignUp = Callable[..., Person]


@pytest.fixture
def other_origins() -> frozenset[str]:
    """To whom a browser may speak beside Echo."""
    return frozenset()


@pytest.fixture
def visit(chromium: Browser, instance: Instance, other_origins: frozenset[str]) -> Iterator[Visit]:
    """Somebody without a session; the arguments are those of ``Browser.new_context``."""
    people: list[Person] = []

    def come(**look: Any) -> Person:
        context = chromium.new_context(base_url=instance.url, **look)
        context.set_default_timeout(PATIENCE_MS)
        guard = Guard({instance.url, *other_origins})
        guard.watch(context)
        people.append(Person(instance, context, guard, context.new_page()))
        return people[-1]

    yield come
    for person in people:
        person.context.close()
    for person in people:
        person.guard.check()


@pytest.fixture
def sign_up(visit: Visit) -> SignUp:
    """Somebody who has just signed up, in the browser, and looks at the empty list."""

    def come(name: str = "ada", **look: Any) -> Person:
        person = visit(**look)
        person.sign_up(f"{name}-{next(_numbers)}@example.org")
        return person

    return come


@pytest.fixture(scope="session")
def short_clip(clips: Clips) -> Path:
    """Four seconds, processed in as many."""
    return clips.make("short.mp4", seconds=4, size="320x180")
