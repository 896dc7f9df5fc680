"""Sign-up, sign-in, refresh, changes and sign-out over HTTP, with the answers that Supabase Auth gives."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any
from uuid import UUID

import pytest
from echo_identity_local import store
from echo_identity_local.throttle import Throttle, address_key
from joserfc import jwt
from joserfc.jwk import KeySet

pytestmark = pytest.mark.integration


def told(response: Any) -> tuple[int, str]:
    assert response.headers["X-Supabase-Api-Version"] == "2024-01-01"
    body = response.json()
    assert body["code"] == body["error_code"] == response.headers["X-Sb-Error-Code"]
    assert body["message"] == body["msg"]
    return response.status_code, body["code"]


async def sign_in(served: Any, email: str, password: str) -> Any:
    return await served.post("/token?grant_type=password", {"email": email, "password": password})


async def test_sign_up_answers_with_a_session(served: Any) -> None:
    session = await served.sign_up("Ada@Example.org")
    assert session["token_type"] == "bearer"
    assert session["expires_in"] == 3600
    user = session["user"]
    assert (user["email"], user["user_metadata"], user["role"]) == ("ada@example.org", {"name": "Ada"}, "authenticated")
    keys = (await served.http.get("/.well-known/jwks.json")).json()
    (key,) = keys["keys"]
    assert "d" not in key
    token = jwt.decode(session["access_token"], KeySet.import_key_set(keys), algorithms=["ES256"])
    assert token.header["kid"] == key["kid"]
    claims = token.claims
    assert claims["iss"] == str(served.http.base_url).rstrip("/")
    assert (claims["sub"], claims["aud"], claims["role"]) == (user["id"], "authenticated", "authenticated")
    assert (claims["aal"], claims["is_anonymous"], claims["exp"] - claims["iat"]) == ("aal1", False, 3600)
    assert claims["amr"][0]["method"] == "password"
    UUID(claims["session_id"])


async def test_sign_up_refuses_a_taken_address_in_any_case(served: Any, password: str) -> None:
    await served.sign_up()
    again = await served.post("/signup", {"email": "ADA@example.org", "password": password})
    assert told(again) == (422, "user_already_exists")


async def test_only_one_of_two_sign_ups_at_the_same_moment_wins(served: Any, password: str) -> None:
    body = {"email": "ada@example.org", "password": password}
    answers = await asyncio.gather(*(served.post("/signup", body) for _ in range(4)))
    assert sorted(response.status_code for response in answers) == [200, 422, 422, 422]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"email": "ada@example.org", "password": "short"}, (422, "weak_password")),
        ({"email": "ada@example.org"}, (422, "weak_password")),
        ({"email": "ada@example.org", "password": "x" * 1025}, (422, "validation_failed")),
        ({"email": "no address", "password": "long enough"}, (400, "validation_failed")),
        ({"email": "a@b\u0000.org", "password": "long enough"}, (400, "validation_failed")),
        ({"email": 7, "password": "long enough"}, (400, "validation_failed")),
        ({"email": "a@b.org", "password": "long enough", "data": {"x": "y" * 4000}}, (422, "validation_failed")),
        ({"email": "a@b.org", "password": "long enough", "data": {"x": "\u0000"}}, (400, "validation_failed")),
        ([], (400, "validation_failed")),
    ],
)
async def test_sign_up_refuses_what_cannot_be_used(served: Any, body: Any, expected: tuple[int, str]) -> None:
    assert told(await served.post("/signup", body)) == expected


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"email": "\\ud800"}', b"[" * 50_000])
async def test_malformed_json_is_refused(served: Any, content: bytes) -> None:
    for path in ("/signup", "/token?grant_type=password", "/token?grant_type=pkce"):
        assert told(await served.http.post(path, content=content))[0] == 400


async def test_a_huge_body_is_refused(served: Any) -> None:
    response = await served.http.post("/signup", content=b" " * (65 * 1024))
    assert told(response) == (413, "request_too_large")


async def test_sign_up_can_be_switched_off(serve_identity: Any, password: str) -> None:
    async with serve_identity(sign_up=False) as served:
        refused = await served.post("/signup", {"email": "ada@example.org", "password": password})
        assert told(refused) == (422, "signup_disabled")
        assert (await served.http.get("/settings")).json()["disable_signup"] is True
        made = await served.identity.add_user("Ada@example.org", password)
        assert made.email == "ada@example.org"
        assert (await sign_in(served, "ada@example.org", password)).status_code == 200


async def test_known_and_unknown_addresses_get_the_same_refusal(served: Any, password: str) -> None:
    await served.sign_up()
    wrong = await sign_in(served, "ada@example.org", "wrong password")
    unknown = await sign_in(served, "eve@example.org", password)
    assert told(wrong) == told(unknown) == (400, "invalid_credentials")
    assert wrong.content == unknown.content
    right = await sign_in(served, "ADA@example.org", password)
    assert right.json()["user"]["email"] == "ada@example.org"


async def test_an_unknown_address_costs_the_same_work(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    real = served.identity._passwords._verify
    monkeypatch.setattr(
        served.identity._passwords, "_verify", lambda encoded, text: (checked.append(encoded), real(encoded, text))[1]
    )
    await sign_in(served, "nobody@example.org", "some password")
    (encoded,) = checked
    assert encoded.startswith("$argon2id$")


async def test_other_grants_are_refused(served: Any) -> None:
    assert (await served.post("/token?grant_type=magic", {})).status_code == 400
    assert (await served.post("/token", {})).status_code == 400


async def test_a_banned_user_gets_nothing(served: Any, password: str) -> None:
    session = await served.sign_up()
    await served.run(f"update {store.users.fullname} set banned_until = '2100-01-01'")
    assert told(await sign_in(served, "ada@example.org", password)) == (400, "user_banned")
    assert told(await served.refresh(session["refresh_token"])) == (400, "user_banned")
    assert told(await served.user(session["access_token"])) == (403, "user_banned")


async def test_refresh_rotates(served: Any) -> None:
    first = await served.sign_up()
    second = (await served.refresh(first["refresh_token"])).json()
    third = (await served.refresh(second["refresh_token"])).json()
    assert len({s["refresh_token"] for s in (first, second, third)}) == 3
    assert (await served.user(third["access_token"])).status_code == 200


async def test_the_parent_of_the_active_token_gets_the_active_one(served: Any) -> None:
    first = await served.sign_up()
    second = (await served.refresh(first["refresh_token"])).json()
    once_more = await served.refresh(first["refresh_token"])
    assert once_more.status_code == 200
    assert once_more.json()["refresh_token"] == second["refresh_token"]
    assert (await served.refresh(second["refresh_token"])).status_code == 200


async def test_refreshes_at_the_same_moment_all_stay_signed_in(served: Any) -> None:
    token = (await served.sign_up())["refresh_token"]
    answers = await asyncio.gather(*(served.refresh(token) for _ in range(8)))
    assert [response.status_code for response in answers] == [200] * 8
    assert len({response.json()["refresh_token"] for response in answers}) == 1


async def test_an_older_token_ends_the_session(served: Any) -> None:
    first = await served.sign_up()
    second = (await served.refresh(first["refresh_token"])).json()
    third = (await served.refresh(second["refresh_token"])).json()
    assert told(await served.refresh(first["refresh_token"])) == (400, "refresh_token_already_used")
    assert told(await served.refresh(third["refresh_token"])) == (400, "refresh_token_already_used")
    assert told(await served.user(third["access_token"])) == (403, "session_not_found")


async def test_an_unknown_refresh_token_is_refused(served: Any) -> None:
    assert told(await served.refresh("nothing")) == (400, "refresh_token_not_found")
    assert told(await served.refresh("")) == (400, "refresh_token_not_found")


async def test_no_refresh_token_and_no_password_is_stored(served: Any, password: str) -> None:
    session = await served.sign_up()
    for table in (store.users, store.sessions, store.refresh_tokens):
        rows = str((await served.run(f"select t::text from {table.fullname} t")).all())
        assert session["refresh_token"] not in rows
        assert password not in rows


@pytest.mark.parametrize("bearer", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
async def test_bad_bearers_are_refused(served: Any, bearer: str) -> None:
    assert told(await served.user(bearer)) == (403, "bad_jwt")


async def test_a_missing_bearer_is_refused(served: Any) -> None:
    assert told(await served.http.get("/user")) == (401, "no_authorization")


async def test_an_expired_token_is_refused(served: Any, clock: Any) -> None:
    session = await served.sign_up()
    clock.advance(3600 + 31)
    assert told(await served.user(session["access_token"])) == (403, "bad_jwt")
    assert (await served.refresh(session["refresh_token"])).status_code == 200


async def test_a_token_of_another_key_is_refused(served: Any) -> None:
    from echo_identity_local.signing import Signer

    session = await served.sign_up()
    claims = jwt.decode(
        session["access_token"], KeySet.import_key_set(served.identity.public_keys()), algorithms=["ES256"]
    ).claims
    context = served.context
    other = Signer(
        b"other", issuer=context.issuer, audience="authenticated", role="authenticated", now=context.clock.now
    )
    forged, _ = other.mint(claims, 3600)
    assert told(await served.user(forged)) == (403, "bad_jwt")


async def test_update_changes_data_address_and_password(served: Any, password: str) -> None:
    session = await served.sign_up()
    elsewhere = (await sign_in(served, "ada@example.org", password)).json()
    bearer = {"Authorization": f"Bearer {session['access_token']}"}

    async def put(body: Any) -> Any:
        return await served.http.put("/user", json=body, headers=bearer)

    changed = (await put({"data": {"name": None, "city": "London"}, "email": "Ada.L@example.org"})).json()
    assert (changed["user_metadata"], changed["email"]) == ({"city": "London"}, "ada.l@example.org")
    assert told(await put({"password": "short"})) == (422, "weak_password")
    assert told(await put({"password": password})) == (422, "same_password")
    assert (await put({"password": "another good one"})).status_code == 200
    assert (await served.user(session["access_token"])).status_code == 200
    assert told(await served.user(elsewhere["access_token"])) == (403, "session_not_found")
    assert (await sign_in(served, "ada.l@example.org", "another good one")).status_code == 200
    await served.sign_up("bob@example.org")
    assert told(await put({"email": "BOB@example.org"})) == (422, "email_exists")
    assert (await put({"app_metadata": {"admin": True}})).json()["app_metadata"] == {
        "provider": "email",
        "providers": ["email"],
    }


@pytest.mark.parametrize(("scope", "mine", "other"), [("global", 403, 403), ("local", 403, 200), ("others", 200, 403)])
async def test_sign_out_ends_what_its_scope_says(served: Any, password: str, scope: str, mine: int, other: int) -> None:
    here = await served.sign_up()
    there = (await sign_in(served, "ada@example.org", password)).json()
    stranger = await served.sign_up("bob@example.org")
    done = await served.post(f"/logout?scope={scope}", bearer=here["access_token"])
    assert (done.status_code, done.content) == (204, b"")
    assert (await served.user(here["access_token"])).status_code == mine
    assert (await served.user(there["access_token"])).status_code == other
    assert (await served.refresh(there["refresh_token"])).status_code == (200 if other == 200 else 400)
    assert (await served.user(stranger["access_token"])).json()["email"] == "bob@example.org"


async def test_sign_out_twice_and_with_a_strange_scope_is_refused(served: Any) -> None:
    session = await served.sign_up()
    strange = await served.post("/logout?scope=all", bearer=session["access_token"])
    assert told(strange) == (400, "validation_failed")
    await served.post("/logout", bearer=session["access_token"])
    again = await served.post("/logout", bearer=session["access_token"])
    assert told(again) == (403, "session_not_found")


async def flow(served: Any, verifier: str) -> str:
    user_id = UUID((await served.sign_up())["user"]["id"])
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    async with served.context.database.begin() as tx:
        await store.begin_flow(
            tx,
            code="the-code",
            user_id=user_id,
            method="oauth",
            challenge=challenge,
            challenge_method="s256",
            now=served.clock.now(),
        )
    return "the-code"


async def exchange(served: Any, code: str, verifier: str) -> Any:
    return await served.post("/token?grant_type=pkce", {"auth_code": code, "code_verifier": verifier})


async def test_a_code_is_exchanged_once(served: Any) -> None:
    code = await flow(served, "v" * 43)
    answers = await asyncio.gather(*(exchange(served, code, "v" * 43) for _ in range(3)))
    assert sorted(response.status_code for response in answers) == [200, 404, 404]
    assert told(await exchange(served, code, "v" * 43)) == (404, "flow_state_not_found")


async def test_a_code_needs_its_verifier_and_is_spent_by_a_wrong_one(served: Any) -> None:
    code = await flow(served, "v" * 43)
    assert told(await exchange(served, code, "w" * 43)) == (400, "bad_code_verifier")
    assert told(await exchange(served, code, "v" * 43)) == (404, "flow_state_not_found")


async def test_an_old_code_is_refused(served: Any, clock: Any) -> None:
    code = await flow(served, "v" * 43)
    clock.advance(301)
    assert told(await exchange(served, code, "v" * 43)) == (422, "flow_state_expired")


async def test_tries_of_an_account_are_limited_whether_it_exists_or_not(serve_identity: Any, password: str) -> None:
    async with serve_identity(account_tries_per_minute=3) as served:
        for email in ("known@example.org", "unknown@example.org"):
            if email.startswith("known"):
                await served.identity.add_user(email, password)
            answers = [await sign_in(served, email, "wrong password") for _ in range(4)]
            assert [response.status_code for response in answers] == [400, 400, 400, 429]
            assert told(answers[-1]) == (429, "over_request_rate_limit")
            assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20


async def test_tries_of_an_address_are_limited_over_all_accounts(serve_identity: Any) -> None:
    async with serve_identity(address_tries_per_minute=3) as served:
        answers = [await sign_in(served, f"user{n}@example.org", "wrong password") for n in range(4)]
        assert [response.status_code for response in answers] == [400, 400, 400, 429]


def test_a_throttle_refills_evenly() -> None:
    now = [0.0]
    throttle = Throttle(6, lambda: now[0])
    assert [throttle.take("a") for _ in range(7)] == [0] * 6 + [10]
    assert throttle.take("b") == 0
    now[0] = 10.5
    assert [throttle.take("a"), throttle.take("a")] == [0, 10]


def test_an_ipv6_subscriber_counts_as_one() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1") != address_key("2001:db8:0:1::1")
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert address_key("nonsense") == address_key(None) == "unknown"
