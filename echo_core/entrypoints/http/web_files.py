"""The files of the built web application, in memory, and which of their encodings a client gets.

They are read once at start: no request of theirs touches the disk, so no path can lead out of the folder, and a build
that is replaced under a running process never serves half of each.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import structlog

from echo_core.plugin_api.errors import EchoError

log = structlog.get_logger("echo.http")

MAX_BUILD_BYTES = 64 << 20
"""A build takes two or three MiB; more is another folder that ``web.dir`` names by mistake."""
ENCODINGS: Mapping[str, str] = MappingProxyType({"br": ".br", "gzip": ".gz"})
"""Content codings (RFC 9110, 8.4.1) and the endings of the files that a build compresses for them, the best first."""
MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".ico": "image/vnd.microsoft.icon",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".map": "application/json",
        ".mjs": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".txt": "text/plain; charset=utf-8",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
        ".woff2": "font/woff2",
    }
)
"""What a page stands or falls with is not left to the tables of the operating system."""

_QUALITY = re.compile(r"\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*", re.IGNORECASE)


class BuildError(EchoError):
    """What cannot be a build of the web application."""

    default_code = "web_build_unusable"
    default_remedy = "Let web.dir name the folder that the build has written, or leave it empty."


@dataclass(frozen=True, kw_only=True, slots=True)
class Representation:
    """One way to send a file. ``encoding`` empty: as it is."""

    body: bytes
    etag: str
    encoding: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebFile:
    """A file and its compressed twins, by content coding."""

    media_type: str
    plain: Representation
    encoded: Mapping[str, Representation]

    def chosen(self, accept_encoding: str) -> Representation:
        """The one to send for this Accept-Encoding."""
        return self.encoded.get(preferred_encoding(accept_encoding, tuple(self.encoded)), self.plain)


def load_build(root: Path) -> Mapping[str, WebFile]:
    """All files of a build by their URL path, such as ``/assets/index-4f2a.js``. Hidden ones are left out, and so are
    links that lead out of the folder.

    Raises ``BuildError`` when it is too large to be a build or has no ``index.html``.
    """
    bodies: dict[str, bytes] = {}
    size_bytes = 0
    for path in _paths(root):
        size_bytes += path.stat().st_size
        if size_bytes > MAX_BUILD_BYTES:
            raise BuildError(f"The folder of the web application, {root}, holds more than {MAX_BUILD_BYTES} bytes.")
        bodies[f"/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    files = {name: _web_file(name, bodies) for name in bodies if not _is_twin(name, bodies)}
    if "/index.html" not in files:
        raise BuildError(f"The folder of the web application, {root}, has no index.html.")
    return files


def _paths(root: Path) -> Iterator[Path]:
    home = root.resolve()
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") or name == ".well-known"]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or not path.is_file():
                continue
            if path.resolve().is_relative_to(home):
                yield path
            else:
                log.warning("web.link_ignored", path=str(path), reason="it leads out of the folder")


def _is_twin(name: str, bodies: Mapping[str, bytes]) -> bool:
    return any(name.endswith(ending) and name.removesuffix(ending) in bodies for ending in ENCODINGS.values())


def _web_file(name: str, bodies: Mapping[str, bytes]) -> WebFile:
    plain = bodies[name]
    encoded = {
        encoding: Representation(body=twin, etag=entity_tag_of(plain, encoding), encoding=encoding)
        for encoding, ending in ENCODINGS.items()
        if (twin := bodies.get(name + ending)) is not None and len(twin) < len(plain)
    }
    return WebFile(
        media_type=media_type_of(name), plain=Representation(body=plain, etag=entity_tag_of(plain)), encoded=encoded
    )


def entity_tag_of(body: bytes, encoding: str = "") -> str:
    """A strong entity tag of this content, in this coding."""
    digest = hashlib.sha256(body).hexdigest()[:32]
    return f'"{digest}-{encoding}"' if encoding else f'"{digest}"'


def media_type_of(name: str) -> str:
    """The Content-Type of a file by its name."""
    known = MEDIA_TYPES.get(PurePosixPath(name).suffix.lower())
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"


def preferred_encoding(accept_encoding: str, available: Sequence[str]) -> str:
    """Which of the ``available`` codings, the server's favourite first, this Accept-Encoding wants most (RFC 9110,
    12.5.3); empty: none of them. A weight that cannot be read counts as 0."""
    weights: dict[str, float] = {}
    for entry in accept_encoding.split(","):
        coding, semicolon, parameters = entry.partition(";")
        quality = _QUALITY.fullmatch(parameters)
        weight = 1.0 if not semicolon else float(quality[1]) if quality is not None else 0.0
        weights.setdefault(coding.strip().lower(), weight)

    def wanted(coding: str) -> float:
        return weights.get(coding, weights.get("*", 0.0))

    best = max(available, key=wanted, default="")
    return best if best and wanted(best) > 0 and wanted(best) >= weights.get("identity", 0.0) else ""
