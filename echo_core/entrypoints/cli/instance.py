"""Which instance a command speaks to, and with whose token."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import typer

from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.options import DEFAULT_EMAIL
from echo_core.entrypoints.cli.output import say
from echo_core.entrypoints.cli.problems import CliError

if TYPE_CHECKING:
    from echo_core.adapters.settings import Settings

MINTED_FOR_S = 3600
"""Lifetime of a token that is made on the spot; a command that takes longer makes another."""
CONFIG_KEY = "echo.config"
"""In the root context's ``meta``: the file that ``--config`` named."""


def settings_of(context: typer.Context) -> Settings:
    """The configuration. Raises what bootstrap raises, with everything that is wrong."""
    from echo_core import bootstrap

    return bootstrap.load_settings(config_path(context.find_root().meta))


def config_path(meta: Mapping[str, object]) -> Path | None:
    """What ``--config`` said, from the root context's ``meta``."""
    value = meta.get(CONFIG_KEY)
    return value if isinstance(value, Path) else None


class TokenSource(Protocol):
    """Where bearer tokens come from."""

    async def current(self) -> str:
        """The token to send."""

    async def renew(self) -> bool:
        """The server refused the token as expired: get another. False: there is no other."""


@dataclass
class FixedToken:
    """A token that was given."""

    token: str

    async def current(self) -> str:
        """See ``TokenSource``."""
        return self.token

    async def renew(self) -> bool:
        """See ``TokenSource``."""
        return False


@dataclass
class FileToken:
    """A token in a file that somebody else keeps fresh."""

    path: Path
    token: str = ""

    async def current(self) -> str:
        """See ``TokenSource``. Raises ``CliError`` when there is none in it."""
        if not self.token:
            self.token = self.path.read_text(encoding="utf-8").strip()
            if not self.token:
                raise CliError(f"{self.path} is empty.", code="token_required", exit_code=ExitCode.USAGE)
        return self.token

    async def renew(self) -> bool:
        """See ``TokenSource``."""
        before, self.token = self.token, ""
        return await self.current() != before


@dataclass
class MintedToken:
    """Tokens of the local embedded instance, made at need."""

    settings: Settings
    email: str
    token: str = ""

    async def current(self) -> str:
        """See ``TokenSource``. Raises ``UnavailableError`` when the embedded database does not run."""
        if not self.token:
            from echo_core import bootstrap

            self.token = await bootstrap.issue_token(self.settings, self.email, MINTED_FOR_S)
        return self.token

    async def renew(self) -> bool:
        """See ``TokenSource``."""
        self.token = ""
        await self.current()
        return True


@dataclass(frozen=True)
class Connection:
    """What was said on the command line about where to and as whom."""

    url: str | None = None
    token: str | None = None
    token_file: Path | None = None
    email: str = DEFAULT_EMAIL


@dataclass(frozen=True)
class Target:
    """An instance (``url`` without trailing slash) and the tokens for it."""

    url: str
    tokens: TokenSource


def resolve_target(context: typer.Context, connection: Connection) -> Target:
    """Where to and as whom. The configuration is read only where the command line leaves something open.

    A token is made only for the address where the local instance listens, so that it can never be sent elsewhere.
    Raises ``CliError`` (``token_required``, ``invalid_url``).
    """
    if connection.token and connection.token_file:
        raise CliError(
            "Both --token and --token-file were given.",
            code="usage",
            remedy="Leave one of them out (ECHO_TOKEN counts as --token).",
            exit_code=ExitCode.USAGE,
        )
    given: TokenSource | None = None
    if connection.token:
        given = FixedToken(connection.token.strip())
    elif connection.token_file:
        given = FileToken(connection.token_file)
    if connection.url and given:
        return Target(checked_url(connection.url), given)
    from echo_core import bootstrap

    settings = settings_of(context)
    local = bootstrap.local_url(settings)
    url = checked_url(connection.url or local)
    if given is None and not same_origin(url, local):
        raise CliError(
            f"{url} needs a token, and only the local instance ({local}) can be given one on the spot.",
            code="token_required",
            remedy="Pass --token-file, or set ECHO_TOKEN.",
            exit_code=ExitCode.USAGE,
        )
    if given is None:
        say(f"Acting as {connection.email} on the local instance {url}.")
    return Target(url, given or MintedToken(settings, connection.email))


def checked_url(url: str) -> str:
    """The address without trailing slash. Raises ``CliError`` (``invalid_url``)."""
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise CliError(
            f"{url!r} is not the address of an instance.",
            code="invalid_url",
            remedy="Give one such as https://video.example or http://127.0.0.1:8000.",
            exit_code=ExitCode.USAGE,
        )
    return url.strip().rstrip("/")


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses lead to the same server; all names of the loopback interface are one."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    host = parts.hostname or ""
    return parts.scheme, "loopback" if is_loopback(host) else host.lower(), parts.port or default


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def subject_of(token: str) -> str:
    """The user's id (``sub``) in a JWT, unchecked: the server checks it. Raises ``CliError`` (``token_invalid``)."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        subject = claims["sub"]
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        subject = None
    if not isinstance(subject, str) or not subject:
        raise CliError(
            "The token is not a JWT with a subject.",
            code="token_invalid",
            remedy="Pass the access token of a signed-in user.",
            exit_code=ExitCode.USAGE,
        )
    return subject
