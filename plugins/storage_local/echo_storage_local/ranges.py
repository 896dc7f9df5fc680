"""The two range headers: ``Range`` of reads (RFC 9110 section 14) and ``Content-Range`` of Google's uploads."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BYTE_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,19})-([0-9]{1,19})?|-([0-9]{1,19}))[ \t]*", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)", re.IGNORECASE)


class RangeNotSatisfiableError(Exception):
    """The range begins behind the end of the object."""


def read_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """The half-open range ``[start, end)`` that a ``Range`` header asks for; None: answer with the whole object.

    What is not one well-formed byte range (several ranges too) is ignored, as RFC 9110 section 14.2 allows.
    """
    found = None if header is None else _BYTE_RANGE.fullmatch(header)
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        if int(suffix) == 0 or size_bytes == 0:
            raise RangeNotSatisfiableError
        return max(0, size_bytes - int(suffix)), size_bytes
    start = int(first)
    if last is not None and int(last) < start:
        return None
    if start >= size_bytes:
        raise RangeNotSatisfiableError
    return start, size_bytes if last is None else min(size_bytes, int(last) + 1)


@dataclass(frozen=True, kw_only=True)
class ContentRange:
    """What an upload request carries: ``[start, end)``, or nothing (it asks how far the upload is)."""

    start: int | None
    end: int | None
    total_bytes: int | None

    @property
    def asks(self) -> bool:
        """Whether this is a question (``bytes */…``)."""
        return self.start is None


def parse_content_range(header: str) -> ContentRange | None:
    """Read ``bytes a-b/total``, ``bytes a-b/*``, ``bytes */total`` or ``bytes */*``; None if it is none of these."""
    found = _CONTENT_RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last, total = found.groups()
    total_bytes = None if total == "*" else int(total)
    if first is None:
        return ContentRange(start=None, end=None, total_bytes=total_bytes)
    start, end = int(first), int(last) + 1
    if end <= start or (total_bytes is not None and end > total_bytes):
        return None
    return ContentRange(start=start, end=end, total_bytes=total_bytes)
