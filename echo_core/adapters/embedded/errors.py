"""What can keep the embedded servers from running, said so that its reader knows what to do."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class EmbeddedError(Exception):
    """``problem`` says what is wrong and ``remedy`` what to do; ``exit_code`` is for the process that gives up."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n{remedy}")
        self.problem = problem
        self.remedy = remedy


class AlreadyRunningError(EmbeddedError):
    """Another process holds this ``data_dir``. ``pid`` and ``address`` are its own, where they are known yet."""

    exit_code = 3

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

    exit_code = 4


class PortTakenError(EmbeddedError):
    """The API cannot listen on its address: another process does, or it is not ours to use."""

    exit_code = 5


class StartFailedError(EmbeddedError):
    """A server or a child did not come up. The problem ends with the last lines of its log."""

    exit_code = 6
