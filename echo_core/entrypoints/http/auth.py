"""Who asks: a bearer token, or a playback token in the query where players cannot send headers."""

from __future__ import annotations

import contextlib

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from echo_core.application.watching import ANYBODY, public_viewer, viewer
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import VideoId
from echo_core.domain.users import User
from echo_core.entrypoints.http.parameters import path_uuid
from echo_core.entrypoints.http.rate_limits import admit_user
from echo_core.entrypoints.http.state import api_state, services_of, user_of
from echo_core.plugin_api.errors import AuthError

MAX_TOKEN_LENGTH = 8192
"""Characters; what fits into one header line of every common proxy."""


async def authenticate(connection: HTTPConnection) -> None:
    """Set ``state.user`` from the Authorization header.

    Raises ``AuthError`` (``token_missing``, ``token_expired``, ``token_invalid``).
    """
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise AuthError(
            "This needs a bearer token.", code="token_missing", remedy="Sign in and send Authorization: Bearer <token>."
        )
    if len(token) > MAX_TOKEN_LENGTH:
        raise AuthError("The token is too long.", code="token_invalid", remedy="Sign in again.")
    connection.state.user = await services_of(connection).tokens.verify(token)


async def authenticate_viewer(request: Request, *, tokenless: bool = False) -> None:
    """Set ``state.user`` and ``is_anybody`` from ``?token=`` (a playback token of the path's video), else from the
    Authorization header; ``state.playback_token`` is what further addresses of the same video shall carry.
    ``tokenless``: whoever brings neither may see what is of an unlisted or public video.

    Raises ``AuthError``, and ``UnknownEntityError`` when anybody's token is of a video that has become private.
    """
    state = api_state(request)
    video_id = VideoId(path_uuid(request, "videoId"))
    token = request.query_params.get("token", "")
    if token:
        if len(token) > MAX_TOKEN_LENGTH:
            raise AuthError("The token is too long.", code="token_invalid", remedy="Read the video's details again.")
        found = await viewer(state.services, token, video_id)
        request.state.user, request.state.is_anybody = found.user, found.anybody
        request.state.playback_token = token
        return
    if tokenless and "authorization" not in request.headers:
        # What is private is refused as ever: without credentials nobody learns that it is there.
        with contextlib.suppress(UnknownEntityError):
            found = await public_viewer(state.services, video_id)
            request.state.user, request.state.is_anybody = found.user, found.anybody
            request.state.playback_token = state.playback_addresses.token(ANYBODY, video_id)
            return
    await authenticate(request)
    request.state.is_anybody = False
    request.state.playback_token = state.playback_addresses.token(request.state.user.id, video_id)


class RequireUser:
    """Middleware for the routes of plugins that want only authenticated callers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        connection = HTTPConnection(scope)
        await authenticate(connection)
        admit_user(connection)
        await self.app(scope, receive, send)


async def current_user(request: Request) -> User:
    """The caller of any request. Raises ``AuthError``."""
    await authenticate(request)
    return user_of(request)
