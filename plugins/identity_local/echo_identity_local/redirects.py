"""Where people are sent back to: pages of this instance and of the configuration, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from echo_identity_local.wire import ApiError

MAX_URL_LENGTH = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ERRORS = {400: "invalid_request", 403: "access_denied", 422: "access_denied", 503: "temporarily_unavailable"}
"""What RFC 6749, 4.1.2.1 calls them; as Supabase Auth maps them."""


class Redirects:
    """The allow-list: whatever has the origin of ``public_url``, and ``pages``.

    A page whose path ends in ``/``, or is missing, stands for everything below it; another one for itself. Queries are
    free.
    """

    def __init__(self, public_url: str, pages: Sequence[str]) -> None:
        self.public_url = public_url
        self._own = _origin(urlsplit(public_url))
        self._pages = [(_origin(urlsplit(page)), urlsplit(page).path or "/") for page in pages]

    def checked(self, wanted: str) -> str:
        """The wanted address without its fragment, or ``public_url`` if it is not on the list."""
        # Browsers read a backslash as a slash and skip control characters: what they see must be what was checked.
        if (
            len(wanted) > MAX_URL_LENGTH
            or not wanted.isascii()
            or not wanted.isprintable()
            or set(wanted) & {"\\", " "}
        ):
            return self.public_url
        try:
            parts = urlsplit(wanted)
            allowed = self._allows(parts)
        except ValueError:  # a port or an IPv6 address that is none
            return self.public_url
        return urlunsplit(parts._replace(fragment="")) if allowed else self.public_url

    def _allows(self, parts: SplitResult) -> bool:
        origin, path = _origin(parts), parts.path or "/"
        if not parts.hostname or "@" in parts.netloc or parts.scheme not in _DEFAULT_PORTS:
            return False
        if origin == self._own:
            return True
        # Dots in a path lead out of the folder that it begins with.
        dotted = any(part.lower().replace("%2e", ".") in {".", ".."} for part in path.split("/"))
        return any(
            origin == own and (path == page or (page.endswith("/") and path.startswith(page) and not dotted))
            for own, page in self._pages
        )


def with_code(url: str, code: str) -> str:
    """The page, told of its code."""
    return _told(url, {"code": code})


def with_error(url: str, error: ApiError) -> str:
    """The page, told of an error: in its query and, as supabase-js also reads it, in its fragment."""
    said = {
        "error": _ERRORS.get(error.status, "server_error"),
        "error_code": error.code,
        "error_description": error.message,
    }
    # "sb" tells clients that the fragment is Supabase Auth's (and stands for nothing else).
    return f"{_told(url, said)}#{urlencode({**said, 'sb': ''})}"


def _told(url: str, said: dict[str, str]) -> str:
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in said]
    return urlunsplit(parts._replace(query=urlencode([*kept, *said.items()]), fragment=""))


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)
