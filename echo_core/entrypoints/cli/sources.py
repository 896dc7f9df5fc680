"""Files that are to be uploaded: what can be said against them before any request."""

from __future__ import annotations

import mimetypes
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from echo_core.application.checksums import measure_file
from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.problems import CliError

FALLBACK_TYPES = {
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".ts": "video/mp2t",
    ".mts": "video/mp2t",
    ".m2ts": "video/mp2t",
    ".m4v": "video/x-m4v",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".avi": "video/x-msvideo",
    ".wmv": "video/x-ms-wmv",
    ".flv": "video/x-flv",
    ".3gp": "video/3gpp",
    ".ogv": "video/ogg",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".mxf": "application/mxf",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
}
"""By extension (IANA media types, and the customary names of those that have none): the machine's own table often lacks
these, and calls ``.ts`` a Qt translation."""
UNKNOWN_TYPE = "application/octet-stream"
"""The server looks inside whatever it is called."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file as it was when the command began."""

    path: Path
    size_bytes: int
    modified_ns: int
    content_type: str

    def open(self) -> BinaryIO:
        """Open it for reading. Raises ``CliError`` (``file_unreadable``, ``file_changed``)."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise _unreadable(self.path, error) from error
        try:
            self.check_unchanged(file)
        except BaseException:
            file.close()
            raise
        return file

    def check_unchanged(self, file: BinaryIO) -> None:
        """Raise ``CliError`` (``file_changed``) if somebody wrote to it."""
        facts = os.fstat(file.fileno())
        if (facts.st_size, facts.st_mtime_ns) != (self.size_bytes, self.modified_ns):
            raise self.changed()

    def checksum(self) -> str | None:
        """``crc32c:`` and eight hexadecimal digits; reads the whole file. None: it is not what it was any more."""
        try:
            with self.open() as file:
                measure = measure_file(file)
                self.check_unchanged(file)
        except (CliError, OSError):
            return None
        return measure.checksums["crc32c"]

    def changed(self) -> CliError:
        """What is said then."""
        return CliError(
            f"{self.path} was changed while it was being uploaded.",
            code="file_changed",
            remedy="Wait until the file is finished, then run the same command again: it starts from the beginning.",
        )


def source_file(path: Path) -> SourceFile:
    """Look at a file. Raises ``CliError`` (``file_missing``, ``file_unreadable``, ``not_a_file``, ``empty_file``,
    ``not_a_video``), each with exit code 2."""
    try:
        facts = path.stat()
    except FileNotFoundError as error:
        raise _refused(path, "does not exist", "file_missing", "Check the path.") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(facts.st_mode):
        raise _refused(path, "is a directory", "not_a_file", f"Name the files in it, for example {path}/*.mp4.")
    if not stat.S_ISREG(facts.st_mode):
        raise _refused(path, "is not an ordinary file", "not_a_file", "Save the stream to a file first.")
    if facts.st_size == 0:
        raise _refused(path, "is empty", "empty_file", "Choose a file with something in it.")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise _unreadable(path, error) from error
    return SourceFile(
        path=path, size_bytes=facts.st_size, modified_ns=facts.st_mtime_ns, content_type=_checked_type(path)
    )


def content_type_of(path: Path) -> str:
    """The media type by name; ``application/octet-stream`` when the name says nothing."""
    known = FALLBACK_TYPES.get(path.suffix.lower())
    guessed, encoding = mimetypes.guess_type(path.name)
    return known or (guessed if guessed and encoding is None else UNKNOWN_TYPE)


def _checked_type(path: Path) -> str:
    content_type = content_type_of(path)
    if not content_type.startswith(("video/", "audio/")) and content_type not in {UNKNOWN_TYPE, "application/mxf"}:
        raise _refused(
            path,
            f"is {content_type}, not a video",
            "not_a_video",
            "Choose a video or audio file, such as .mp4 or .mov.",
        )
    return content_type


def _refused(path: Path, what: str, code: str, remedy: str) -> CliError:
    return CliError(f"{path} {what}.", code=code, remedy=remedy, exit_code=ExitCode.USAGE)


def _unreadable(path: Path, error: OSError) -> CliError:
    return _refused(path, f"cannot be read: {error.strerror or error}", "file_unreadable", "Check its permissions.")
