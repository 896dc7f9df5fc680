"""Rate limits over HTTP: who is counted as whom, what a refusal says, and the header fields.

``RateLimit`` and ``RateLimit-Policy`` follow draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

import structlog
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from echo_core.application.rate_limiting import Buckets, RateLimiter, RatePolicy, Verdict
from echo_core.domain.users import User
from echo_core.entrypoints.http.errors import RequestError, handle_echo_error, new_problem, problem_response
from echo_core.entrypoints.http.middleware import QUIET_PATHS
from echo_core.entrypoints.http.refusals import refuse_websocket
from echo_core.entrypoints.http.state import rate_limiter_of, user_of

log = structlog.get_logger("echo.http")

CODE = "rate_limited"
UNKNOWN = "unknown"
"""Whoever has no address that can be read: all of them share one bucket."""
MAX_ADDRESS_LENGTH = 64
"""Characters; the longest IPv6 address with a zone is shorter. A proxy may pass on anything."""


class AddressLimit:
    """Middleware: requests and WebSockets of one address, whoever asks.

    Bytes of media and uploads are not counted: their URLs are signed, and a player asks for hundreds of ranges. They
    are the routes of plugins that look after themselves. Neither are the scripts and styles of the web application.
    """

    def __init__(
        self, app: ASGIApp, *, limiter: RateLimiter, exempt_prefixes: Sequence[str], behind_proxy: bool
    ) -> None:
        self.app = app
        self._buckets = limiter.addresses
        self._exempt = tuple(exempt_prefixes)
        self._watches_for_proxies = not behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or refuse it with 429."""
        if scope["type"] != "lifespan" and self._buckets is not None:
            path = scope["path"]
            if path not in QUIET_PATHS and not path.startswith(self._exempt):
                if self._watches_for_proxies:
                    self._warn_of_proxy(scope)
                verdict = self._buckets.take(address_of(scope))
                if not verdict.admitted:
                    await _refuse(scope, receive, send, limit_error(self._buckets, verdict))
                    return
        await self.app(scope, receive, send)

    def _warn_of_proxy(self, scope: Scope) -> None:
        """Once: behind a proxy that is not trusted, everybody is counted as that proxy."""
        if any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            self._watches_for_proxies = False
            log.warning(
                "http.proxy_not_trusted",
                address=address_of(scope),
                remedy="If this is a proxy of yours, name it in http.trusted_proxies: until then all that come through "
                "it share one rate limit.",
            )


def admit_user(connection: HTTPConnection) -> None:
    """Count a request of the authenticated caller; its answer will tell what is left.

    Raises ``RequestError`` 429.
    """
    limiter = rate_limiter_of(connection)
    if limiter is None or limiter.users is None:
        return
    verdict = limiter.users.take(str(user_of(connection).id))
    if not verdict.admitted:
        raise limit_error(limiter.users, verdict)
    connection.scope["state"]["rate_limit"] = (
        (b"ratelimit-policy", policy_field(limiter.users.policy)),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (limiter.users.policy.name.encode(), verdict.remaining, verdict.wait_s)),
    )


async def handle_refusal(request: Request, error: Exception) -> Response:
    """Starlette's handler for ``EchoError``: 401 becomes 429 for an address that got it too often.

    A good token is always let in, so that one bad neighbour behind the same address shuts nobody out.
    """
    response = await handle_echo_error(request, error)
    if response.status_code != 401:
        return response
    limited = count_failure(request)
    return response if limited is None else limit_response(limited)


def count_failure(connection: HTTPConnection) -> RequestError | None:
    """Count an attempt of this address that did not prove who it is; the refusal if there were too many."""
    limiter = rate_limiter_of(connection)
    if limiter is None or limiter.failures is None:
        return None
    verdict = limiter.failures.take(address_of(connection.scope))
    return None if verdict.admitted else limit_error(limiter.failures, verdict)


def socket_is_refused(scope: Scope, user: User | None) -> bool:
    """Count a WebSocket that has said who it is (None: it did not prove it); whether there were too many."""
    connection = HTTPConnection(scope)
    if user is None:
        return count_failure(connection) is not None
    limiter = rate_limiter_of(connection)
    return limiter is not None and limiter.users is not None and not limiter.users.take(str(user.id)).admitted


def limit_error(buckets: Buckets, verdict: Verdict) -> RequestError:
    """The refusal: which limit, who sets it, and when to come back."""
    policy = buckets.policy
    return RequestError(
        429,
        CODE,
        f"More than {policy.quota} requests within {policy.window_s} s, the limit set by {policy.setting}.",
        f"Wait {verdict.wait_s} s (Retry-After), then go on more slowly; RateLimit tells how many are left.",
        headers={
            "Retry-After": str(verdict.wait_s),
            "RateLimit-Policy": policy_field(policy).decode(),
            "RateLimit": f'"{policy.name}";r=0;t={verdict.wait_s}',
        },
    )


def limit_response(error: RequestError) -> Response:
    """The refusal as a problem document."""
    problem = new_problem(error.status, error.code, error.detail, error.remedy)
    return problem_response(problem, error.headers)


@functools.cache
def policy_field(policy: RatePolicy) -> bytes:
    """The value of ``RateLimit-Policy``; the same in every answer."""
    return f'"{policy.name}";q={policy.quota};w={policy.window_s}'.encode()


def address_of(scope: Scope) -> str:
    """Whom an address is counted as. Behind trusted proxies the server has put the client's there."""
    client = scope.get("client")
    return _network(client[0]) if client and len(client[0]) <= MAX_ADDRESS_LENGTH else UNKNOWN


@functools.lru_cache(maxsize=4096)
def _network(host: str) -> str:
    """An IPv4 address itself; of an IPv6 address the /64, which is what one subscriber has."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


async def _refuse(scope: Scope, receive: Receive, send: Send, error: RequestError) -> None:
    if scope["type"] == "http":
        await limit_response(error)(scope, receive, send)
    else:
        await receive()  # websocket.connect
        await refuse_websocket(scope, send, limit_response(error))
