"""What the operating system says, as Echo's errors: mapped here and nowhere else."""

from __future__ import annotations

import errno

from echo_core.plugin_api import (
    EchoError,
    InsufficientStorageError,
    NotFoundError,
    PreconditionFailedError,
    UnavailableError,
)

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ACCESS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def from_os_error(error: OSError) -> EchoError:
    """Map an ``OSError`` of the storage folder by its ``errno``. Paths stay out of the message: users read it."""
    if error.errno in _NO_ROOM:
        return InsufficientStorageError("The storage disk is full.")
    if error.errno in _NO_ACCESS:
        return UnavailableError(
            "The storage folder cannot be written.",
            code="storage_not_writable",
            remedy="Give the user that runs Echo read and write access to the storage folder.",
        )
    reason = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return UnavailableError(
        f"The storage disk failed ({reason}).", code="storage_failed", remedy="Look at the disk's health."
    )


def object_not_found() -> NotFoundError:
    """The error of rule S4."""
    return NotFoundError(
        "This object does not exist.",
        code="object_not_found",
        remedy="Read the video again; it may have been deleted or made anew.",
    )


def upload_gone() -> NotFoundError:
    """The error for an upload that was aborted, that expired or that never was."""
    return NotFoundError("This upload does not exist any more.", code="upload_gone", remedy="Start the upload again.")


def object_exists() -> PreconditionFailedError:
    """The error of rule S3."""
    return PreconditionFailedError(
        "Another object has this key already.", code="object_exists", remedy="Begin a new upload."
    )


def generation_changed() -> PreconditionFailedError:
    """The error for a read that is pinned to a generation which is no longer there."""
    return PreconditionFailedError(
        "The object was replaced since.", code="generation_changed", remedy="Read the video again for a new URL."
    )
