"""What the head of a video's page says to those that run no script: Open Graph, players' cards, search engines.

Sources: https://ogp.me (structured properties, ``video.other``) and X's documentation of the player card. All text is
a person's and is escaped, in element content as in attributes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from echo_core.application.playback import poster_of
from echo_core.application.watching import WatchPage
from echo_core.domain.videos import Visibility

SITE = "Echo"
MARKER = "<!--echo:head-->"
"""Where a build leaves room for this; else it goes before the end of the head."""
NOINDEX = '<meta name="robots" content="noindex">'
MAX_DESCRIPTION_LENGTH = 300
"""Characters; every reader of these tags cuts them shorter."""
DEFAULT_SIZE = (1280, 720)
"""Of a player for what has no picture, or whose size is not known."""

_TITLE = re.compile(r"<title>.*?</title>", re.IGNORECASE | re.DOTALL)


class PageTemplate:
    """The page of a build, with room for another head."""

    def __init__(self, page: str) -> None:
        self._title = found[0] if (found := _TITLE.search(page)) is not None else ""
        untitled = _TITLE.sub("", page, count=1)
        before, marker, after = untitled.partition(MARKER)
        if not marker:
            before, end, after = untitled.partition("</head>")
            after = end + after
        self._before, self._after = before, after

    def with_head(self, head: str) -> bytes:
        """The page with this in its head, a title included."""
        return f"{self._before}{head}{self._after}".encode()

    def unlisted(self) -> bytes:
        """The page as it is, for no search engine."""
        return self.with_head(self._title + NOINDEX)


def video_head(page: WatchPage, public_url: str) -> str:
    """The title and the tags of a video's page."""
    video = page.video
    title, description = video.title or SITE, _short(video.description)
    parts = [f"<title>{html.escape(title)}</title>", f'<link rel="canonical" href="{_watch_url(page, public_url)}">']
    if video.visibility is not Visibility.PUBLIC:
        parts.append(NOINDEX)
    named = [("description", description), *_card(page, public_url, title, description)]
    parts += [f'<meta name="{name}" content="{html.escape(text)}">' for name, text in named if text]
    graph = _open_graph(page, public_url, title, description)
    parts += [f'<meta property="{name}" content="{html.escape(text)}">' for name, text in graph if text]
    return "".join(parts)


def _open_graph(page: WatchPage, public_url: str, title: str, description: str) -> Iterator[tuple[str, str]]:
    yield "og:site_name", SITE
    yield "og:type", "video.other"
    yield "og:url", _watch_url(page, public_url)
    yield "og:title", title
    yield "og:description", description
    if poster := _poster_url(page, public_url):
        yield "og:image", poster
        yield "og:image:secure_url", poster if poster.startswith("https:") else ""
        yield "og:image:type", "image/jpeg"
        width, height = _poster_size(page)
        yield "og:image:width", str(width or "")
        yield "og:image:height", str(height or "")
        yield "og:image:alt", title
    embed = _embed_url(page, public_url)
    width, height = _size(page)
    yield "og:video", embed
    yield "og:video:url", embed
    yield "og:video:secure_url", embed if embed.startswith("https:") else ""
    yield "og:video:type", "text/html"
    yield "og:video:width", str(width)
    yield "og:video:height", str(height)
    if page.video.duration_s is not None:
        yield "video:duration", str(max(1, round(page.video.duration_s)))
    yield "video:release_date", page.video.created_at.isoformat()
    for tag in page.video.tags:
        yield "video:tag", tag


def _card(page: WatchPage, public_url: str, title: str, description: str) -> Iterator[tuple[str, str]]:
    embed = _embed_url(page, public_url)
    # A player card whose player is not https is not shown at all.
    plays = embed.startswith("https:")
    yield "twitter:card", "player" if plays else "summary_large_image"
    yield "twitter:title", title
    yield "twitter:description", description
    yield "twitter:image", _poster_url(page, public_url)
    if plays:
        width, height = _size(page)
        yield "twitter:player", embed
        yield "twitter:player:width", str(width)
        yield "twitter:player:height", str(height)


def _watch_url(page: WatchPage, public_url: str) -> str:
    return f"{public_url}/watch/{page.video.id}"


def _embed_url(page: WatchPage, public_url: str) -> str:
    return f"{public_url}/embed/{page.video.id}"


def _poster_url(page: WatchPage, public_url: str) -> str:
    """Empty: there is none. Another address after each change: scrapers keep pictures for days."""
    if poster_of(page.video, page.artefacts) is None:
        return ""
    version = f"{page.video.updated_at.timestamp() * 1000:.0f}"
    return f"{public_url}/api/v1/stream/video/{page.video.id}/poster.jpg?v={version}"


def _poster_size(page: WatchPage) -> tuple[int, int]:
    """In pixels; 0: not known."""
    poster = poster_of(page.video, page.artefacts)
    width, height = (poster.facts.get(name) if poster is not None else None for name in ("width", "height"))
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def _size(page: WatchPage) -> tuple[int, int]:
    video = page.video
    return (video.width, video.height) if video.width and video.height else DEFAULT_SIZE


def _short(text: str) -> str:
    """One line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= MAX_DESCRIPTION_LENGTH:
        return line
    cut = line[: MAX_DESCRIPTION_LENGTH - 1]
    return f"{cut.rpartition(' ')[0] or cut}…"
