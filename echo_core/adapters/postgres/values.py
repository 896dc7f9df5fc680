"""Values on their way into the database."""

from __future__ import annotations

import msgspec


def json_text(value: object) -> str:
    """JSON that ``jsonb`` accepts: NUL characters and lone surrogates, which it refuses, become U+FFFD."""
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_storable(value))
    if b"\\u0000" in encoded:
        encoded = msgspec.json.encode(_storable(value))
    return encoded.decode()


def storable_text(text: str) -> str:
    """The text without the characters that PostgreSQL cannot keep."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _storable(value: object) -> object:
    value = msgspec.to_builtins(value)
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
