"""What the domain refuses, and why."""

from __future__ import annotations

from echo_core.plugin_api.errors import DomainError


class UnknownEntityError(DomainError):
    """Nothing of that id belongs to the caller. What is somebody else's is unknown too."""

    default_code = "not_found"
    default_remedy = "Check the address; what it names may have been deleted."


class IllegalChangeError(DomainError):
    """The change is not legal in the present state."""

    default_code = "illegal_change"


class ConflictError(DomainError):
    """Somebody or something else got there first."""

    default_code = "conflict"


class InvalidInputError(DomainError):
    """The input can never be accepted."""

    default_code = "invalid_input"


class TooLargeError(DomainError):
    """The input is over a limit; the message names the limit and who sets it."""

    default_code = "too_large"


class LeaseLostError(DomainError):
    """Another worker owns the step now: whatever this one still wants to write must not count."""

    default_code = "lease_lost"
