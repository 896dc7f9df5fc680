"""Bearer tokens and playback tokens.

    async with open_tokens(settings, secret=load_instance_secret(settings), clock=clock) as tokens:
        user = await tokens.verify(token)

``issue_embedded_token(user, settings, secret, expires_in_s)`` makes the bearer tokens of an instance without another
issuer. JWTs follow RFC 7519 and 8725, claims are those of Supabase Auth.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NoReturn
from uuid import UUID, uuid4

import httpx2
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import Key, OctKey

from echo_core.adapters.jwks import FETCH_TIMEOUT_S, JwksKeys, usable_keys
from echo_core.adapters.playback_tokens import PlaybackTokens
from echo_core.adapters.secrets import derive_key, embedded_jwt_secret
from echo_core.adapters.settings import Settings
from echo_core.adapters.settings_errors import ConfigurationError, ConfigurationIssue
from echo_core.domain.ids import UserId
from echo_core.domain.users import User
from echo_core.plugin_api.context import Clock
from echo_core.plugin_api.errors import AuthError, UnavailableError
from echo_core.plugin_api.json import JsonObject

MAX_TOKEN_LENGTH = 8 * 1024
"""Characters; a Supabase token has about 1000, and servers refuse headers above 8 to 16 KiB anyway."""
CACHE_SIZE = 4096
CACHE_S = 60.0
"""Longest time for which a checked token is believed without looking again."""
LOCAL_ALGORITHM = "ES256"
"""What an identity of the instance's own signs with (RFC 7518, 3.4): its keys are believed for nothing else."""
_KEYS_IN_HEADER = {"jku", "jwk", "x5u", "x5c"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRules:
    """What a bearer token must say."""

    issuer: str
    audience: str
    role: str
    algorithms: tuple[str, ...]
    leeway_s: int


class JwtTokens:
    """The ``Tokens`` port. ``keys``: the shared HS256 key, or the issuer's published ones. ``local_keys``: those of the
    instance's own identity, by ``kid``; where there are any, they sign with ES256 beside the shared key."""

    def __init__(
        self,
        rules: TokenRules,
        keys: Key | JwksKeys,
        playback: PlaybackTokens,
        clock: Clock,
        local_keys: Mapping[str, Key] = MappingProxyType({}),
    ) -> None:
        self._local_keys = local_keys
        self._rules = rules
        self._keys = keys
        self._playback = playback
        self._clock = clock
        # Verifying ES256 costs 150 µs, a hash 2; the hash, because the cache shall not hold live tokens.
        self._cache: OrderedDict[bytes, tuple[User, float]] = OrderedDict()
        self._cache_revision = 0
        self._registry = jwt.JWTClaimsRegistry(
            now=lambda: int(self._now_s()),
            leeway=rules.leeway_s,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.audience},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            role={"essential": True, "value": rules.role},
        )

    async def verify(self, token: str) -> User:
        """The user of a bearer token.

        Raises ``AuthError`` (``token_expired``, ``token_invalid``), and ``UnavailableError``
        (``identity_unavailable``) when the issuer's keys were never to be had.
        """
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            _refuse()
        digest = hashlib.sha256(token.encode()).digest()
        if (user := self._cached(digest)) is not None:
            return user
        header = _header(token)
        algorithms: tuple[str, ...] = self._rules.algorithms
        if self._local_keys and header.get("alg") == LOCAL_ALGORITHM:
            key, algorithms = self._local_key_for(header), (LOCAL_ALGORITHM,)
        else:
            key = await self._key_for(header)
        user = self._checked(token, key, algorithms)
        self._remember(digest, user)
        return user

    def mint_playback(self, owner_id: UUID, video_id: UUID) -> str:
        """A token that plays one video for a limited time."""
        return self._playback.mint(owner_id, video_id)

    def verify_playback(self, token: str, video_id: UUID) -> UserId:
        """The owner in whose name the video is read. Raises ``AuthError``."""
        return self._playback.verify(token, video_id)

    def _now_s(self) -> float:
        return self._clock.now().timestamp()

    def _local_key_for(self, header: Mapping[str, object]) -> Key:
        kid = header.get("kid")
        if not isinstance(kid, str) or kid not in self._local_keys or _KEYS_IN_HEADER & header.keys():
            _refuse()
        return self._local_keys[kid]

    async def _key_for(self, header: Mapping[str, object]) -> Key:
        if header.get("alg") not in self._rules.algorithms or _KEYS_IN_HEADER & header.keys():
            _refuse()
        if not isinstance(self._keys, JwksKeys):
            return self._keys
        kid = header.get("kid")
        if not isinstance(kid, str):
            _refuse()
        key = await self._keys.find(kid)
        if key is None:
            if not self._keys.has_keys:
                raise UnavailableError(
                    "Sign-in cannot be checked at the moment.",
                    code="identity_unavailable",
                    remedy="Try again in a few seconds; if it lasts, the operator should check auth.jwks_url.",
                )
            _refuse()
        return key

    def _checked(self, token: str, key: Key, algorithms: tuple[str, ...]) -> User:
        try:
            decoded = jwt.decode(token, key, algorithms=algorithms, decoder_cls=_StrictDecoder)
            self._registry.validate(decoded.claims)
            if decoded.claims["role"] != self._rules.role:  # joserfc is content with a list that holds it
                _refuse()
            return _user(decoded.claims)
        except ExpiredTokenError:
            raise AuthError("Your session has expired.", code="token_expired", remedy="Sign in again.") from None
        except (JoseError, ValueError, TypeError, OverflowError, RecursionError):
            _refuse()

    def _forget_old_keys(self) -> None:
        """Empty the cache after a new set of keys: one that was withdrawn vouches for nobody."""
        if isinstance(self._keys, JwksKeys) and self._keys.revision != self._cache_revision:
            self._cache.clear()
            self._cache_revision = self._keys.revision

    def _cached(self, digest: bytes) -> User | None:
        self._forget_old_keys()
        entry = self._cache.get(digest)
        if entry is None:
            return None
        if self._now_s() >= entry[1]:
            del self._cache[digest]
            return None
        self._cache.move_to_end(digest)
        return entry[0]

    def _remember(self, digest: bytes, user: User) -> None:
        self._forget_old_keys()
        now_s = self._now_s()
        self._cache[digest] = (user, min(user.expires_at_s, now_s + CACHE_S))
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)


class _StrictDecoder(json.JSONDecoder):
    """Refuses ``NaN`` and ``Infinity``, which are no JSON and which PostgreSQL would refuse later."""

    def __init__(self) -> None:
        super().__init__(parse_constant=_refuse_constant)


@asynccontextmanager
async def open_tokens(
    settings: Settings,
    *,
    secret: bytes,
    clock: Clock,
    monotonic: Callable[[], float] = time.monotonic,
    local_keys: JsonObject | None = None,
) -> AsyncGenerator[JwtTokens]:
    """The ``Tokens`` of these settings; ``secret`` is the instance's. Nothing is fetched before the first token.

    ``local_keys``: the JWK set of the instance's own identity. Raises ``ValueError`` when it holds no usable key.
    """
    auth = settings.auth
    rules = TokenRules(
        issuer=settings.issuer,
        audience=auth.audience,
        role=auth.role,
        algorithms=auth.algorithms,
        leeway_s=auth.leeway_s,
    )
    playback = PlaybackTokens(
        [derive_key(secret, "playback")], expires_in_s=settings.playback.token_expires_in_s, clock=clock
    )
    if not auth.jwks_url:
        shared = OctKey.import_key(embedded_jwt_secret(settings, secret))
        local = usable_keys(local_keys) if local_keys is not None else {}
        yield JwtTokens(
            rules, shared, playback, clock, {kid: key for kid, key in local.items() if key.key_type == "EC"}
        )
        return
    async with httpx2.AsyncClient(timeout=FETCH_TIMEOUT_S, headers={"Accept": "application/json"}) as client:
        keys = JwksKeys(auth.jwks_url, client=client, min_refetch_s=auth.jwks_min_refetch_s, monotonic=monotonic)
        try:
            yield JwtTokens(rules, keys, playback, clock)
        finally:
            await keys.aclose()


def issue_embedded_token(
    user: User, settings: Settings, secret: bytes, expires_in_s: int, *, now: datetime | None = None
) -> str:
    """A bearer token for that user, signed with this instance's HS256 key; ``secret`` is the instance's.

    Raises ``ConfigurationError`` when tokens come from another issuer (``auth.jwks_url``).
    """
    auth = settings.auth
    if auth.jwks_url:
        problem = "tokens come from this issuer; Echo has no key to sign any"
        raise ConfigurationError(
            [ConfigurationIssue("auth.jwks_url", problem, settings.origins.describe("auth.jwks_url"))]
        )
    issued_at = int((now or datetime.now(UTC)).timestamp())
    claims: dict[str, object] = {
        "iss": settings.issuer,
        "sub": str(user.id),
        "aud": auth.audience,
        "role": auth.role,
        "iat": issued_at,
        "exp": issued_at + expires_in_s,
        "email": user.email,
        "phone": "",
        "app_metadata": {"provider": "local", "providers": ["local"]},
        "user_metadata": {},
        "aal": "aal1",
        "amr": [{"method": "token", "timestamp": issued_at}],
        "session_id": str(uuid4()),
        "is_anonymous": False,
    }
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(embedded_jwt_secret(settings, secret)))


def _header(token: str) -> Mapping[str, object]:
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError, TypeError):  # joserfc bounds the header to 512 bytes: no deep nesting either
        _refuse()
    if not isinstance(header, dict):
        _refuse()
    return header


def _user(claims: JsonObject) -> User:
    """Raises ``ValueError`` where the claims cannot be those of a user."""
    subject = str(claims["sub"])
    user_id = UUID(subject)
    if str(user_id) != subject.lower():
        raise ValueError("sub is not a UUID in its usual form")
    text = json.dumps(claims, ensure_ascii=False)
    text.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    if "\\u0000" in text:
        raise ValueError("PostgreSQL knows no NUL in JSON")
    email, expires_at = claims.get("email"), claims["exp"]
    if not isinstance(expires_at, int | float):
        raise ValueError("exp is not a number")
    return User(
        id=UserId(user_id),
        email=email if isinstance(email, str) else "",
        claims=claims,
        expires_at_s=float(expires_at),
    )


def _refuse() -> NoReturn:
    # One sentence for every reason: which check failed helps only those who forge.
    raise AuthError("This sign-in token is not valid.", code="token_invalid", remedy="Sign in again.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
