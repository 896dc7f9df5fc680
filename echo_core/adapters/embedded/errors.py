"""What can keep the embedded servers from running, said so that its reader knows what to do."""

from __future__ import annotations

from pathlib import Path

from echo_core.plugin_api.errors import EchoError


class EmbeddedError(EchoError):
    """Why the embedded servers do not run; a person has to do something about it."""

    default_code = "embedded_failed"

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)


class AlreadyRunningError(EmbeddedError):
    """Another process holds this ``data_dir``. ``pid`` and ``address`` are its own, where they are known yet."""

    default_code = "already_running"

    def __init__(self, data_dir: Path, *, pid: int | None, address: str | None) -> None:
        who = f"process {pid}" if pid else "another process"
        where = f" at {address}" if address else ", still starting"
        super().__init__(
            f"Echo already runs with {data_dir}: {who}{where}.",
            "Use that one, stop it first, or give this one a data_dir of its own (ECHO_DATA_DIR).",
        )
        self.pid = pid
        self.address = address


class DataDirError(EmbeddedError):
    """``data_dir`` cannot be used: not writable, full, damaged, or made by something else."""

    default_code = "data_dir_unusable"


class PortTakenError(EmbeddedError):
    """The API cannot listen on its address: another process does, or it is not ours to use."""

    default_code = "port_taken"


class StartFailedError(EmbeddedError):
    """A server or a child did not come up. The message ends with the last lines of its log."""

    default_code = "start_failed"
