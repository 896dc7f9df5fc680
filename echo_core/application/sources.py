"""What the storage says of an uploaded source, in words about the video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from echo_core.plugin_api.errors import InvalidRequestError, NotFoundError, PreconditionFailedError


@contextmanager
def source_errors() -> Iterator[None]:
    """Raises ``InvalidRequestError`` (``source_missing``, ``source_changed``) in place of the storage's own errors."""
    try:
        yield
    except NotFoundError as error:
        raise InvalidRequestError(
            "The uploaded file is no longer in the storage.",
            code="source_missing",
            remedy="Upload the video again, or let the operator restore the file.",
        ) from error
    except PreconditionFailedError as error:
        raise source_changed() from error


def source_changed() -> InvalidRequestError:
    """The object under the source's key is another one than the one that was accepted."""
    return InvalidRequestError(
        "The stored file is not the one that was uploaded.",
        code="source_changed",
        remedy="Upload the video again.",
    )
