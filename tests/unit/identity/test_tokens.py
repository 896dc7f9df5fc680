from __future__ import annotations

import asyncio
import hmac
import json
import math
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from pydantic import SecretStr

from echo_core.adapters import tokens
from echo_core.adapters.secrets import embedded_jwt_secret
from echo_core.adapters.settings import AuthSettings, HttpSettings, Settings
from echo_core.adapters.settings_errors import ConfigurationError
from echo_core.adapters.tokens import JwtTokens, issue_embedded_token, open_tokens
from echo_core.domain.ids import UserId
from echo_core.domain.users import User
from tests.fakes.issuer import ISSUER, refused

SECRET = b"s" * 32
SHARED = "shared secret of more than thirty-two bytes"

Open = Callable[..., Any]


class TestGoodTokens:
    async def test_es256(self, verifier: JwtTokens, issuer: Any) -> None:
        subject = uuid4()
        token = issuer.token(sub=str(subject), app_metadata={"plan": "pro"})
        user = await verifier.verify(token)
        assert (user.id, user.email) == (subject, "ada@example.com")
        assert user.claims["app_metadata"] == {"plan": "pro"}
        assert user.expires_at_s == issuer.clock.timestamp() + 3600

    async def test_rs256(self, verifier: JwtTokens, issuer: Any, make_key: Any) -> None:
        issuer.keys.append(make_key("rsa", RSAKey))
        await verifier.verify(issuer.token(issuer.keys[1]))

    async def test_hs256(self, shared: JwtTokens, issuer: Any) -> None:
        await shared.verify(issuer.token(OctKey.import_key(SHARED)))
        assert issuer.fetches == 0

    async def test_audience_in_a_list(self, verifier: JwtTokens, issuer: Any) -> None:
        await verifier.verify(issuer.token(aud=["other", "authenticated"]))

    @pytest.mark.parametrize("claims", [{"email": None}, {"email": 3}, {"email": ""}])
    async def test_without_a_mail_address(self, verifier: JwtTokens, issuer: Any, claims: dict[str, Any]) -> None:
        assert (await verifier.verify(issuer.token(**claims))).email == ""

    async def test_clocks_may_differ_by_the_leeway(self, verifier: JwtTokens, issuer: Any) -> None:
        now = issuer.clock.timestamp()
        await verifier.verify(issuer.token(iat=now + 29, nbf=now + 29))
        await verifier.verify(issuer.token(exp=now - 29))


class TestRefusedTokens:
    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": "other"},
            {"aud": ["other"]},
            {"aud": None},
            {"aud": []},
            {"iss": "https://evil.example/auth/v1"},
            {"iss": ISSUER + "/"},
            {"iss": None},
            {"iss": [ISSUER]},
            {"role": "service_role"},
            {"role": "anon"},
            {"role": None},
            {"role": ["authenticated", "service_role"]},
            {"sub": None},
            {"sub": ""},
            {"sub": "ada"},
            {"sub": "urn:uuid:9af17a39-12c3-43c8-9246-538d02dd14a8"},
            {"sub": "{9af17a39-12c3-43c8-9246-538d02dd14a8}"},
            {"sub": "9af17a3912c343c89246538d02dd14a8"},
            {"sub": 7},
            {"exp": None},
            {"exp": "tomorrow"},
            {"exp": True},
            {"exp": math.nan},
            {"exp": math.inf},
            {"exp": 10**400},
            {"iat": None},
            {"iat": 4_000_000_000},
            {"nbf": 4_000_000_000},
            {"user_metadata": {"note": "\x00"}},
            {"user_metadata": math.nan},
        ],
        ids=str,
    )
    async def test_by_their_claims(self, verifier: JwtTokens, issuer: Any, claims: dict[str, Any]) -> None:
        assert await refused(verifier, issuer.token(**claims)) == "token_invalid"

    async def test_expired(self, verifier: JwtTokens, issuer: Any) -> None:
        assert await refused(verifier, issuer.token(exp=issuer.clock.timestamp() - 31)) == "token_expired"

    async def test_an_expired_token_of_somebody_else_is_not_called_expired(
        self, verifier: JwtTokens, issuer: Any, make_key: Any
    ) -> None:
        forged = issuer.token(make_key("first"), exp=1)
        assert await refused(verifier, forged) == "token_invalid"

    @pytest.mark.parametrize("alg", ["none", "None", "", "HS256", "HS512", "RS512", "ES512", "EdDSA", None])
    async def test_by_their_algorithm_without_any_fetch(self, verifier: JwtTokens, issuer: Any, alg: Any) -> None:
        _, payload, signature = issuer.token().split(".")
        header = urlsafe_b64encode(json.dumps({"alg": alg, "kid": "first"}).encode()).rstrip(b"=").decode()
        assert await refused(verifier, f"{header}.{payload}.{signature}") == "token_invalid"
        assert await refused(verifier, f"{header}.{payload}.") == "token_invalid"
        assert issuer.fetches == 0

    async def test_a_public_key_is_no_shared_secret(self, verifier: JwtTokens, issuer: Any, make_key: Any) -> None:
        issuer.keys = [make_key("rsa", RSAKey)]
        for public in (
            issuer.keys[0].as_pem(private=False),
            json.dumps(issuer.keys[0].as_dict(private=False)).encode(),
        ):
            signed = hs256(public, issuer.token(issuer.keys[0]), kid="rsa")
            assert await refused(verifier, signed) == "token_invalid"

    async def test_algorithm_of_another_key(self, verifier: JwtTokens, issuer: Any, make_key: Any) -> None:
        issuer.keys = [make_key("ec"), make_key("rsa", RSAKey)]
        token = issuer.token(issuer.keys[1], header={"kid": "ec"})
        assert await refused(verifier, token) == "token_invalid"

    async def test_public_key_token_where_a_secret_is_configured(self, shared: JwtTokens, issuer: Any) -> None:
        assert await refused(shared, issuer.token()) == "token_invalid"

    async def test_other_secret(self, shared: JwtTokens, issuer: Any) -> None:
        assert await refused(shared, issuer.token(OctKey.import_key("o" * 40))) == "token_invalid"

    @pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
    async def test_that_bring_their_own_key(self, verifier: JwtTokens, issuer: Any, name: str) -> None:
        value: Any = {"jwk": issuer.keys[0].as_dict(private=False), "x5c": ["MIIB"]}.get(name, "https://evil.example/")
        assert await refused(verifier, issuer.token(header={name: value})) == "token_invalid"

    async def test_with_critical_headers(self, verifier: JwtTokens, issuer: Any) -> None:
        head, payload, signature = issuer.token().split(".")
        head = urlsafe_b64encode(b'{"alg":"ES256","kid":"first","crit":["x"],"x":1}').rstrip(b"=").decode()
        assert await refused(verifier, f"{head}.{payload}.{signature}") == "token_invalid"

    async def test_without_a_key_id(self, verifier: JwtTokens, issuer: Any) -> None:
        anonymous = ECKey.import_key({**issuer.keys[0].as_dict(private=True), "kid": ""})
        token = jwt.encode({"alg": "ES256"}, {"sub": str(uuid4())}, anonymous, algorithms=["ES256"])
        assert await refused(verifier, token) == "token_invalid"
        assert issuer.fetches == 0

    async def test_changed_in_any_part(self, verifier: JwtTokens, issuer: Any) -> None:
        token = issuer.token()
        for at in [2, token.index(".") + 4, token.rindex(".") + 4]:
            changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            assert await refused(verifier, changed) == "token_invalid"

    async def test_oversize_without_being_read(self, verifier: JwtTokens, issuer: Any) -> None:
        token = issuer.token(user_metadata={"x": "y" * tokens.MAX_TOKEN_LENGTH})
        assert await refused(verifier, token) == "token_invalid"
        assert issuer.fetches == 0

    @pytest.mark.parametrize(
        "token", ["", ".", "..", "a.b.c", "é.é.é", "[" * 8000, "\x00", "e30.e30.e30", "W10.e30.e30"]
    )
    async def test_that_are_none(self, verifier: JwtTokens, token: str) -> None:
        assert await refused(verifier, token) == "token_invalid"

    async def test_with_a_header_of_nothing_but_brackets(self, verifier: JwtTokens, shared: JwtTokens) -> None:
        nested = urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
        assert await refused(verifier, f"{nested}.e30.e30") == "token_invalid"

    async def test_with_claims_of_nothing_but_brackets(self, shared: JwtTokens) -> None:
        token = jws.serialize_compact({"alg": "HS256"}, b"[" * 5000, OctKey.import_key(SHARED))
        assert await refused(shared, token) == "token_invalid"

    @given(
        token=st.one_of(st.text(max_size=60), st.from_regex(r"[\w-]{0,40}\.[\w-]{0,40}\.[\w-]{0,40}", fullmatch=True))
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
    def test_anything_else(self, token: str) -> None:
        configured = Settings(auth=AuthSettings(hs256_secret=SecretStr(SHARED)))

        async def check() -> None:
            async with open_tokens(configured, secret=SECRET, clock=FrozenClock()) as made:
                await refused(made, token)

        asyncio.run(check())


class FrozenClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


def hs256(secret: bytes, token: str, kid: str) -> str:
    """Sign the claims of a token anew, by hand: libraries rightly refuse public keys as secrets."""
    header = urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid}).encode()).rstrip(b"=").decode()
    signed = f"{header}.{token.split('.')[1]}"
    return f"{signed}.{urlsafe_b64encode(hmac.digest(secret, signed.encode(), 'sha256')).rstrip(b'=').decode()}"


class TestCache:
    async def test_known_token_is_not_verified_again(
        self, verifier: JwtTokens, issuer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = issuer.token()
        user = await verifier.verify(token)
        monkeypatch.setattr(tokens.jwt, "decode", None)
        assert await verifier.verify(token) is user

    async def test_is_believed_for_a_minute_at_most(
        self, verifier: JwtTokens, issuer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = issuer.token()
        user = await verifier.verify(token)
        issuer.clock.seconds += tokens.CACHE_S
        assert await verifier.verify(token) is not user

    async def test_never_outlives_the_token(self, verifier: JwtTokens, issuer: Any) -> None:
        token = issuer.token(exp=issuer.clock.timestamp() + 20)
        await verifier.verify(token)
        issuer.clock.seconds += 51
        assert await refused(verifier, token) == "token_expired"

    async def test_is_bounded(self, shared: JwtTokens, issuer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tokens, "CACHE_SIZE", 3)
        key = OctKey.import_key(SHARED)
        made = [issuer.token(key) for _ in range(5)]
        for token in made:
            await shared.verify(token)
        assert len(shared._cache) == 3

    async def test_holds_no_token(self, verifier: JwtTokens, issuer: Any) -> None:
        token = issuer.token()
        await verifier.verify(token)
        assert token not in repr(verifier._cache)

    async def test_refused_tokens_are_not_kept(self, verifier: JwtTokens, issuer: Any) -> None:
        await refused(verifier, issuer.token(aud="other"))
        assert not verifier._cache


class TestEmbedded:
    ADA = User(id=UserId(UUID("9af17a39-12c3-43c8-9246-538d02dd14a8")), email="ada@example.com")

    async def test_token_verifies_with_the_same_settings(self, clock: Any) -> None:
        configured = Settings(http=HttpSettings(public_url="https://video.example"))
        token = issue_embedded_token(self.ADA, configured, SECRET, 600, now=clock.now())
        async with open_tokens(configured, secret=SECRET, clock=clock) as verifier:
            user = await verifier.verify(token)
        assert (user.id, user.email) == (self.ADA.id, self.ADA.email)
        assert user.claims["iss"] == "https://video.example/auth/v1"
        assert user.expires_at_s == clock.timestamp() + 600

    async def test_token_of_another_instance_is_refused(self, clock: Any) -> None:
        token = issue_embedded_token(self.ADA, Settings(), b"o" * 32, 600, now=clock.now())
        async with open_tokens(Settings(), secret=SECRET, clock=clock) as verifier:
            assert await refused(verifier, token) == "token_invalid"

    async def test_own_identity_is_believed_beside_the_shared_key(
        self, clock: Any, make_key: Callable[..., ECKey]
    ) -> None:
        mine, other = make_key("mine"), make_key("mine")
        keys: Any = {"keys": [mine.as_dict(private=False)]}
        embedded = OctKey.import_key(embedded_jwt_secret(Settings(), SECRET))
        shared = issue_embedded_token(self.ADA, Settings(), SECRET, 600, now=clock.now())
        claims = jwt.decode(shared, embedded, algorithms=["HS256"]).claims

        def signed(key: ECKey, **header: str) -> str:
            return jwt.encode({"alg": "ES256", "kid": "mine"} | header, claims, key)

        async with open_tokens(Settings(), secret=SECRET, clock=clock, local_keys=keys) as verifier:
            assert (await verifier.verify(signed(mine))).id == self.ADA.id
            assert (await verifier.verify(shared)).id == self.ADA.id
            assert await refused(verifier, signed(other)) == "token_invalid"
            assert await refused(verifier, signed(mine, kid="unknown")) == "token_invalid"
            assert await refused(verifier, signed(mine, jku="https://evil.example")) == "token_invalid"
            public = mine.as_pem(private=False)
            confused = jwt.encode({"alg": "HS256", "kid": "mine"}, claims, OctKey.import_key(public.hex()))
            assert await refused(verifier, confused) == "token_invalid"
            elsewhere = jwt.encode({"alg": "ES256", "kid": "mine"}, claims | {"iss": "https://other.example"}, mine)
            assert await refused(verifier, elsewhere) == "token_invalid"
        async with open_tokens(Settings(), secret=SECRET, clock=clock) as without:
            assert await refused(without, signed(mine)) == "token_invalid"

    def test_token_cannot_be_made_where_others_issue_them(self) -> None:
        auth = AuthSettings(jwks_url="https://issuer.example/jwks", algorithms=("ES256",))
        with pytest.raises(ConfigurationError, match=r"auth\.jwks_url: tokens come from this issuer"):
            issue_embedded_token(self.ADA, Settings(auth=auth), SECRET, 600)
