"""Where PostgreSQL and Redis are, and as whom we log in there."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy.engine import make_url

from echo_core.adapters.embedded.datadir import find_instance
from echo_core.adapters.embedded.services import EMBEDDED
from echo_core.adapters.secrets import derive_key
from echo_core.adapters.settings import Settings
from echo_core.plugin_api.errors import UnavailableError

API_ROLE = "echo_api"
WORKER_ROLE = "echo_worker"


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
        api_url=settings.database.api_url.get_secret_value() or _as_role(owner_url, secret, API_ROLE),
        worker_url=settings.database.worker_url.get_secret_value() or _as_role(owner_url, secret, WORKER_ROLE),
        redis_url=redis_url,
    )


def _as_role(url: str, secret: bytes, role: str) -> str:
    return make_url(url).set(username=role, password=role_password(secret, role)).render_as_string(hide_password=False)
