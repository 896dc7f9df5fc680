"""A request and its answer as the handlers see them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from starlette.datastructures import Headers

from tests.fakes.gcs.content import FileSlice
from tests.fakes.gcs.errors import Disconnected, Refusal

if TYPE_CHECKING:
    from tests.fakes.gcs.faults import Fault
    from tests.fakes.gcs.world import World

SMALL_BODY_BYTES = 4 * 1024 * 1024


@dataclass
class LoggedRequest:
    """What the log keeps of a request; status 0: it was not answered."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    received: int = 0
    sent: int = 0
    status: int = 0
    fault: bool = False


@dataclass
class Answer:
    """Status, headers and a body: bytes, or part of a file."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    file: FileSlice | None = None


def json_answer(content: Any, status: int = 200, headers: list[tuple[str, str]] | None = None) -> Answer:
    """A JSON document."""
    kind = ("Content-Type", "application/json; charset=UTF-8")
    return Answer(status, [kind, *(headers or [])], json.dumps(content).encode())


class Body:
    """The request's body as it arrives."""

    def __init__(self, receive: Callable[[], Awaitable[Any]], logged: LoggedRequest) -> None:
        self._receive = receive
        self._logged = logged

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            if chunk := message.get("body", b""):
                self._logged.received += len(chunk)
                yield chunk
            if not message.get("more_body", False):
                return

    async def small(self) -> bytes:
        """All of a body that is to be small."""
        whole = bytearray()
        async for chunk in self:
            whole += chunk
            if len(whole) > SMALL_BODY_BYTES:
                raise Refusal(413, "The body of this request is not to be that large.")
        return bytes(whole)

    async def json(self) -> dict[str, Any]:
        """A JSON object; an empty body is an empty one."""
        text = await self.small()
        try:
            content = json.loads(text) if text else {}
        except ValueError:
            raise Refusal(400, "Parse Error", reason="parseError") from None
        if not isinstance(content, dict):
            raise Refusal(400, "Parse Error", reason="parseError")
        return content

    async def drain(self) -> None:
        """Read it to its end."""
        async for _ in self:
            pass


@dataclass
class Call:
    """A request on its way through the fake. ``email`` is the service account that asks, once that is known."""

    world: World
    method: str
    raw_path: str
    raw_query: str
    headers: Headers
    body: Body
    fault: Fault | None = None
    email: str = ""

    def __post_init__(self) -> None:
        self.pairs = parse_qsl(self.raw_query, keep_blank_values=True)
        self.query = dict(self.pairs)
        self.segments = [unquote(segment) for segment in self.raw_path.split("/")[1:]]

    @property
    def base(self) -> str:
        """The address by which the client reached the fake."""
        return f"http://{self.headers.get('host', '')}" if self.headers.get("host") else self.world.url

    def require(self, permission: str, bucket: str, key: str | None = None) -> None:
        """Refuse with 403 where the caller's account lacks the permission."""
        self.world.require(self.email, permission, bucket, key)
