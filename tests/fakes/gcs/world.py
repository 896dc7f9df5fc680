"""All that the fake knows: clock, buckets, objects, permissions, faults, log."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fakes.gcs.accounts import Accounts
from tests.fakes.gcs.call import LoggedRequest
from tests.fakes.gcs.content import Sink
from tests.fakes.gcs.errors import Refusal
from tests.fakes.gcs.faults import FaultQueue
from tests.fakes.gcs.objects import Bucket, Draft, StoredObject, check_preconditions

if TYPE_CHECKING:
    from tests.fakes.gcs.sessions import Session


class Clock:
    """The time of day, and what tests added to it."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.offset_s

    def stamp(self) -> str:
        """The time as the APIs write it."""
        return datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class World:
    """State of one fake. Bytes live in files below ``directory``, all else in memory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.url = ""
        self.clock = Clock()
        self.accounts = Accounts(self.clock.now)
        self.buckets: dict[str, Bucket] = {}
        self.sessions: dict[str, Session] = {}
        self.rewrites: dict[str, int] = {}
        self.denied: set[str] = set()
        self.faults = FaultQueue()
        self.log: list[LoggedRequest] = []
        self._numbers = count(1)
        self._last_generation = 0
        self._lock = threading.Lock()

    def number(self) -> int:
        """The next of the numbers from which ids are made."""
        return next(self._numbers)

    def secret(self, *parts: str) -> str:
        """An id that looks like a secret and is the same in each run."""
        return hashlib.sha256("/".join((*parts, str(self.number()))).encode()).hexdigest()

    def new_sink(self) -> Sink:
        """A new file to write to."""
        return Sink(self.directory / f"{self.number():08d}.bytes")

    def generation(self) -> int:
        """Microseconds, each later than the one before."""
        with self._lock:
            self._last_generation = max(self._last_generation + 1, int(self.clock.now() * 1_000_000))
            return self._last_generation

    def granted(self, permission: str) -> bool:
        """Whether the accounts have it."""
        return permission not in self.denied

    def require(self, email: str, permission: str, bucket: str, key: str | None = None) -> None:
        """Refuse with 403 what is denied."""
        if self.granted(permission):
            return
        what = "Google Cloud Storage object" if key is not None else "Google Cloud Storage bucket"
        raise Refusal(
            403,
            f"{email or 'Anonymous caller'} does not have {permission} access to the {what}. "
            f"Permission '{permission}' denied on resource (or it may not exist).",
        )

    def bucket(self, name: str) -> Bucket:
        """The bucket, or 404."""
        if name not in self.buckets:
            raise Refusal(404, "The specified bucket does not exist.", code="NoSuchBucket")
        return self.buckets[name]

    def create_bucket(self, name: str, fields: Mapping[str, Any]) -> Bucket:
        """A new bucket, or 409."""
        if name in self.buckets:
            raise Refusal(409, "Your previous request to create the named bucket succeeded and you already own it.")
        self.buckets[name] = bucket = Bucket(name, self.clock.stamp(), dict(fields))
        return bucket

    def find(self, bucket: str, key: str, generation: str | None = None) -> StoredObject:
        """The object, of that generation where one is given, or 404."""
        stored = self.bucket(bucket).objects.get(key)
        if stored is None or (generation is not None and generation != str(stored.generation)):
            raise Refusal(404, f"No such object: {bucket}/{key}")
        return stored

    def place(self, draft: Draft, sink: Sink, *, corrupt: bool = False) -> StoredObject:
        """Make the object of what was written, after all checks; what is refused is not stored."""
        try:
            sink.flush()
            bucket = self.bucket(draft.bucket)
            draft.check(sink)
            existing = bucket.objects.get(draft.name)
            check_preconditions(draft.preconditions, existing)
            if existing is not None and draft.email:  # without one, it is a test that writes
                self.require(draft.email, "storage.objects.delete", draft.bucket, draft.name)
        except Refusal:
            sink.discard()
            raise
        sink.finish()
        now = self.clock.stamp()
        stored = StoredObject(
            bucket=draft.bucket,
            name=draft.name,
            generation=self.generation(),
            size=sink.size,
            crc32c=sink.crc32c if not corrupt else "AAAAAA==" if sink.crc32c != "AAAAAA==" else "AAAAAQ==",
            md5=sink.md5 if draft.components is None else None,
            path=sink.path,
            created=now,
            updated=now,
            fields=draft.kept_fields(),
            components=draft.components,
        )
        bucket.objects[draft.name] = stored
        if existing is not None:
            existing.path.unlink(missing_ok=True)
        return stored

    def delete(self, stored: StoredObject) -> None:
        """Remove the object and its bytes."""
        self.bucket(stored.bucket).objects.pop(stored.name, None)
        stored.path.unlink(missing_ok=True)

    def reset(self) -> None:
        """Forget objects, sessions, faults, log, denials and the clock's offset; buckets, keys and tokens stay."""
        self.faults.clear()
        for session in list(self.sessions.values()):
            session.sink.close()
        self.sessions.clear()
        self.rewrites.clear()
        for bucket in self.buckets.values():
            bucket.objects.clear()
        for path in self.directory.glob("*.bytes"):
            path.unlink(missing_ok=True)
        self.denied.clear()
        self.log.clear()
        self.clock.offset_s = 0.0
