"""Uploads: bytes arriving, before they are a video that anybody can watch."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from echo_core.domain.errors import ConflictError, InvalidInputError, TooLargeError
from echo_core.domain.ids import UserId, VideoId
from echo_core.domain.stored_objects import StoredObject

MAX_FILENAME_LENGTH = 255
"""Characters of an original file name that are kept; the limit of every common file system."""
MAX_SAFE_NAME_LENGTH = 100
"""Characters of the sanitised last part of a source key; well below every store's limit."""

_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


class UploadState(StrEnum):
    """``open`` until somebody found the whole object: then ``completed``, or ``quarantined`` if it is not what was
    announced. ``expired`` when neither came before the time was up, or the video was deleted."""

    OPEN = "open"
    COMPLETED = "completed"
    QUARANTINED = "quarantined"
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload(StoredObject):
    """The one upload of a video. ``backend_state`` is a secret of the storage backend; never show it.

    ``generation`` and ``checksum`` are those of the object that was looked at in ``backend`` when it was whole; only
    that object, or a verified copy in another storage, is ever read, and none of a quarantined upload. ``size_bytes``
    is what was announced until then, and what the object has from then on. ``quarantine_code`` and
    ``quarantine_message`` say why it is quarantined.
    """

    video_id: VideoId
    owner_id: UserId
    state: UploadState
    storage_key: str
    filename: str
    content_type: str
    size_bytes: int | None
    backend: str
    backend_state: str
    expires_at: datetime
    created_at: datetime
    completed_at: datetime | None = None
    generation: str = ""
    checksum: str = ""
    quarantine_code: str = ""
    quarantine_message: str = ""

    @property
    def unfinished(self) -> bool:
        """It waits for its owner, and ends by itself when the time is up."""
        return self.state in (UploadState.OPEN, UploadState.QUARANTINED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """In what a stored object is not what was announced."""

    code: str
    message: str


def announcement_mismatch(upload: Upload, *, size_bytes: int, content_type: str) -> Mismatch | None:
    """In what an object of that size and type is not what the upload was announced as."""
    if upload.size_bytes is not None and upload.size_bytes != size_bytes:
        return Mismatch(
            code="upload_size_mismatch",
            message=f"The file was announced with {upload.size_bytes} bytes, and {size_bytes} were stored.",
        )
    stored_type = content_type.partition(";")[0].strip().lower()
    if stored_type != upload.content_type:
        return Mismatch(
            code="upload_content_type_mismatch",
            message=f"The file was announced as {upload.content_type} and stored as {stored_type or 'nothing'}.",
        )
    return None


def checksum_mismatch(announced: str | None, stored: str) -> Mismatch | None:
    """Whether the bytes are others than those that the client has. Checksums by different algorithms tell nothing."""
    if announced is None or announced == stored or announced.partition(":")[0] != stored.partition(":")[0]:
        return None
    return Mismatch(
        code="upload_checksum_mismatch",
        message=f"The file was announced with the checksum {announced}, and what was stored has {stored}.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageUse:
    """What one owner's videos take of the storage, in bytes. ``unfinished`` uploads count with their announced size;
    ``derived_bytes`` are renditions, pictures and all else that was made of the sources."""

    unfinished: int = 0
    unfinished_bytes: int = 0
    source_bytes: int = 0
    derived_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.unfinished_bytes + self.source_bytes + self.derived_bytes

    def check_quota(self, quota_bytes: int, more_bytes: int) -> None:
        """Raise ``TooLargeError`` (``quota_exceeded``) if so many more bytes are over the quota; 0: there is none."""
        if quota_bytes and self.total_bytes + more_bytes > quota_bytes:
            raise TooLargeError(
                f"Your videos take {self.total_bytes} of {quota_bytes} bytes (upload.quota_bytes): sources "
                f"{self.source_bytes}, what was made of them {self.derived_bytes}, unfinished uploads "
                f"{self.unfinished_bytes}. {more_bytes} more do not fit.",
                code="quota_exceeded",
                remedy="Delete videos or unfinished uploads that you do not need, or ask the operator for more room.",
            )

    def check_unfinished(self, limit: int) -> None:
        """Raise ``ConflictError`` (``too_many_unfinished_uploads``) if there may be no more."""
        if self.unfinished >= limit:
            raise ConflictError(
                f"You have {self.unfinished} unfinished uploads; {limit} are the most (upload.max_unfinished).",
                code="too_many_unfinished_uploads",
                remedy="Finish or delete some of them; those that nobody finishes vanish by themselves.",
            )


def check_filename(filename: str) -> str:
    """Return the file name to show: without control characters or directories, at most 255 characters.

    Raises ``InvalidInputError`` (code ``invalid_filename``) if nothing is left of it.
    """
    text = unicodedata.normalize("NFC", filename).encode("utf-8", "replace").decode()
    last = re.split(r"[/\\]", text)[-1]
    shown = "".join(c for c in last if unicodedata.category(c)[0] != "C" or c == "\u200d").strip()
    if shown in {"", ".", ".."}:
        raise InvalidInputError("The file name is empty.", code="invalid_filename", remedy="Send the file's name.")
    if len(shown) > MAX_FILENAME_LENGTH:
        stem, dot, extension = shown.rpartition(".")
        keep = f".{extension[:16]}" if dot and stem else ""
        shown = shown[: MAX_FILENAME_LENGTH - len(keep)] + keep
    return shown


def safe_name(filename: str) -> str:
    """The last part of a source key: ``[a-z0-9._-]``, 1 to 100 characters, never hidden, extension kept."""
    text = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9._-]+", "-", re.split(r"[/\\]", text)[-1])
    text = re.sub(r"\.{2,}", ".", text).rstrip("-._")
    stem, dot, extension = text.rpartition(".")
    if not dot:
        stem, extension = text, ""
    extension = extension[:16].strip("-._")
    stem = stem[: MAX_SAFE_NAME_LENGTH - len(extension) - 1].strip("-._") or "video"
    return f"{stem}.{extension}" if extension else stem


def source_key(video_id: VideoId, filename: str) -> str:
    """Where the source of a video is stored."""
    return f"{video_prefix(video_id)}source/{safe_name(filename)}"


def video_prefix(video_id: VideoId) -> str:
    """Everything of a video lies below this."""
    return f"videos/{video_id}/"


def artefact_key(video_id: VideoId, step: str, lease_token: int, name: str) -> str:
    """Where an artefact of one run of a step is stored.

    The lease token makes the key unique to that run: a worker that lost its lease and wakes up can never touch the
    bytes of the run that replaced it, and no object is ever overwritten.
    """
    return f"{step_prefix(video_id, step)}{lease_token}/{name}"


def step_prefix(video_id: VideoId, step: str) -> str:
    """What the keys of all artefacts of a step begin with."""
    return f"{video_prefix(video_id)}{step}/"


def lease_token_of(key: str, prefix: str) -> int | None:
    """The lease token in a key below ``step_prefix``; None: it is no artefact's."""
    token = key.removeprefix(prefix).partition("/")[0]
    return int(token) if key.startswith(prefix) and token.isascii() and token.isdigit() else None


def check_content_type(content_type: str) -> str:
    """Return the bare lower-case type. Raises ``InvalidInputError`` unless it is one of video, audio or unspecified."""
    bare = content_type.partition(";")[0].strip().lower()
    if _CONTENT_TYPE.fullmatch(bare) is None:
        raise InvalidInputError(
            "The content type is not valid.",
            code="invalid_content_type",
            remedy="Send the file's media type, for example video/mp4.",
        )
    if not bare.startswith(("video/", "audio/")) and bare not in {"application/octet-stream", "application/mxf"}:
        raise InvalidInputError(
            f"Files of type {bare} are not videos.",
            code="unsupported_content_type",
            remedy="Choose a video or audio file, such as .mp4, .mov, .mkv, .webm or .mp3.",
        )
    return bare


def title_from_filename(filename: str) -> str:
    """A first title: the file name without extension, separators as spaces."""
    stem = filename.rpartition(".")[0] or filename
    return re.sub(r"[\s_]+", " ", stem).strip() or filename
