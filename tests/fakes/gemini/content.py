"""What a prompt is made of: texts, media with their lengths, and the tokens of it all."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes.gemini.errors import Refusal
from tests.fakes.gemini.world import Declared, StoredFile, World, declared

AUDIO_TOKENS_PER_S = 32
VIDEO_TOKENS_PER_S = 70
IMAGE_TOKENS = 258
TEXT_BYTES_PER_TOKEN = 4


def get(table: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A field by its name in snake case, whichever case it came in."""
    camel = re.sub(r"_(.)", lambda found: found[1].upper(), name)
    return table.get(name, table.get(camel, default))


@dataclass(frozen=True)
class Medium:
    """A sound, film or picture of the prompt. ``data`` is empty for one that only its address is known of."""

    kind: str
    part: Declared
    data: bytes = b""

    @property
    def tokens(self) -> int:
        """What it takes."""
        if self.kind == "image":
            return IMAGE_TOKENS
        picture = VIDEO_TOKENS_PER_S if self.kind == "video" else 0
        return round(self.part.duration_s * (AUDIO_TOKENS_PER_S + picture))


@dataclass(frozen=True)
class Prompt:
    """All of it, in order."""

    texts: tuple[str, ...]
    media: tuple[Medium, ...]
    instruction: str

    @property
    def tokens(self) -> int:
        """What it takes."""
        text = sum(len(text.encode()) for text in (*self.texts, self.instruction))
        return -(-text // TEXT_BYTES_PER_TOKEN) + sum(medium.tokens for medium in self.media)


def read_prompt(world: World, body: Mapping[str, Any]) -> Prompt:
    """The prompt of a request; refuses files that are not there, or not yet."""
    texts: list[str] = []
    media: list[Medium] = []
    contents = body.get("contents") or []
    for content in contents if isinstance(contents, list) else [contents]:
        for part in content.get("parts", []):
            if "text" in part:
                texts.append(part["text"])
            else:
                media.append(_medium(world, part))
    if not texts and not media:
        raise Refusal(400, "* GenerateContentRequest.contents: contents is not specified")
    system = get(body, "system_instruction") or {}
    return Prompt(tuple(texts), tuple(media), " ".join(_texts(system.get("parts", []))))


def _texts(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [part["text"] for part in parts if "text" in part]


def _medium(world: World, part: Mapping[str, Any]) -> Medium:
    if inline := get(part, "inline_data"):
        data = base64.b64decode(inline["data"] + "==", altchars=b"-_" if "_" in inline["data"] else None)
        return Medium(_kind(get(inline, "mime_type")), declared(data), data)
    named = get(part, "file_data")
    if named is None:
        raise Refusal(400, "* GenerateContentRequest.contents: a part has no data")
    uri, kind = get(named, "file_uri"), _kind(get(named, "mime_type"))
    found = _stored(world, uri)
    if found is not None and found.state != "ACTIVE":
        raise Refusal(
            400,
            f"The File {found.name.removeprefix('files/')} is not in an ACTIVE state and usage is not allowed.",
            status="FAILED_PRECONDITION",
        )
    data = found.data if found is not None else b""
    span = declared(data)
    if offsets := get(part, "video_metadata"):
        start = float(str(get(offsets, "start_offset", "0s")).rstrip("s"))
        end = float(str(get(offsets, "end_offset", f"{span.end_s}s")).rstrip("s"))
        span = Declared(start, end)
    return Medium(kind, span, data)


def _stored(world: World, uri: str) -> StoredFile | None:
    """The file behind an address; None for one that is elsewhere."""
    if "/files/" in uri and uri.startswith(world.url):
        return world.file("files/" + uri.rsplit("/files/", 1)[1])
    if not uri.startswith(("https://", "http://127.0.0.1", "gs://")):
        raise Refusal(400, f"Invalid or unsupported file uri: {uri}")
    return None


def _kind(mime_type: str) -> str:
    kind = str(mime_type).split("/", 1)[0]
    if kind not in {"audio", "video", "image"}:
        raise Refusal(400, f"Unsupported MIME type: {mime_type}")
    return kind
