"""What people write, made fit to be shown: no characters that act on what stands around them."""

from __future__ import annotations

import re

_BREAKS = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_BREAKS_AND_TABS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
_ACTIVE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Control characters (escapes for terminals among them), and the embeddings, overrides and isolates of bidirectional
text (UAX 9): left open, they turn around whatever a page shows next. Text in Hebrew or Arabic needs none of them; the
marks U+200E, U+200F and U+061C and the joiners, which it may need, act on nothing else and stay."""


def one_line(text: str) -> str:
    """The text without control characters; line breaks and tabs are spaces."""
    return _ACTIVE.sub("", _BREAKS_AND_TABS.sub(" ", text))


def lines(text: str) -> str:
    """The text without control characters but tabs and line breaks, which are all ``\\n``."""
    return _ACTIVE.sub("", _BREAKS.sub("\n", text))
