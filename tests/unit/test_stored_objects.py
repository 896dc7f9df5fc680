"""What rows know of the objects that they name."""

from __future__ import annotations

import pytest

from echo_core.domain.stored_objects import StoredObject, checksums_agree, checksums_differ


class Row(StoredObject):
    def __init__(self, backend: str, generation: str) -> None:
        self.backend = backend
        self.generation = generation


def test_only_the_storage_that_made_a_generation_is_asked_for_it() -> None:
    assert Row("local", "7").pin("local") == "7"
    assert Row("local", "7").pin("gcs") is None
    assert Row("local", "").pin("local") is None


@pytest.mark.parametrize(
    ("one", "other", "differ", "agree"),
    [
        ("crc32c:0a", "crc32c:0a", False, True),
        ("crc32c:0a", "crc32c:0b", True, False),
        ("crc32c:0a", "md5:0b", False, False),
        ("crc32c:0a", "", False, False),
        ("", "", False, False),
        ("crc32c:", "crc32c:", False, False),
    ],
)
def test_checksums_of_different_algorithms_tell_nothing(one: str, other: str, differ: bool, agree: bool) -> None:
    assert (checksums_differ(one, other), checksums_agree(one, other)) == (differ, agree)
    assert (checksums_differ(other, one), checksums_agree(other, one)) == (differ, agree)
