"""What an interrupted upload leaves behind, so that running the same command again continues it.

One small JSON file for each (file, size, modification time, instance, account). It holds ids and an idempotency key,
never a token or an upload address: the server gives a fresh address for the asking.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.problems import CliError
from echo_core.entrypoints.cli.sources import SourceFile


@dataclass
class UploadRecord:
    """How far an upload is. The idempotency key is written down before the first request, so that a crash between that
    and its answer cannot make a second video."""

    idempotency_key: str = field(default_factory=lambda: uuid.uuid4().hex)
    video_id: str = ""
    storage_path: str = ""
    job_id: str = ""
    """Set once all bytes were accepted; what is left is watching."""


@dataclass(frozen=True, kw_only=True)
class UploadIdentity:
    """Which upload a record is about; ``account`` is the user's id."""

    source: SourceFile
    url: str
    account: str

    @property
    def name(self) -> str:
        """The record's file name."""
        path = os.path.realpath(self.source.path)
        facts = [path, self.source.size_bytes, self.source.modified_ns, self.url, self.account]
        return f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:40]}.json"


class OpenRecord:
    """A record that belongs to this process until ``RecordStore.open`` ends."""

    def __init__(self, path: Path, record: UploadRecord, *, found: bool) -> None:
        self.path = path
        self.record = record
        self.found = found
        """Whether an earlier run left it."""

    def save(self) -> None:
        """Write it down: whole or not at all."""
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self.record)), encoding="utf-8")
        partial.chmod(0o600)
        partial.replace(self.path)

    def start_over(self) -> None:
        """Forget the upload that the record was about."""
        self.record = UploadRecord()
        self.save()

    def remove(self) -> None:
        """There is nothing left to continue."""
        self.path.unlink(missing_ok=True)


class RecordStore:
    """The records below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def open(self, identity: UploadIdentity) -> Iterator[OpenRecord]:
        """The record of an upload, made at need. Raises ``CliError`` (``already_uploading``) while another process has
        it; a lock of the kernel's ends with the process, however that ends."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / identity.name
        # The lock is a file of its own: the record is replaced as a whole, which would leave the lock behind.
        lock = path.with_suffix(".lock")
        with _locked(lock, identity):
            record = _read(path)
            opened = OpenRecord(path, record or UploadRecord(), found=record is not None)
            try:
                yield opened
            finally:
                if not path.exists():
                    lock.unlink(missing_ok=True)


@contextmanager
def _locked(lock: Path, identity: UploadIdentity) -> Iterator[None]:
    while True:
        with lock.open("w", encoding="utf-8") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CliError(
                    f"{identity.source.path} is being uploaded by another echoctl.",
                    code="already_uploading",
                    remedy="Wait for that one, or end it and run this command again: it continues.",
                    exit_code=ExitCode.ALREADY_RUNNING,
                ) from error
            if _is_same_file(held.fileno(), lock):
                yield
                return
            # Its last holder removed it between our opening and our locking it.


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(path: Path) -> UploadRecord | None:
    """The record; None when there is none, or one that cannot be understood (then the upload starts over)."""
    try:
        return UploadRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
