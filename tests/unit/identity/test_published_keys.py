from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.errors import SecurityWarning
from joserfc.jwk import RSAKey

from echo_core.adapters import jwks
from echo_core.adapters.tokens import JwtTokens
from echo_core.plugin_api.errors import UnavailableError
from tests.fakes.issuer import refused

Open = Callable[..., Any]


class TestPublishedKeys:
    async def test_are_fetched_once_for_many_tokens(self, verifier: JwtTokens, issuer: Any) -> None:
        await asyncio.gather(*(verifier.verify(issuer.token()) for _ in range(10)))
        assert issuer.fetches == 1

    async def test_unknown_key_ids_cause_one_fetch(self, verifier: JwtTokens, issuer: Any, make_key: Any) -> None:
        await verifier.verify(issuer.token())
        issuer.clock.seconds += 60
        for number in range(20):
            assert await refused(verifier, issuer.token(make_key(f"unknown-{number}"))) == "token_invalid"
        assert issuer.fetches == 2

    async def test_unknown_key_ids_at_once_cause_one_fetch(
        self, verifier: JwtTokens, issuer: Any, make_key: Any
    ) -> None:
        await verifier.verify(issuer.token())
        issuer.clock.seconds += 60
        forged = [issuer.token(make_key(f"unknown-{number}")) for number in range(10)]
        assert set(await asyncio.gather(*(refused(verifier, token) for token in forged))) == {"token_invalid"}
        assert issuer.fetches == 2

    async def test_unknown_key_id_right_after_a_fetch_waits(
        self, verifier: JwtTokens, issuer: Any, make_key: Any
    ) -> None:
        await verifier.verify(issuer.token())
        issuer.keys.append(make_key("second"))
        issuer.clock.seconds += 59
        assert await refused(verifier, issuer.token(issuer.keys[1])) == "token_invalid"
        issuer.clock.seconds += 1
        await verifier.verify(issuer.token(issuer.keys[1]))
        assert issuer.fetches == 2

    async def test_withdrawn_key_vouches_for_nobody_once_that_is_known(
        self, verifier: JwtTokens, issuer: Any, make_key: Any
    ) -> None:
        stale = issuer.token()
        await verifier.verify(issuer.token())
        issuer.clock.seconds += 30
        await verifier.verify(stale)  # kept for a minute from here
        issuer.keys = [make_key("second")]
        issuer.clock.seconds += 30
        await verifier.verify(issuer.token())
        assert await refused(verifier, stale) == "token_invalid"

    async def test_old_set_is_refreshed_behind_the_caller(self, verifier: JwtTokens, issuer: Any) -> None:
        token = issuer.token()
        await verifier.verify(token)
        issuer.clock.seconds += jwks.MAX_AGE_S + 1
        issuer.gate.clear()
        await verifier.verify(token)  # answers though the issuer does not
        issuer.gate.set()
        await verifier._keys._flight  # type: ignore[union-attr,misc]
        assert issuer.fetches == 2

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            ("500 Oops", b"{}"),
            ("302 Found", b""),
            ("200 OK", b"<html>"),
            ("200 OK", b"[]"),
            ("200 OK", b'{"keys": 3}'),
            ("200 OK", b'{"keys": []}'),
            ("200 OK", b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]}'),
            (
                "200 OK",
                b'{"keys": [{"kty": "EC", "kid": "first"}, 7, {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "x"}]}',
            ),
            ("200 OK", b"[" * 100_000),
            ("200 OK", b" " * (jwks.MAX_JWKS_BYTES + 1)),
            ("200 OK", b"\xff\xfe\xfd"),
        ],
        ids=range(11),
    )
    async def test_that_cannot_be_had_are_unavailable_then_kept(
        self, verifier: JwtTokens, issuer: Any, make_key: Any, status: str, body: bytes
    ) -> None:
        issuer.status, issuer.body, issuer.headers = status, body, "Location: http://127.0.0.1:1/\r\n"
        with pytest.raises(UnavailableError) as caught:
            await verifier.verify(issuer.token())
        assert caught.value.code == "identity_unavailable"
        assert caught.value.retryable
        issuer.status, issuer.body = "200 OK", None
        issuer.clock.seconds += jwks.EMPTY_REFETCH_S
        await verifier.verify(issuer.token())
        issuer.status, issuer.body = status, body
        issuer.clock.seconds += 60
        assert await refused(verifier, issuer.token(make_key("unknown"))) == "token_invalid"
        await verifier.verify(issuer.token())
        assert issuer.fetches == 3

    async def test_of_an_issuer_that_is_down(self, opened: Open, issuer: Any) -> None:
        verifier = await opened(jwks_url="http://127.0.0.1:1/jwks.json")
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await verifier.verify(issuer.token())

    async def test_of_an_issuer_that_hangs(
        self, verifier: JwtTokens, issuer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.05)
        issuer.gate.clear()
        with pytest.raises(UnavailableError):
            await verifier.verify(issuer.token())
        issuer.gate.set()

    async def test_fetch_survives_the_caller_that_began_it(self, verifier: JwtTokens, issuer: Any) -> None:
        issuer.gate.clear()
        first = asyncio.create_task(verifier.verify(issuer.token()))
        second = asyncio.create_task(verifier.verify(issuer.token()))
        await issuer.asked.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        issuer.gate.set()
        await second
        assert issuer.fetches == 1

    async def test_more_than_a_set_of_keys_needs_is_not_read(self, verifier: JwtTokens, issuer: Any) -> None:
        issuer.body = json.dumps({"keys": [issuer.keys[0].as_dict(private=False)]}).encode()
        issuer.body += b" " * jwks.MAX_JWKS_BYTES
        with pytest.raises(UnavailableError):
            await verifier.verify(issuer.token())

    async def test_weak_keys_are_left_out(self, verifier: JwtTokens, issuer: Any) -> None:
        with warnings.catch_warnings(category=SecurityWarning, action="ignore"):
            weak = RSAKey.generate_key(1024, {"kid": "weak"})
            issuer.keys.append(weak)
            forged = issuer.token(weak)
            await verifier.verify(issuer.token())
            assert await refused(verifier, forged) == "token_invalid"

    async def test_unusable_entries_do_not_spoil_the_others(self, verifier: JwtTokens, issuer: Any) -> None:
        good = issuer.keys[0].as_dict(private=False)
        odd: list[Any] = [3, {}, {"kty": "oct", "k": "eA", "kid": "first"}, {"kty": "EC", "crv": "P-256", "kid": "b"}]
        issuer.body = json.dumps({"keys": [*odd, {**good, "use": "enc"}, good]}).encode()
        await verifier.verify(issuer.token())
