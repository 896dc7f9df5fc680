"""Media types, as far as a header must be able to carry them."""

from __future__ import annotations

import re

from echo_core.plugin_api import InvalidRequestError

_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # noqa: S105 - RFC 6838 section 4.2, restricted-name
_CONTENT_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[\x20-\x7e]{{0,256}})?")


def validate_content_type(value: str) -> str:
    """Return ``value`` if it is a media type (RFC 6838) with optional parameters, else raise."""
    if _CONTENT_TYPE.fullmatch(value) is None:
        raise InvalidRequestError("This is not a media type.", code="invalid_content_type")
    return value
