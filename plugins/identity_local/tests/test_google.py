"""Signing in with a provider, against one on loopback that signs and checks as Google does. Long, because one flow's
refusals are looked up in one place."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx2
import pytest
from echo_identity_local import oidc, store
from echo_identity_local.routes import _BrowserCookie
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tests.fakes.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, running_provider

pytestmark = pytest.mark.integration

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@pytest.fixture
def provider(clock: Any) -> Iterator[OpenIdProvider]:
    with running_provider(lambda: clock.now().timestamp()) as running:
        yield running


@dataclass
class Browser:
    """Cookies and addresses, as a browser keeps and follows them."""

    served: Any
    http: httpx2.AsyncClient

    @property
    def home(self) -> str:
        return str(self.served.http.base_url).removesuffix("/auth/v1/")

    async def go(self, url: str) -> str:
        """Where that address redirects to."""
        response = await self.http.get(url)
        assert response.status_code == 302, response.text
        return response.headers["Location"]

    async def authorize(self, redirect_to: str = "", **changes: str) -> str:
        wanted = {
            "provider": "google",
            "redirect_to": redirect_to or f"{self.home}/app?tab=1",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "s256",
        } | changes
        query = httpx2.QueryParams({name: value for name, value in wanted.items() if value})
        return await self.go(f"{self.home}/auth/v1/authorize?{query}")

    async def consent(self, redirect_to: str = "") -> str:
        """The address of the callback that the provider sends the browser to."""
        return await self.go(await self.authorize(redirect_to))

    async def sign_in(self, redirect_to: str = "") -> str:
        """Where the browser ends."""
        return await self.go(await self.consent(redirect_to))

    async def session(self) -> dict[str, Any]:
        """All the way."""
        return await self.exchange(told(await self.sign_in())["code"])

    async def exchange(self, code: str) -> dict[str, Any]:
        grant = {"auth_code": code, "code_verifier": VERIFIER}
        response = await self.served.post("/token?grant_type=pkce", grant)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


@asynccontextmanager
async def browsing(served: Any) -> AsyncIterator[Browser]:
    async with httpx2.AsyncClient(trust_env=False, timeout=30, follow_redirects=False) as http:
        yield Browser(served, http)


@pytest.fixture
def google(provider: OpenIdProvider) -> dict[str, Any]:
    return {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "issuer": provider.issuer}


@pytest.fixture
async def browser(serve_identity: Any, google: Any) -> AsyncIterator[Browser]:
    async with serve_identity(google=google) as served, browsing(served) as opened:
        yield opened


def told(url: str) -> dict[str, str]:
    """The query of an address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items()}


def refused(url: str) -> tuple[str, str]:
    """The error and its code, which the query and the fragment tell alike."""
    parts = urlsplit(url)
    query, fragment = told(url), parse_qs(parts.fragment, keep_blank_values=True)
    assert fragment.pop("sb") == [""]
    assert {name: values[0] for name, values in fragment.items()} == {
        name: query[name] for name in ("error", "error_code", "error_description")
    }
    assert "code" not in query
    return query["error"], query["error_code"]


async def test_it_signs_up_and_in(browser: Browser, provider: OpenIdProvider) -> None:
    end = await browser.sign_in()
    code = told(end).pop("code")
    assert end == f"{browser.home}/app?tab=1&code={code}"
    UUID(code)
    session = await browser.exchange(code)
    user = session["user"]
    assert user["email"] == "ada@example.org"
    assert user["app_metadata"] == {"provider": "google", "providers": ["google"]}
    assert user["user_metadata"]["full_name"] == "Ada L."
    assert user["user_metadata"]["avatar_url"] == "https://pictures.example/ada.png"
    (identity,) = user["identities"]
    assert (identity["provider"], identity["id"], identity["email"]) == ("google", "1001", "ada@example.org")
    assert (identity["user_id"], identity["identity_data"]["sub"]) == (user["id"], "1001")
    UUID(identity["identity_id"])
    claims = jwt.decode(session["access_token"], _keys(browser), algorithms=["ES256"]).claims
    assert claims["amr"][0]["method"] == "oauth"
    assert (await browser.served.user(session["access_token"])).json()["identities"] == [identity]
    assert (await browser.served.refresh(session["refresh_token"])).json()["user"]["identities"] == [identity]

    provider.consents("1001", "ada.new@example.org")
    again = (await browser.session())["user"]
    assert (again["id"], again["email"]) == (user["id"], "ada@example.org")
    assert again["identities"][0]["email"] == "ada.new@example.org"


def _keys(browser: Browser) -> Any:
    return KeySet.import_key_set(browser.served.identity.public_keys())


async def test_the_settings_tell_whether_it_is_on(browser: Browser, serve_identity: Any) -> None:
    settings = (await browser.served.http.get("/settings")).json()
    assert settings["external"]["google"] is True
    async with serve_identity() as off:
        assert (await off.http.get("/settings")).json()["external"]["google"] is False


async def test_a_provider_that_is_off_is_refused(serve_identity: Any, browser: Browser) -> None:
    wanted = {"redirect_to": "https://evil.example", "code_challenge": CHALLENGE, "code_challenge_method": "s256"}
    async with serve_identity() as off:
        answers = [await off.http.get("/authorize", params={"provider": "google", **wanted})]
        answers.append(await off.http.get("/callback?code=x&state=y"))
    answers.append(await browser.served.http.get("/authorize", params={"provider": "github", **wanted}))
    answers.append(await browser.served.http.get("/authorize"))
    for answer in answers:
        assert (answer.status_code, answer.json()["error_code"]) == (400, "validation_failed")


async def test_the_provider_is_asked_with_state_nonce_and_a_challenge_of_our_own(
    browser: Browser, provider: OpenIdProvider
) -> None:
    for _ in range(2):
        await browser.consent()
    first, second = provider.asked
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) >= 43
        assert first[name] != second[name]
    assert first["code_challenge"] != CHALLENGE
    assert first["redirect_uri"] == f"{browser.home}/auth/v1/callback"
    assert "client_secret" not in first


async def test_the_cookie_is_for_the_routes_only_and_short_lived(browser: Browser) -> None:
    await browser.authorize()
    response = await browser.http.get(f"{browser.home}/auth/v1/authorize?provider=google&code_challenge={CHALLENGE}")
    assert "Set-Cookie" not in response.headers  # refused: no method
    query = f"provider=google&code_challenge={CHALLENGE}&code_challenge_method=S256"
    response = await browser.http.get(f"{browser.home}/auth/v1/authorize?{query}")
    cookie = response.headers["Set-Cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=lax", "path=/auth/v1", "max-age=600"))
    assert (response.headers["Cache-Control"], response.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert len(browser.http.cookies) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": ""},
        {"code_challenge": "short"},
        {"code_challenge": "x" * 129},
        {"code_challenge": "é" * 43},
        {"code_challenge_method": ""},
        {"code_challenge_method": "plain"},
    ],
)
async def test_only_the_pkce_flow_is_served(browser: Browser, changes: dict[str, str]) -> None:
    end = await browser.authorize(**changes)
    assert end.startswith(f"{browser.home}/app?tab=1&error=")
    assert refused(end) == ("invalid_request", "validation_failed")


@pytest.mark.parametrize("error", ["access_denied", "server_error", "something_else"])
async def test_what_the_provider_refuses_is_told(browser: Browser, provider: OpenIdProvider, error: str) -> None:
    provider.refuses = error
    end = await browser.sign_in()
    assert end.startswith(f"{browser.home}/app?tab=1&error=")
    expected = {
        "access_denied": ("access_denied", "access_denied"),
        "server_error": ("temporarily_unavailable", "unexpected_failure"),
        "something_else": ("invalid_request", "bad_oauth_callback"),
    }
    assert refused(end) == expected[error]
    assert "not what is shown" not in told(end)["error_description"]
    assert provider.exchanges == 0


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": "another-client", "azp": CLIENT_ID},
        {"aud": None},
        {"aud": [CLIENT_ID, "another-client"]},  # without "azp"
        {"azp": "another-client"},
        {"iss": "https://accounts.google.com"},
        {"iss": None},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"iat": 4_000_000_000},
        {"sub": None},
        {"sub": ""},
        {"sub": 1001},
        {"sub": "1" * 256},
        {"at_hash": "of another token"},
    ],
    ids=str,
)
async def test_an_id_token_that_says_anything_else_is_refused(
    browser: Browser, provider: OpenIdProvider, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    assert refused(await browser.sign_in()) == ("invalid_request", "bad_oauth_callback")
    assert await browser.served.identity.list_users() == []


async def test_an_id_token_that_has_expired_is_refused_after_the_leeway(
    browser: Browser, provider: OpenIdProvider, clock: Any
) -> None:
    now = int(clock.now().timestamp())
    provider.claims = {"exp": now - oidc.LEEWAY_S - 1}
    assert refused(await browser.sign_in()) == ("invalid_request", "bad_oauth_callback")
    provider.claims = {"exp": now - oidc.LEEWAY_S + 5}
    assert "code" in told(await browser.sign_in())


@pytest.mark.parametrize("kid", ["first", "second"])
async def test_a_signature_of_another_key_is_refused(browser: Browser, provider: OpenIdProvider, kid: str) -> None:
    provider.signs_with = RSAKey.generate_key(2048, {"kid": kid})
    assert refused(await browser.sign_in()) == ("invalid_request", "bad_oauth_callback")


@pytest.mark.parametrize("header", ['{"alg":"none"}', '{"alg":"HS256","kid":"first"}'])
async def test_a_token_without_the_providers_signature_is_refused(
    browser: Browser, provider: OpenIdProvider, clock: Any, header: str
) -> None:
    # An HMAC under the public key, which is known to all.
    claims = {"iss": provider.issuer, "aud": CLIENT_ID, "sub": "1001", "iat": 1, "exp": 4_000_000_000}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    head = base64.urlsafe_b64encode(header.encode()).decode().rstrip("=")
    signature = ""
    if "HS256" in header:
        pem = provider.key.as_pem(private=False)
        signature = base64.urlsafe_b64encode(hmac.digest(pem, f"{head}.{body}".encode(), "sha256")).decode().rstrip("=")
    provider.token_answer = JSONResponse({"access_token": "x", "id_token": f"{head}.{body}.{signature}"})
    assert refused(await browser.sign_in()) == ("invalid_request", "bad_oauth_callback")


async def test_a_key_that_is_new_at_the_provider_is_fetched(
    browser: Browser, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await browser.session()
    provider.key = RSAKey.generate_key(2048, {"kid": "second"})
    # At most once in a while, so that made-up tokens fetch nothing.
    assert refused(await browser.sign_in()) == ("invalid_request", "bad_oauth_callback")
    monkeypatch.setattr(oidc, "MIN_REFETCH_S", -1.0)
    await browser.session()


async def test_the_secret_is_sent_the_way_the_provider_prefers(browser: Browser, provider: OpenIdProvider) -> None:
    provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"]}
    await browser.session()


def test_with_tls_the_cookie_is_bound_to_it() -> None:
    cookie, response = _BrowserCookie("https://video.example/auth/v1"), Response()
    cookie.set(response, "x")
    assert response.headers["Set-Cookie"].startswith("__Secure-echo-sign-in=x;")
    assert "Secure" in response.headers["Set-Cookie"].split("; ")


async def test_a_callback_works_once(browser: Browser, provider: OpenIdProvider) -> None:
    callback = await browser.consent()
    assert "code" in told(await browser.go(callback))
    end = await browser.go(callback)
    assert refused(end) == ("invalid_request", "bad_oauth_state")
    assert end.startswith(f"{browser.home}?error=")
    assert provider.exchanges == 1


async def test_a_code_of_the_providers_works_once(browser: Browser, provider: OpenIdProvider) -> None:
    used = told(await browser.consent())["code"]
    callback = await browser.consent()
    await browser.go(callback)
    fresh = await browser.consent()
    mixed = fresh.replace(told(fresh)["code"], used)
    # It belongs to another verifier, and the provider says so.
    assert refused(await browser.go(mixed)) == ("invalid_request", "bad_oauth_callback")


@pytest.mark.parametrize("query", ["", "?code=x", "?state=&code=x", "?state=made-up&code=x", "?error=access_denied"])
async def test_a_state_that_nobody_was_given_is_refused(browser: Browser, provider: OpenIdProvider, query: str) -> None:
    await browser.authorize()
    end = await browser.go(f"{browser.home}/auth/v1/callback{query}")
    assert refused(end) == ("invalid_request", "bad_oauth_state")
    assert end.startswith(f"{browser.home}?error=")
    assert provider.exchanges == 0


async def test_nobody_is_signed_in_by_the_callback_of_somebody_else(browser: Browser, provider: OpenIdProvider) -> None:
    theirs = await browser.consent()
    async with browsing(browser.served) as victim:
        assert refused(await victim.go(theirs)) == ("invalid_request", "bad_oauth_state")
        await victim.authorize()
        assert refused(await victim.go(theirs)) == ("invalid_request", "bad_oauth_state")
    assert provider.exchanges == 0
    assert "code" in told(await browser.go(theirs))


async def test_two_tabs_can_sign_in_at_once(browser: Browser) -> None:
    first, second = await browser.consent(), await browser.consent()
    assert "code" in told(await browser.go(first))
    assert "code" in told(await browser.go(second))


async def test_somebody_who_takes_too_long_begins_again(browser: Browser, clock: Any) -> None:
    callback = await browser.consent()
    clock.advance(601)
    end = await browser.go(callback)
    assert refused(end) == ("invalid_request", "flow_state_expired")
    assert end.startswith(f"{browser.home}/app?tab=1&error=")
    await browser.consent()
    clock.advance(1201)
    await browser.consent()
    assert (await browser.served.run(f"select count(*) from {store.oauth_states.fullname}")).scalar() == 1


async def test_a_callback_without_a_code_is_refused(browser: Browser) -> None:
    callback = await browser.consent()
    end = await browser.go(callback.replace(f"code={told(callback)['code']}", "code="))
    assert refused(end) == ("invalid_request", "bad_oauth_callback")


@pytest.mark.parametrize("wanted", ["https://evil.example/", "https://app.example/input", "//evil.example", ""])
async def test_nobody_is_sent_to_a_page_that_is_not_on_the_list(serve_identity: Any, google: Any, wanted: str) -> None:
    pages = ["https://app.example/in"]
    async with serve_identity(google=google, redirect_urls=pages) as served, browsing(served) as browser:
        query = {"provider": "google", "code_challenge": CHALLENGE, "code_challenge_method": "s256"}
        begin = f"{browser.home}/auth/v1/authorize?{httpx2.QueryParams({**query, 'redirect_to': wanted})}"
        end = await browser.go(await browser.go(await browser.go(begin)))
        assert end == f"{browser.home}?code={told(end)['code']}"
        failed = await browser.go(begin.replace(CHALLENGE, "short"))
        assert failed.startswith(f"{browser.home}?error=")


async def test_a_page_of_the_list_is_returned_to(serve_identity: Any, google: Any) -> None:
    pages = ["https://app.example/in"]
    async with serve_identity(google=google, redirect_urls=pages) as served, browsing(served) as browser:
        end = await browser.sign_in("https://app.example/in?x=1#of=page")
        assert end == f"https://app.example/in?x=1&code={told(end)['code']}"


async def test_a_page_that_is_off_the_list_by_now_is_not_returned_to(serve_identity: Any, google: Any) -> None:
    pages = ["https://app.example/"]
    async with serve_identity(google=google, redirect_urls=pages) as served, browsing(served) as browser:
        callback = await browser.consent("https://app.example/in")
        served.identity.google._redirects._pages.clear()
        assert (await browser.go(callback)).startswith(f"{browser.home}?code=")


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_an_address_that_the_provider_has_not_verified_is_refused(
    browser: Browser, provider: OpenIdProvider, verified: Any
) -> None:
    provider.consents("1001", "ada@example.org", verified=verified)
    assert refused(await browser.sign_in()) == ("access_denied", "provider_email_needs_verification")
    provider.consents("1001", "")
    assert refused(await browser.sign_in()) == ("access_denied", "provider_email_needs_verification")
    assert await browser.served.identity.list_users() == []


async def test_an_address_that_is_none_is_refused(browser: Browser, provider: OpenIdProvider) -> None:
    provider.consents("1001", "no address")
    assert refused(await browser.sign_in()) == ("invalid_request", "validation_failed")


async def test_names_and_pictures_that_no_database_or_page_takes_are_left_out(
    browser: Browser, provider: OpenIdProvider
) -> None:
    provider.claims = {"name": "A\u0000da \u202e", "picture": "javascript:alert(1)"}
    metadata = (await browser.session())["user"]["user_metadata"]
    assert metadata["full_name"] == "Ada "
    assert "avatar_url" not in metadata
    provider.consents("1002", "bob@example.org")
    provider.claims = {"name": "x" * 5000, "picture": ["no text"]}
    assert "full_name" not in (await browser.session())["user"]["user_metadata"]


async def test_the_longest_name_and_picture_leave_room_in_tokens(browser: Browser, provider: OpenIdProvider) -> None:
    provider.consents("1" * 255, "a" * 242 + "@example.org")
    provider.claims = {"name": "\U0001f600" * 100, "picture": "https://" + "x" * 492}
    session = await browser.session()
    assert session["user"]["user_metadata"]["full_name"] == "\U0001f600" * 100
    assert len(session["access_token"]) < 6 * 1024  # the kernel takes 8 KiB
    answer = await browser.served.http.put(
        "/user", json={"data": {"city": "London"}}, headers={"Authorization": f"Bearer {session['access_token']}"}
    )
    assert answer.json()["user_metadata"]["city"] == "London"


async def test_who_squats_an_address_neither_gets_its_owners_account_nor_keeps_them_out(
    browser: Browser, password: str
) -> None:
    squatter = await browser.served.sign_up("ada@example.org")
    owner = await browser.session()
    assert owner["user"]["id"] != squatter["user"]["id"]
    assert [identity["provider"] for identity in owner["user"]["identities"]] == ["google"]
    # The other account is what it was: nothing of it was given to anybody, and nothing was taken.
    by_password = await browser.served.post(
        "/token?grant_type=password", {"email": "ada@example.org", "password": password}
    )
    assert by_password.json()["user"]["id"] == squatter["user"]["id"]
    assert (await browser.served.user(squatter["access_token"])).json()["identities"][0]["provider"] == "email"
    # From now on the address is taken, by whatever way.
    again = await browser.served.post("/signup", {"email": "ADA@example.org", "password": password})
    assert (again.status_code, again.json()["code"]) == (422, "user_already_exists")
    bob = await browser.served.sign_up("bob@example.org")
    moved = await browser.served.http.put(
        "/user", json={"email": "ada@example.org"}, headers={"Authorization": f"Bearer {bob['access_token']}"}
    )
    assert (moved.status_code, moved.json()["code"]) == (422, "email_exists")
    # The operator sees both, and means the owner.
    users = await browser.served.identity.list_users()
    assert [str(user.id) for user in users[:2]] == [owner["user"]["id"], squatter["user"]["id"]]
    found = await browser.served.identity.find_user("ada@example.org")
    assert str(found.id) == owner["user"]["id"]


async def test_who_moves_to_an_address_does_not_keep_its_owner_out(browser: Browser, provider: OpenIdProvider) -> None:
    # Somebody whose own address was verified gives themselves another one: that one is not.
    provider.consents("666", "eve@example.org")
    eve = await browser.session()
    moved = await browser.served.http.put(
        "/user", json={"email": "ada@example.org"}, headers={"Authorization": f"Bearer {eve['access_token']}"}
    )
    assert moved.status_code == 200
    provider.consents("1001", "ada@example.org")
    assert (await browser.session())["user"]["id"] != eve["user"]["id"]
    provider.consents("666", "eve@example.org")
    assert (await browser.session())["user"]["id"] == eve["user"]["id"]


async def test_nobody_moves_to_an_address_that_was_shown_to_be_anothers(browser: Browser) -> None:
    await browser.session()
    eve = await browser.served.sign_up("eve@example.org")
    moved = await browser.served.http.put(
        "/user", json={"email": "ada@example.org"}, headers={"Authorization": f"Bearer {eve['access_token']}"}
    )
    assert (moved.status_code, moved.json()["code"]) == (422, "email_exists")


async def test_passwords_of_two_users_of_one_address_are_told_apart(browser: Browser, password: str) -> None:
    first = await browser.served.sign_up("ada@example.org")
    owner = await browser.session()
    await browser.served.identity.set_password("ada@example.org", "the password of the owner")
    for given, expected in ((password, first), ("the password of the owner", owner)):
        grant = {"email": "ada@example.org", "password": given}
        session = await browser.served.post("/token?grant_type=password", grant)
        assert session.json()["user"]["id"] == expected["user"]["id"]


async def test_a_user_of_the_operators_is_linked(browser: Browser, provider: OpenIdProvider, password: str) -> None:
    made = await browser.served.identity.add_user("Ada@example.org", password)
    user = (await browser.session())["user"]
    assert user["id"] == str(made.id)
    assert user["app_metadata"] == {"provider": "email", "providers": ["email", "google"]}
    assert [identity["provider"] for identity in user["identities"]] == ["email", "google"]
    assert (await browser.session())["user"]["id"] == str(made.id)
    # Another account of the provider with that address, as when a company gives it to somebody new.
    provider.consents("1002", "ada@example.org")
    assert refused(await browser.sign_in()) == ("access_denied", "email_exists")


async def test_without_sign_up_only_users_of_the_operator_come_in(
    serve_identity: Any, google: Any, password: str
) -> None:
    async with serve_identity(google=google, sign_up=False) as served, browsing(served) as browser:
        assert refused(await browser.sign_in()) == ("access_denied", "signup_disabled")
        assert await served.identity.list_users() == []
        made = await served.identity.add_user("ada@example.org", password)
        assert (await browser.session())["user"]["id"] == str(made.id)


async def test_a_banned_user_gets_no_code(browser: Browser, password: str) -> None:
    await browser.served.identity.add_user("ada@example.org", password)
    await browser.served.run(f"update {store.users.fullname} set banned_until = '2100-01-01'")
    assert refused(await browser.sign_in()) == ("access_denied", "user_banned")
    await browser.served.run(f"update {store.users.fullname} set banned_until = null")
    await browser.session()
    await browser.served.run(f"update {store.users.fullname} set banned_until = '2100-01-01'")
    assert refused(await browser.sign_in()) == ("access_denied", "user_banned")


async def test_who_comes_for_the_first_time_twice_at_once_is_one_user(browser: Browser) -> None:
    callbacks = [await browser.consent() for _ in range(4)]
    ends = await asyncio.gather(*(browser.go(callback) for callback in callbacks))
    assert all("code" in told(end) for end in ends)
    assert len(await browser.served.identity.list_users()) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://another.example"},
        {"token_endpoint": "http://provider.example/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": ["no", "text"]},
    ],
    ids=str,
)
async def test_a_provider_that_describes_itself_badly_is_not_used(
    browser: Browser, provider: OpenIdProvider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    assert refused(await browser.authorize()) == ("temporarily_unavailable", "unexpected_failure")


async def test_a_provider_that_is_down_is_told_and_asked_again_later(
    serve_identity: Any, google: Any, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = {**google, "issuer": "http://127.0.0.1:1"}
    async with serve_identity(google=nowhere) as served, browsing(served) as browser:
        for _ in range(2):
            end = await browser.authorize()
            assert end.startswith(f"{browser.home}/app?tab=1&error=")
            assert refused(end) == ("temporarily_unavailable", "unexpected_failure")
        monkeypatch.setattr(oidc, "RETRY_S", -1.0)
        served.identity.google._provider.issuer = provider.issuer
        assert "code" in told(await browser.sign_in())


@pytest.mark.parametrize("status", [200, 302, 404, 500, 503])
async def test_an_answer_that_is_no_token_is_refused(browser: Browser, provider: OpenIdProvider, status: int) -> None:
    headers = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
    provider.token_answer = PlainTextResponse("an error page", status, headers)
    assert refused(await browser.sign_in()) == ("temporarily_unavailable", "unexpected_failure")


async def test_the_routes_are_throttled(serve_identity: Any, google: Any) -> None:
    async with serve_identity(google=google, address_tries_per_minute=3) as served, browsing(served) as browser:
        callback = await browser.consent()
        await browser.go(callback)
        await browser.authorize()
        for path in ("/authorize?provider=google", "/callback?state=x"):
            answer = await served.http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (429, "over_request_rate_limit")
            assert int(answer.headers["Retry-After"]) >= 1


async def test_nothing_secret_is_logged_or_stored(
    browser: Browser, provider: OpenIdProvider, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    callback = await browser.consent()
    end = await browser.go(callback)
    (cookie,) = browser.http.cookies.values()
    hidden = [*provider.secrets, told(callback)["state"], told(end)["code"], cookie, CLIENT_SECRET]
    rows = ""
    for table in (store.users, store.sessions, store.flow_states, store.identities, store.oauth_states):
        rows += str((await browser.served.run(f"select t::text from {table.fullname} t")).all())
    await browser.session()
    provider.signs_with = RSAKey.generate_key(2048, {"kid": "first"})
    refused(await browser.sign_in())
    out = capsys.readouterr()
    # Of the loggers, ours: the browser of this test writes down where it goes.
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("echo")]
    said = f"{ours}{out.out}{out.err}"
    assert "oauth.provider_failed" in said
    for secret in [*hidden, *provider.secrets]:
        assert secret not in rows
        assert secret not in said
