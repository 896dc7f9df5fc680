"""The web application: files that a build made, and one page for every address that is the application's own.

Anything that no route of the API matches comes here (``create_app(web=…)``): a file of the build by its path, else the
page, whose router shows what the address means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit
from uuid import UUID

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from echo_core.application.watching import get_watch_page
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import VideoId
from echo_core.entrypoints.http.errors import UNAVAILABLE_RETRY_S
from echo_core.entrypoints.http.state import services_of
from echo_core.entrypoints.http.web_files import MEDIA_TYPES, Representation, WebFile, entity_tag_of
from echo_core.entrypoints.http.web_heads import PageTemplate, video_head
from echo_core.plugin_api.errors import UnavailableError

ASSETS_PREFIX = "/assets/"
"""Below it the build puts a hash of the content into every name."""
EMBED_PREFIX = "/embed/"
"""Pages that any other page may show in a frame."""
INDEX = "/index.html"
HTML = MEDIA_TYPES[".html"]

IMMUTABLE = "public, max-age=31536000, immutable"
SHORT = "public, max-age=300"
REVALIDATED = "no-cache"

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "via")
"""A proxy that adds one of these may have changed Host: nobody knows what the browser's address bar shows."""
DEFAULT_PORTS = {"http": 80, "https": 443}

PERMISSIONS = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""Of SVG files: they bring their own styles, and no script of theirs runs."""

_VIDEO_PAGE = re.compile(r"/(?:watch|embed)/([^/]+)/?")
_ENTITY_TAG = re.compile(r'(?:W/)?("[!#-~\x80-\xff]*")')
_ENCODED = (b"%2f", b"%5c", b"%00")


class WebApp:
    """Serves the files of a build. ``auth_url`` and ``storage_origins``: where else its scripts may talk to."""

    def __init__(
        self,
        files: Mapping[str, WebFile],
        *,
        public_url: str,
        auth_url: str | None = None,
        storage_origins: Iterable[str] = (),
    ) -> None:
        self._files = files
        self._index = files[INDEX]
        self._template = PageTemplate(self._index.plain.body.decode())
        self._public_url = public_url
        self._public = urlsplit(public_url)
        self._public_origin = origin_of(public_url)
        policy = page_policy(self._public_origin, origin_of(auth_url) if auth_url else None, storage_origins)
        self._page_headers = _page_headers(policy, secure=self._is_secure())
        self._embed_headers = _embed_headers(policy)
        # A worker's script has the policy of its own answer, not that of the page.
        self._script_policy = policy.format(ancestors="'none'")

    def _is_secure(self) -> bool:
        """Whether browsers see a secure context (W3C Secure Contexts, 3.1)."""
        return self._public.scheme == "https" or self._public.hostname in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises ``HTTPException`` 404 and 405."""
        path = _plain_path(scope)
        if path is None:
            raise HTTPException(404)
        if scope["method"] not in {"GET", "HEAD"}:
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        headers = Headers(scope=scope)
        file = self._files.get(path) if path != INDEX else None
        if file is not None:
            response = self._file(path, file, headers)
        elif path.startswith(ASSETS_PREFIX):
            # Never the page: a script tag of an older page must fail as what it is.
            raise HTTPException(404)
        else:
            response = self._elsewhere(scope, headers) or await self._page(scope, path, headers)
        await response(scope, receive, send)

    def _file(self, path: str, file: WebFile, headers: Headers) -> Response:
        own = {"Cache-Control": IMMUTABLE if path.startswith(ASSETS_PREFIX) else SHORT}
        if file.media_type.startswith("text/javascript"):
            own["Content-Security-Policy"] = self._script_policy
        elif file.media_type.startswith("image/svg"):
            own["Content-Security-Policy"] = PICTURE_POLICY
        return _answer(file, file.chosen(_joined(headers, "accept-encoding")), own, headers)

    async def _page(self, scope: Scope, path: str, headers: Headers) -> Response:
        own = self._page_headers
        if path.startswith(EMBED_PREFIX):
            own = self._embed_headers
            scope["state"]["framable"] = True
        named = _VIDEO_PAGE.fullmatch(path)
        if named is None:
            return _answer(self._index, self._index.chosen(_joined(headers, "accept-encoding")), own, headers)
        return await self._video_page(HTTPConnection(scope), named[1], own, headers)

    async def _video_page(
        self, connection: HTTPConnection, name: str, own: Mapping[str, str], headers: Headers
    ) -> Response:
        """The page with the video's own head. One that anybody may not watch is 404 and the page all the same: its
        owner is shown it, and everybody else is told in words."""
        try:
            page = await get_watch_page(services_of(connection), _video_id(name))
        except (UnknownEntityError, ValueError):
            return Response(self._template.unlisted(), 404, own, HTML)
        except UnavailableError:
            return Response(self._template.unlisted(), 503, {**own, "Retry-After": str(UNAVAILABLE_RETRY_S)}, HTML)
        body = self._template.with_head(video_head(page, self._public_url))
        file = WebFile(media_type=HTML, plain=Representation(body=body, etag=entity_tag_of(body)), encoded={})
        return _answer(file, file.plain, own, headers)

    def _elsewhere(self, scope: Scope, headers: Headers) -> Response | None:
        """To the public address, from another name of this machine: uploads and playlists name that one, and a browser
        takes the two for different origins."""
        if self._public.hostname not in LOOPBACK or any(name in headers for name in FORWARDED):
            return None
        default = DEFAULT_PORTS[self._public.scheme]
        try:
            asked = urlsplit(f"//{headers.get('host', '')}")
            name, port = asked.hostname, asked.port or default
        except ValueError:  # no port, no address: nothing that a browser could have asked for
            return None
        if name not in LOOPBACK or name == self._public.hostname or port != (self._public.port or default):
            return None
        query = scope["query_string"].decode("latin-1")
        target = f"{self._public_origin}{scope['raw_path'].decode('latin-1')}{'?' if query else ''}{query}"
        return RedirectResponse(target, 307, {"Cache-Control": "no-store"})


def page_policy(public_origin: str, auth_origin: str | None, storage_origins: Iterable[str]) -> str:
    """What a page may load, run and talk to; ``{ancestors}`` is left to fill in.

    Styles in attributes are refused as well; scripts that set them on elements (CSSOM) are not concerned.
    """
    media = " ".join(dict.fromkeys((public_origin, *storage_origins)))
    live = f"ws{public_origin.removeprefix('http')}"
    talk = " ".join(dict.fromkeys(filter(None, (public_origin, live, auth_origin, *storage_origins))))
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' data: blob: {media}",
            f"media-src 'self' blob: {media}",
            f"connect-src 'self' {talk}",
            "worker-src 'self' blob:",
            "font-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors {ancestors}",
        )
    )


def origin_of(url: str) -> str:
    """Scheme, host and port of an absolute address, as browsers write it in Origin."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port not in {None, DEFAULT_PORTS.get(parts.scheme)} else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def _page_headers(policy: str, *, secure: bool) -> Mapping[str, str]:
    # Over plain HTTP browsers refuse this one, with an error in the console of every page.
    own = {"Cross-Origin-Opener-Policy": "same-origin"} if secure else {}
    return own | {
        "Cache-Control": REVALIDATED,
        "Content-Security-Policy": policy.format(ancestors="'none'"),
        "Permissions-Policy": PERMISSIONS,
        # The address of a page holds no token; of other origins only this one's name is told.
        "Referrer-Policy": "strict-origin-when-cross-origin",
    }


def _embed_headers(policy: str) -> Mapping[str, str]:
    own = {**_page_headers(policy, secure=False), "Content-Security-Policy": policy.format(ancestors="*")}
    # A page that isolates itself (COEP) can show it only so.
    own["Cross-Origin-Resource-Policy"] = "cross-origin"
    return own


def _answer(file: WebFile, chosen: Representation, own: Mapping[str, str], headers: Headers) -> Response:
    """The file, or 304 where the client has it. That one repeats the policies: a cache takes them over."""
    sent = {**own, "ETag": chosen.etag}
    if file.encoded:
        sent["Vary"] = "Accept-Encoding"
    if _has(chosen.etag, _joined(headers, "if-none-match")):
        return Response(status_code=304, headers=sent)
    if chosen.encoding:
        sent["Content-Encoding"] = chosen.encoding
    return Response(chosen.body, headers={**sent, "Content-Type": file.media_type})


def _video_id(name: str) -> VideoId:
    """Raises ``ValueError`` unless it is an id in its usual form."""
    if str(UUID(name)) != name.lower():
        raise ValueError("not the usual form of a UUID")
    return VideoId(UUID(name))


def _has(etag: str, if_none_match: str) -> bool:
    """Whether the client's copies are named (RFC 9110, 13.1.2: weak comparison)."""
    return if_none_match.strip() == "*" or etag in _ENTITY_TAG.findall(if_none_match)


def _joined(headers: Headers, name: str) -> str:
    return ",".join(headers.getlist(name))


def _plain_path(scope: Scope) -> str | None:
    """The path; None for what no link of ours says: hidden separators, dots that climb, control characters."""
    path: str = scope["path"]
    if not path.startswith("/") or any(encoded in scope["raw_path"].lower() for encoded in _ENCODED):
        return None
    if "\\" in path or any(ord(character) < 32 or ord(character) == 127 for character in path):
        return None
    *folders, last = path.removeprefix("/").split("/")
    return None if {"", ".", ".."} & set(folders) or last in {".", ".."} else path
