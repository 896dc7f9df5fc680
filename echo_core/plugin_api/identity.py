"""Identity: whoever keeps the users of an instance, and signs the tokens that say who a caller is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from echo_core.plugin_api.context import PluginContext
from echo_core.plugin_api.json import JsonObject

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine
    from starlette.routing import BaseRoute


@dataclass(frozen=True, kw_only=True)
class IdentityContext(PluginContext):
    """The surroundings of an opened identity.

    ``database``: connections of a login role that may read and write the tables of ``IdentitySpec.migrations`` and
    nothing else; each begins a transaction (READ COMMITTED). ``issuer``: the ``iss`` that the kernel accepts, which is
    also the public address of the provider's routes. ``audience`` and ``role``: what its tokens must say besides.
    ``production``: whether ``ECHO_MODE`` says so.
    """

    database: AsyncEngine = field(repr=False)
    issuer: str
    audience: str
    role: str
    production: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Migration:
    """One change of an identity's tables: SQL statements, run by the owner of the database with the plugin's schema as
    the only one on the search path, in one transaction. Once released it never changes; ``name`` is unique."""

    name: str
    sql: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalUser:
    """A user as the operator sees it. ``email`` is lower-cased; times are UTC."""

    id: UUID
    email: str
    created_at: datetime
    last_sign_in_at: datetime | None = None


class IdentityProvider(ABC):
    """An opened identity. The kernel believes tokens that one of ``public_keys`` has signed with ES256."""

    @abstractmethod
    def routes(self) -> Sequence[BaseRoute]:
        """Starlette routes, served below ``/auth/v1``: outside the kernel's sign-in, inside its limits and errors."""

    @abstractmethod
    def public_keys(self) -> JsonObject:
        """A JWK set (RFC 7517) of P-256 keys, each with a ``kid``; never private parts."""

    @abstractmethod
    async def check(self) -> None:
        """Raises an ``EchoError`` when nobody could sign in at the moment."""

    @abstractmethod
    async def add_user(self, email: str, password: str) -> LocalUser:
        """Create a user whose address counts as confirmed. For the operator: whether people may sign up does not
        matter.

        Raises ``DomainError`` (``user_already_exists``, ``weak_password``, ``validation_failed``).
        """

    @abstractmethod
    async def find_user(self, email: str) -> LocalUser | None:
        """The user with that address, in whatever case; None if there is none."""

    @abstractmethod
    async def list_users(self, *, after: str = "", limit: int = 100) -> Sequence[LocalUser]:
        """At most ``limit`` users, by address, those after the address ``after``."""

    @abstractmethod
    async def set_password(self, email: str, password: str) -> None:
        """Give a user another password and end all its sessions. Raises ``DomainError`` (``user_not_found``,
        ``weak_password``)."""
