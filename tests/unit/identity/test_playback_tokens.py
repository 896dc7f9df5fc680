from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_core.adapters.playback_tokens import TOKEN_LENGTH, PlaybackTokens
from echo_core.adapters.settings import Settings
from echo_core.adapters.tokens import open_tokens
from echo_core.plugin_api.errors import AuthError

OWNER = UUID("11111111-1111-4111-8111-111111111111")
VIDEO = UUID("22222222-2222-4222-8222-222222222222")
KEY = b"k" * 32


def refused(tokens: PlaybackTokens, token: str, video: UUID = VIDEO) -> str:
    with pytest.raises(AuthError) as caught:
        tokens.verify(token, video)
    return caught.value.code


@pytest.fixture
def playback(clock: Any) -> PlaybackTokens:
    return PlaybackTokens([KEY], expires_in_s=100, clock=clock)


def test_names_the_owner_and_fits_into_a_path(playback: PlaybackTokens) -> None:
    token = playback.mint(OWNER, VIDEO)
    assert playback.verify(token, VIDEO) == OWNER
    assert len(token) == TOKEN_LENGTH
    assert token.replace("-", "").replace("_", "").isalnum()


def test_plays_no_other_video(playback: PlaybackTokens) -> None:
    assert refused(playback, playback.mint(OWNER, VIDEO), uuid4()) == "token_invalid"


def test_ends(playback: PlaybackTokens, clock: Any) -> None:
    token = playback.mint(OWNER, VIDEO)
    clock.seconds = 99
    playback.verify(token, VIDEO)
    clock.seconds = 100
    assert refused(playback, token) == "token_expired"


def test_forged_and_expired_is_not_called_expired(playback: PlaybackTokens, clock: Any) -> None:
    token = PlaybackTokens([b"x" * 32], expires_in_s=100, clock=clock).mint(OWNER, VIDEO)
    clock.seconds = 1000
    assert refused(playback, token) == "token_invalid"


def test_keys_can_be_replaced_without_a_break(clock: Any) -> None:
    old = PlaybackTokens([KEY], expires_in_s=100, clock=clock).mint(OWNER, VIDEO)
    both = PlaybackTokens([b"n" * 32, KEY], expires_in_s=100, clock=clock)
    assert both.verify(old, VIDEO) == OWNER
    new = PlaybackTokens([b"n" * 32], expires_in_s=100, clock=clock)
    assert new.verify(both.mint(OWNER, VIDEO), VIDEO) == OWNER
    assert refused(new, old) == "token_invalid"


def test_every_bit_counts(playback: PlaybackTokens) -> None:
    token = playback.mint(OWNER, VIDEO)
    raw = urlsafe_b64decode(token + "=")
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert refused(playback, urlsafe_b64encode(changed).rstrip(b"=").decode()) == "token_invalid"


def test_has_one_spelling(playback: PlaybackTokens) -> None:
    token = playback.mint(OWNER, VIDEO)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [token[:-1] + last for last in alphabet]
    good = [spelling for spelling in spellings if urlsafe_b64decode(spelling + "=") == urlsafe_b64decode(token + "=")]
    assert len(good) > 1  # base64 itself would take them all
    for spelling in set(good) - {token}:
        assert refused(playback, spelling) == "token_invalid"
    for spelling in (token + "=", token.replace("-", "+"), token[:20] + "\n" + token[21:], " " + token[1:]):
        if spelling != token:
            assert refused(playback, spelling) == "token_invalid"


@settings(deadline=None)
@given(token=st.one_of(st.text(max_size=80), st.from_regex(rf"[\w-]{{{TOKEN_LENGTH}}}", fullmatch=True)))
def test_anything_else_is_refused(token: str) -> None:
    class Clock:
        def now(self) -> Any:
            raise AssertionError("only a genuine token is compared with the time")

    tokens = PlaybackTokens([KEY], expires_in_s=100, clock=Clock())
    assert refused(tokens, token) == "token_invalid"


async def test_port_takes_lifetime_and_key_from_the_settings(clock: Any) -> None:
    async with open_tokens(Settings(), secret=b"s" * 32, clock=clock) as tokens:
        token = tokens.mint_playback(OWNER, VIDEO)
        clock.seconds = Settings().playback.token_expires_in_s - 1
        assert tokens.verify_playback(token, VIDEO) == OWNER
    async with open_tokens(Settings(), secret=b"t" * 32, clock=clock) as other:
        with pytest.raises(AuthError):
            other.verify_playback(token, VIDEO)
