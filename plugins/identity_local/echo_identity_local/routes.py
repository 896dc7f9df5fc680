"""The HTTP routes, below ``/auth/v1``: the part of the Supabase Auth API that supabase-js uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from echo_identity_local.store import STATE_LIFETIME
from echo_identity_local.throttle import address_key
from echo_identity_local.wire import (
    ApiError,
    PasswordGrant,
    PkceGrant,
    RefreshGrant,
    SignUp,
    UserUpdate,
    answer,
    read_body,
    refusal,
)

if TYPE_CHECKING:
    from echo_identity_local.provider import LocalIdentity

log = structlog.get_logger("echo.identity")

JWKS_CACHE = "public, max-age=600"
"""As Supabase serves it."""
Handler = Callable[[Request], Awaitable[Response]]


def make_routes(identity: LocalIdentity) -> list[BaseRoute]:
    """The routes of that identity."""
    cookie = _BrowserCookie(identity.issuer)

    async def sign_up(request: Request) -> Response:
        return answer(await identity.sign_up(await read_body(request, SignUp), _address(request)))

    async def token(request: Request) -> Response:
        grant = request.query_params.get("grant_type")
        if grant == "password":
            return answer(await identity.sign_in(await read_body(request, PasswordGrant), _address(request)))
        if grant == "refresh_token":
            return answer(await identity.refresh(await read_body(request, RefreshGrant)))
        if grant == "pkce":
            return answer(await identity.exchange(await read_body(request, PkceGrant)))
        raise ApiError(400, "invalid_credentials", "unsupported_grant_type")

    async def user(request: Request) -> Response:
        if request.method == "PUT":
            wanted = await read_body(request, UserUpdate)
            return answer(await identity.update(_bearer(request), wanted, _address(request)))
        return answer(await identity.user(_bearer(request)))

    async def sign_out(request: Request) -> Response:
        await identity.sign_out(_bearer(request), request.query_params.get("scope", "global"))
        return Response(status_code=204)

    async def authorize(request: Request) -> Response:
        identity.admit_address(_address(request))
        departure = await identity.google.begin(request.query_params, request.cookies.get(cookie.name, ""))
        response = _redirect(departure.url)
        if departure.browser:
            cookie.set(response, departure.browser)
        return response

    async def callback(request: Request) -> Response:
        identity.admit_address(_address(request))
        return _redirect(await identity.google.finish(request.query_params, request.cookies.get(cookie.name, "")))

    async def jwks(_: Request) -> Response:
        return answer(identity.public_keys(), cache=JWKS_CACHE)

    async def settings(_: Request) -> Response:
        return answer(
            {
                "external": {"email": True, "phone": False, "anonymous_users": False, "google": identity.google.is_on},
                "disable_signup": not identity.config.sign_up,
                "mailer_autoconfirm": True,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
            }
        )

    async def health(_: Request) -> Response:
        await identity.check()
        return answer({"name": "Echo identity", "description": "Users and sign-in of this Echo instance"})

    return [
        Route("/signup", _edge(sign_up), methods=["POST"]),
        Route("/token", _edge(token), methods=["POST"]),
        Route("/user", _edge(user), methods=["GET", "PUT"]),
        Route("/authorize", _edge(authorize), methods=["GET"]),
        Route("/callback", _edge(callback), methods=["GET"]),
        Route("/logout", _edge(sign_out), methods=["POST"]),
        Route("/.well-known/jwks.json", _edge(jwks), methods=["GET"]),
        Route("/settings", _edge(settings), methods=["GET"]),
        Route("/health", _edge(health), methods=["GET"]),
    ]


class _BrowserCookie:
    """What shows that whoever comes back from a provider is the browser that was sent there. It signs nobody in."""

    def __init__(self, issuer: str) -> None:
        parts = urlsplit(issuer)
        self._path = parts.path
        self._secure = parts.scheme == "https"
        # With the prefix, no page without TLS can have set it (RFC 6265bis, 4.1.3.1).
        self.name = "__Secure-echo-sign-in" if self._secure else "echo-sign-in"

    def set(self, response: Response, browser: str) -> None:
        # Lax: sent with the navigation back from the provider, never with requests that another page makes.
        response.set_cookie(
            self.name,
            browser,
            max_age=int(STATE_LIFETIME.total_seconds()),
            path=self._path,
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )


def _redirect(url: str) -> Response:
    # The query may hold a code: neither caches nor the next page's servers are to see it.
    headers = {"Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return Response(status_code=302, headers=headers)


def _edge(handler: Handler) -> Handler:
    """Refusals as supabase-js expects them; what else happens is for the kernel's own errors."""

    async def serve(request: Request) -> Response:
        try:
            return await handler(request)
        except ApiError as error:
            return refusal(error)
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            # Whatever is wrong with the database, 5xx tells supabase-js to keep its session and try again.
            log.exception("identity.unavailable", error=type(error).__name__)
            return refusal(ApiError(503, "unexpected_failure", "The database cannot be used", retry_after_s=5))

    return serve


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _address(request: Request) -> str:
    return address_key(request.client.host if request.client is not None else None)
