"""Tokens that try to be taken for something else (RFC 8725, section 2), beyond what ``test_tokens.py`` holds."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from joserfc import jws, jwt
from joserfc.jwk import OctKey

from echo_core.adapters.tokens import JwtTokens
from echo_core.application.realtime_access import RefusedError, authenticate
from echo_core.application.realtime_frames import ClientMessage
from echo_core.plugin_api.errors import AuthError
from tests.fakes.issuer import refused
from tests.fakes.realtime import ManualClock, MemoryTickets

SHARED = OctKey.import_key("shared secret of more than thirty-two bytes")
SUBJECT = UUID("9af17a39-12c3-43c8-9246-538d02dd14a8")


def part(value: object) -> str:
    return urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/etc/passwd",
        "file:///etc/passwd",
        "first' or '1'='1",
        "first\x00",
        "FIRST",
        "first ",
        "",
        "x" * 300,
        0,
        None,
        ["first"],
        {"first": True},
    ],
    ids=repr,
)
async def test_a_key_id_is_only_ever_compared(verifier: JwtTokens, issuer: Any, kid: object) -> None:
    _, payload, signature = issuer.token().split(".")
    assert await refused(verifier, f"{part({'alg': 'ES256', 'kid': kid})}.{payload}.{signature}") == "token_invalid"
    assert issuer.fetches <= 1


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": [str(SUBJECT)]},
        {"sub": {"id": str(SUBJECT)}},
        {"sub": True},
        {"sub": f"{SUBJECT} "},
        {"sub": f"{SUBJECT}\x00"},
        {"aud": {"authenticated": True}},
        {"aud": "authenticated other"},
        {"aud": ["AUTHENTICATED"]},
        {"iss": {"value": "https://issuer.example/auth/v1"}},
        {"role": {"authenticated": True}},
        {"role": "authenticated "},
        {"role": "AUTHENTICATED"},
        {"role": ""},
        {"exp": [4_000_000_000]},
        {"exp": "4000000000"},
        {"exp": -1},
        {"nbf": "now"},
        {"iat": {}},
    ],
    ids=str,
)
async def test_nested_or_nearly_right_claims_are_wrong(
    verifier: JwtTokens, issuer: Any, claims: dict[str, Any]
) -> None:
    assert await refused(verifier, issuer.token(**claims)) in {"token_invalid", "token_expired"}


async def test_a_token_that_brings_the_forgers_own_key_is_refused(
    verifier: JwtTokens, issuer: Any, make_key: Callable[..., Any]
) -> None:
    forgers = make_key("first")
    public = forgers.as_dict(private=False)
    for header in ({}, {"jwk": public}, {"jku": issuer.url}, {"x5u": issuer.url}, {"x5c": ["MIIB"], "jwk": public}):
        assert await refused(verifier, issuer.token(forgers, header=header)) == "token_invalid"


@pytest.mark.parametrize("role", ["service_role", "anon", "supabase_admin"])
async def test_keys_of_the_platform_are_no_users_though_the_same_secret_signs_them(
    shared: JwtTokens, issuer: Any, role: str
) -> None:
    assert await refused(shared, issuer.token(SHARED, role=role)) == "token_invalid"
    assert await refused(shared, issuer.token(SHARED, role=role, sub=None, aud=None)) == "token_invalid"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"ES256","kid":"first"}',
        b'{"alg":"ES256","alg":"none","kid":"first"}',
        b'{"alg":"ES256","kid":"first","b64":false,"crit":["b64"]}',
        b'{"alg":"ES256","kid":"first","enc":"A128GCM"}',
        b'{"ALG":"ES256","kid":"first"}',
        b'{"alg":["ES256"],"kid":"first"}',
        b'{"alg":"ES256 ","kid":"first"}',
        b'{"alg":"ES256","kid":"first","zip":"DEF"}',
    ],
    ids=range(8),
)
async def test_no_header_gets_around_the_signature(verifier: JwtTokens, issuer: Any, header: bytes) -> None:
    _, payload, signature = issuer.token().split(".")
    for end in (signature, "", part(b"\0" * 64)):
        assert await refused(verifier, f"{part(header)}.{payload}.{end}") == "token_invalid"


async def test_an_encrypted_or_doubled_token_is_none(verifier: JwtTokens, shared: JwtTokens, issuer: Any) -> None:
    token = issuer.token()
    for other in (f"{token}.x.y", f"{token}.{token}", f"{token}.", f" {token}", f"{token}\n", token.replace(".", "..")):
        assert await refused(verifier, other) == "token_invalid"
    inner = issuer.token(SHARED)
    nested = jws.serialize_compact({"alg": "HS256", "cty": "JWT"}, inner, SHARED)
    assert await refused(shared, nested) == "token_invalid"


async def test_the_last_of_doubled_claims_counts_and_only_under_a_good_signature(shared: JwtTokens) -> None:
    # Two parsers that disagree are the danger; there is one here.
    claims = json.loads(
        part_of := '{"iss":"https://issuer.example/auth/v1","aud":"authenticated","role":"authenticated",'
        f'"iat":1767225600,"exp":1767229200,"sub":"{SUBJECT}"}}'
    )
    assert claims["sub"] == str(SUBJECT)
    doubled = part_of.replace('"sub"', f'"sub":"{uuid4()}","sub"')
    token = jws.serialize_compact({"alg": "HS256"}, doubled, SHARED)
    assert (await shared.verify(token)).id == SUBJECT
    head, _, signature = token.split(".")
    assert await refused(shared, f"{head}.{part(part_of.encode())}.{signature}") == "token_invalid"


async def test_playback_tokens_and_bearer_tokens_are_not_each_other(verifier: JwtTokens, issuer: Any) -> None:
    video = uuid4()
    assert await refused(verifier, verifier.mint_playback(SUBJECT, video)) == "token_invalid"
    with pytest.raises(AuthError) as caught:
        verifier.verify_playback(issuer.token(sub=str(SUBJECT)), video)
    assert caught.value.code == "token_invalid"


async def test_a_flood_of_unknown_key_ids_delays_nobody_with_a_good_token(
    verifier: JwtTokens, issuer: Any, make_key: Callable[..., Any]
) -> None:
    await verifier.verify(issuer.token())
    issuer.clock.seconds += 61
    issuer.gate.clear()  # the issuer does not answer
    issuer.asked.clear()
    forgers = make_key("unknown")
    tokens = [issuer.token(forgers, header={"kid": f"unknown-{number}"}) for number in range(50)]
    flood = [asyncio.create_task(refused(verifier, token)) for token in tokens]
    await issuer.asked.wait()
    async with asyncio.timeout(30):
        await verifier.verify(issuer.token())
    assert not any(task.done() for task in flood)
    issuer.gate.set()
    assert set(await asyncio.gather(*flood)) == {"token_invalid"}
    assert issuer.fetches == 2


async def test_a_socket_takes_bearer_tokens_of_its_own_user_only(verifier: JwtTokens, issuer: Any) -> None:
    tickets = MemoryTickets(ManualClock())

    async def code(token: str) -> int:
        with pytest.raises(RefusedError) as caught:
            await authenticate(ClientMessage(type="auth", token=token), str(SUBJECT), tokens=verifier, tickets=tickets)
        return caught.value.close_code

    good = ClientMessage(type="auth", token=issuer.token(sub=str(SUBJECT)))
    assert (await authenticate(good, str(SUBJECT), tokens=verifier, tickets=tickets)).id == SUBJECT
    assert await code(issuer.token()) == 4403
    assert await code(verifier.mint_playback(SUBJECT, uuid4())) == 4401
    assert await code(issuer.token(sub=str(SUBJECT), role="service_role")) == 4401
    assert await code(issuer.token(sub=str(SUBJECT), exp=1)) == 4401
    forged = jwt.encode({"alg": "HS256"}, {"sub": str(SUBJECT)}, SHARED)
    assert await code(forged) == 4401
