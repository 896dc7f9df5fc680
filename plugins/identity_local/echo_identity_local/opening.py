"""Opening the identity: what it needs, and where it refuses to start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from echo_core.plugin_api import IdentityContext, InvalidRequestError
from echo_identity_local.config import IdentityConfig
from echo_identity_local.google import GoogleSignIn
from echo_identity_local.passwords import Passwords
from echo_identity_local.provider import LocalIdentity
from echo_identity_local.redirects import Redirects

ROUTES_PATH = "/auth/v1"
"""Where the kernel serves the routes, below the instance's public address."""


@asynccontextmanager
async def open_local_identity(context: IdentityContext) -> AsyncIterator[LocalIdentity]:
    """Open it. Nothing connects before the first use. Raises ``InvalidRequestError`` (``identity_in_production``)."""
    config = context.config_as(IdentityConfig)
    if context.production and not config.allow_in_production:
        raise InvalidRequestError(
            "The local identity does not confirm e-mail addresses, and ECHO_MODE says that this is a production.",
            code="identity_in_production",
            remedy="Set plugins.identity_local.allow_in_production = true if that is what you want; else name another "
            'issuer (auth.issuer), or set auth.identity = "".',
        )
    passwords = Passwords(config.hash_threads)
    try:
        async with _open_google(context, config) as google:
            yield LocalIdentity(context, passwords, google)
    finally:
        passwords.close()


@asynccontextmanager
async def _open_google(context: IdentityContext, config: IdentityConfig) -> AsyncIterator[GoogleSignIn]:
    redirects = Redirects(context.issuer.removesuffix(ROUTES_PATH), config.redirect_urls)
    if not config.google.client_id:
        yield GoogleSignIn(context, None, redirects, sign_up=config.sign_up)
        return
    from echo_identity_local.oidc import open_provider  # and an HTTP client, which most instances do not need

    callback = f"{context.issuer}/callback"
    async with open_provider(config.google, redirect_uri=callback, now=context.clock.now) as provider:
        yield GoogleSignIn(context, provider, redirects, sign_up=config.sign_up)
