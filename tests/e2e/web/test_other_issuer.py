"""The same application where somebody else keeps the users, as a Supabase project does: at another origin, with its keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import Instance, start_instance, stop_instance
from tests.e2e.web.browser import PATIENCE_MS, Guard, Person

pytestmark = pytest.mark.e2e

KEY = "sb_publishable_of_the_project"


@pytest.fixture
def tenant(instance: Instance, tmp_path: Path) -> Iterator[Instance]:
    """An Echo whose users sign in at the shared instance, which speaks Supabase's protocol."""
    running = start_instance(
        tmp_path / "echo",
        ECHO_AUTH__ISSUER=f"{instance.url}/auth/v1",
        ECHO_AUTH__JWKS_URL=f"{instance.url}/auth/v1/.well-known/jwks.json",
        ECHO_AUTH__ALGORITHMS='["ES256"]',
        ECHO_AUTH__PUBLISHABLE_KEY=KEY,
        ECHO_HTTP__CORS_ORIGINS="",
    )
    yield running
    stop_instance(running)


def test_people_sign_up_at_the_issuer_and_use_echo(
    tenant: Instance, instance: Instance, chromium: Browser, short_clip: Path
) -> None:
    assert httpx2.get(f"{tenant.url}/auth/v1/settings").status_code == 404  # its own identity stays off
    context = chromium.new_context(base_url=tenant.url)
    context.set_default_timeout(PATIENCE_MS)
    guard = Guard({tenant.url, instance.url})
    guard.watch(context)
    ada = Person(tenant, context, guard, context.new_page())
    keys: set[str] = set()
    ada.page.on("request", lambda request: keys.add(request.headers.get("apikey", "")))
    ada.sign_up("tenant@example.org")
    assert ada.session()["user"]["email"] == "tenant@example.org"
    expect(ada.page.locator("[data-link]")).to_have_attribute("data-link", "live")
    ada.choose(short_clip)
    expect(ada.row("short")).to_be_visible()
    ada.page.reload()
    expect(ada.row("short")).to_be_visible()
    assert keys == {KEY, ""}
    assert any(url.startswith(f"{instance.url}/auth/v1/signup") for url in guard.urls)
    context.close()
    guard.check()
