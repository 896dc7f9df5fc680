"""Where PostgreSQL and Redis are, and as whom we log in there."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from echo_core.adapters.embedded.datadir import find_instance
from echo_core.adapters.embedded.services import EMBEDDED
from echo_core.adapters.secrets import derive_key
from echo_core.adapters.settings import Settings
from echo_core.plugin_api.errors import UnavailableError

API_ROLE = "echo_api"
WORKER_ROLE = "echo_worker"
MAX_ROLE_LENGTH = 63
"""Bytes of a PostgreSQL identifier (NAMEDATALEN - 1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Addresses:
    """Where the database and Redis are. The URLs carry passwords."""

    owner_url: str = field(repr=False)
    api_url: str = field(repr=False)
    worker_url: str = field(repr=False)
    redis_url: str = field(repr=False)


def role_password(secret: bytes, role: str) -> str:
    """The password of one of our login roles, the same in every process of this instance."""
    return derive_key(secret, f"role:{role}").hex()


def addresses(settings: Settings, secret: bytes) -> Addresses:
    """Where to connect. Raises ``UnavailableError`` when the embedded servers are meant and do not run."""
    owner_url = settings.database.url.get_secret_value()
    redis_url = settings.redis.url.get_secret_value()
    if EMBEDDED in {owner_url, redis_url}:
        instance = find_instance(settings.data_dir)
        if instance is None:
            raise UnavailableError(
                f"Echo's own database does not run for {settings.data_dir}.",
                code="instance_not_running",
                remedy="Start it with 'echoctl up' (or 'make run'), or set database.url and redis.url.",
            )
        owner_url = instance.database_url if owner_url == EMBEDDED else owner_url
        redis_url = instance.redis_url if redis_url == EMBEDDED else redis_url
    return Addresses(
        owner_url=owner_url,
        api_url=_login(settings.database.api_url.get_secret_value(), owner_url, secret, API_ROLE),
        worker_url=_login(settings.database.worker_url.get_secret_value(), owner_url, secret, WORKER_ROLE),
        redis_url=redis_url,
    )


def plugin_role(plugin: str) -> str:
    """The login role of a plugin that has tables, and their schema. Raises ``ValueError`` beyond PostgreSQL's limit."""
    role = f"echo_{plugin}"
    if len(role) > MAX_ROLE_LENGTH:
        raise ValueError(f"the name of plugin {plugin!r} is too long for a schema of its own")
    return role


def plugin_url(settings: Settings, where: Addresses, secret: bytes, plugin: str) -> str:
    """Where a plugin logs in: beside the API, through its pooler if it has one."""
    given = settings.database.api_url.get_secret_value()
    base = given or where.owner_url
    role = plugin_role(plugin)
    try:
        url = make_url(base)
    except (ArgumentError, ValueError):
        return base
    _, dot, tenant = (url.username or "").partition(".")
    url = url.set(username=f"{role}{dot}{tenant}", password=role_password(secret, role))
    return url.render_as_string(hide_password=False)


def _login(given: str, owner_url: str, secret: bytes, role: str) -> str:
    """The given address, else the owner's with this role in it. A password that is left out is the one that migrating
    has set; so the address of a pooler can be given without knowing any."""
    password = role_password(secret, role)
    try:
        url = make_url(given or owner_url)
    except (ArgumentError, ValueError):
        return given  # whoever connects says what is wrong with it, and keeps it out of messages
    if given and url.password is not None:
        return given
    # Supabase's pooler knows the project by what follows the user's name: postgres.<project>.
    _, dot, tenant = (url.username or "").partition(".")
    user = url.username if given and url.username else f"{role}{dot}{tenant}"
    return url.set(username=user, password=password).render_as_string(hide_password=False)
