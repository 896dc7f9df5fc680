import pytest
from echo_storage_local.ranges import RangeNotSatisfiableError, parse_content_range, read_range
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.integers(min_value=0, max_value=1000)
NUMBERS = st.integers(min_value=0, max_value=1100)


@given(SIZES, NUMBERS, NUMBERS)
def test_closed_range_is_what_slicing_gives(size: int, first: int, last: int) -> None:
    data = bytes(size)
    if last < first:
        assert read_range(f"bytes={first}-{last}", size) is None
    elif first >= size:
        with pytest.raises(RangeNotSatisfiableError):
            read_range(f"bytes={first}-{last}", size)
    else:
        start, end = read_range(f"bytes={first}-{last}", size) or (0, 0)
        assert len(data[start:end]) == len(data[first : last + 1]) == end - start
        assert start == first


@given(SIZES, NUMBERS)
def test_suffix_range_is_the_end(size: int, count: int) -> None:
    if count == 0 or size == 0:
        with pytest.raises(RangeNotSatisfiableError):
            read_range(f"bytes=-{count}", size)
    else:
        assert read_range(f"bytes=-{count}", size) == (max(0, size - count), size)


@given(st.one_of(st.text(max_size=30), st.from_regex(r"bytes=[0-9,\- ]{0,40}", fullmatch=True)), SIZES)
def test_whatever_is_sent_a_range_lies_inside_the_object(header: str, size: int) -> None:
    try:
        found = read_range(header, size)
    except RangeNotSatisfiableError:
        return
    assert found is None or 0 <= found[0] < found[1] <= size


@pytest.mark.parametrize(
    "header", ["bytes=0-1,3-4", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=1--2", "0-1"]
)
def test_what_is_not_one_range_is_ignored(header: str) -> None:
    assert read_range(header, 10) is None


def test_digits_without_end_do_not_matter() -> None:
    assert read_range(f"bytes=0-{'9' * 5000}", 10) is None
    assert parse_content_range(f"bytes 0-{'9' * 5000}/*") is None


@given(st.integers(0, 2**60), st.integers(0, 2**60), st.one_of(st.none(), st.integers(0, 2**61)))
def test_content_range_is_half_open_and_inside_the_total(first: int, last: int, total: int | None) -> None:
    found = parse_content_range(f"bytes {first}-{last}/{'*' if total is None else total}")
    if last < first or (total is not None and last >= total):
        assert found is None
    else:
        assert found is not None
        assert (found.start, found.end, found.total_bytes, found.asks) == (first, last + 1, total, False)


@given(st.one_of(st.none(), st.integers(0, 2**61)))
def test_content_range_that_asks(total: int | None) -> None:
    found = parse_content_range(f"bytes */{'*' if total is None else total}")
    assert found is not None
    assert (found.asks, found.total_bytes) == (True, total)


@given(st.text(max_size=40))
def test_content_range_parser_takes_any_text(header: str) -> None:
    found = parse_content_range(header)
    assert found is None or found.asks or (found.start or 0) < (found.end or 0)
