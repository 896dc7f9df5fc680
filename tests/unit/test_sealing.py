"""Answers that are kept for idempotency keys, sealed."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_core.adapters.sealing import AnswerSeal, SealBrokenError

KEY = bytes(range(32))
OWNER, OTHER = UUID(int=1), UUID(int=2)
URL = b'{"uploadUrl": "https://storage.example/o?upload_id=a-secret"}'


def sealed() -> bytes:
    return AnswerSeal(KEY).seal(OWNER, "begin k", body=URL, location="/api/v1/videos/1")


@given(body=st.binary(max_size=2000), location=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_what_was_sealed_opens_as_it_was(body: bytes, location: str) -> None:
    stored = AnswerSeal(KEY).seal(OWNER, "k", body=body, location=location)
    assert AnswerSeal(KEY).open(OWNER, "k", stored) == (body, location)


def test_nothing_of_an_answer_can_be_read_and_none_looks_like_another() -> None:
    assert b"upload_id" not in sealed()
    assert b"videos" not in sealed()
    assert sealed() != sealed()


@pytest.mark.parametrize(
    ("owner", "key", "secret"), [(OTHER, "begin k", KEY), (OWNER, "begin l", KEY), (OWNER, "begin k", bytes(32))]
)
def test_seal_opens_for_its_owner_and_key_alone(owner: UUID, key: str, secret: bytes) -> None:
    with pytest.raises(SealBrokenError):
        AnswerSeal(secret).open(owner, key, sealed())


@pytest.mark.parametrize("stored", [b"", b"\x01", b"\x01" + bytes(11), b"\x02" + sealed()[1:], URL])
def test_what_is_no_seal_of_this_version_does_not_open(stored: bytes) -> None:
    with pytest.raises(SealBrokenError):
        AnswerSeal(KEY).open(OWNER, "begin k", stored)


def test_changed_bytes_do_not_open() -> None:
    stored = bytearray(sealed())
    for at in range(1, len(stored)):
        stored[at] ^= 1
        with pytest.raises(SealBrokenError):
            AnswerSeal(KEY).open(OWNER, "begin k", bytes(stored))
        stored[at] ^= 1
