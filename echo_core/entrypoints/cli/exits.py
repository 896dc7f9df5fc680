"""How ``echoctl`` ends: exit codes are part of its contract (``docs/cli.md``)."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script may rely on."""

    OK = 0
    FAILED = 1
    """Something went wrong, and it was said what."""
    USAGE = 2
    """The command line makes no sense, a file cannot be uploaded as it is, or a token is missing."""
    UNREACHABLE = 3
    """The server, or the embedded database, does not answer."""
    JOB_FAILED = 4
    """The upload went well and the processing failed, or was cancelled."""
    ALREADY_RUNNING = 5
    """Another process does the same on this machine: an instance with this data_dir, an upload of this file."""
    INTERRUPTED = 130
    """Ctrl-C (128 + SIGINT, as shells count)."""
