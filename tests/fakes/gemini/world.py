"""What the fake holds: files, uploads, the script, the log."""

from __future__ import annotations

import base64
import json
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

from tests.fakes.gemini.errors import Refusal
from tests.fakes.gemini.faults import FaultQueue

API_KEY = "fake-gemini-key"
TOKEN = "fake-vertex-token"
PROJECT = "echo-test"
UNKNOWN_DURATION_S = 60.0
OPUS_HZ = 48_000
LIFETIME = timedelta(hours=48)


@dataclass
class LoggedRequest:
    """What the log keeps of a request; status 0: it was not answered."""

    method: str
    path: str
    headers: dict[str, str]
    received: int = 0
    status: int = 0
    fault: str = ""
    body: Any = None


@dataclass(frozen=True)
class Spoken:
    """A line of the script: said from ``start_s`` to ``end_s`` of the whole video."""

    start_s: float
    end_s: float
    text: str


@dataclass
class StoredFile:
    """A file of the Files API. ``waits``: how many looks it is still in processing."""

    name: str
    mime_type: str
    display_name: str
    data: bytes
    created_at: datetime
    uri: str
    state: str = "PROCESSING"
    waits: int = 1

    def resource(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "name": self.name,
            "displayName": self.display_name,
            "mimeType": self.mime_type,
            "sizeBytes": str(len(self.data)),
            "createTime": self.created_at.isoformat().replace("+00:00", "Z"),
            "updateTime": self.created_at.isoformat().replace("+00:00", "Z"),
            "expirationTime": (self.created_at + LIFETIME).isoformat().replace("+00:00", "Z"),
            "sha256Hash": base64.b64encode(sha256(self.data).hexdigest().encode()).decode(),
            "uri": self.uri,
            "state": self.state,
            **({"error": {"code": 3, "message": "Could not be processed."}} if self.state == "FAILED" else {}),
        }


@dataclass
class Upload:
    """A resumable upload that was begun."""

    fields: Mapping[str, Any]
    mime_type: str
    size_bytes: int
    data: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True)
class Declared:
    """Which part of a video a sound or film is; see the package."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.end_s - self.start_s


def declared(data: bytes) -> Declared:
    """What the bytes say of themselves."""
    head = data[:400].split(b"\n", 1)[0]
    if head.startswith(b"{"):
        said = json.loads(head)
        return Declared(float(said["start_s"]), float(said["end_s"]))
    if data.startswith(b"OggS"):
        last = data.rfind(b"OggS")
        return Declared(0.0, struct.unpack_from("<q", data, last + 6)[0] / OPUS_HZ)
    return Declared(0.0, UNKNOWN_DURATION_S)


class World:
    """The state of one fake."""

    def __init__(self) -> None:
        self.url = ""
        self.lock = threading.Lock()
        self.faults = FaultQueue()
        self.retired: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """As it was in the beginning."""
        self.faults.clear()
        self.files: dict[str, StoredFile] = {}
        self.uploads: dict[str, Upload] = {}
        self.script: list[Spoken] = []
        self.log: list[LoggedRequest] = []
        self.retired.clear()
        self.age = timedelta()
        self._numbers = count(1)

    def now(self) -> datetime:
        """The fake's time."""
        return datetime.now(UTC) + self.age

    def next_id(self) -> str:
        """The next name that is free."""
        return f"f{next(self._numbers):06d}"

    def file(self, name: str) -> StoredFile:
        """The file of this name (``files/…``)."""
        found = self.files.get(name)
        if found is None:
            raise Refusal(
                403, f"You do not have permission to access the File {name.removeprefix('files/')} or it may not exist."
            )
        return found
