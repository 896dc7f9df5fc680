"""The hook: an identity named ``local``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from echo_core.plugin_api import IdentityContext, IdentityProvider, IdentitySpec, hookimpl
from echo_identity_local.config import IdentityConfig
from echo_identity_local.tables import MIGRATIONS


@asynccontextmanager
async def open_identity(context: IdentityContext) -> AsyncIterator[IdentityProvider]:
    """Open the identity."""
    from echo_identity_local.opening import open_local_identity

    async with open_local_identity(context) as identity:
        yield identity


@hookimpl
def echo_register_identity() -> Sequence[IdentitySpec]:
    """Users in the instance's own database."""
    return [
        IdentitySpec(
            name="local",
            open=open_identity,
            migrations=MIGRATIONS,
            config_model=IdentityConfig,
            description="Users, sign-in and tokens in Echo's own database, for supabase-js.",
        )
    ]
