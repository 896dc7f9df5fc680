"""Who goes first on a machine that is busy."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def lower_priority(nice: int) -> None:
    """Let this process and what it starts stand back, by ``nice`` more than it does already (19 is the most).

    Where the kernel groups tasks by session (sched(7), autogroup), niceness counts only within a session; a process
    that leads one lowers its whole session. Another's session is left as it is.
    """
    now = os.nice(nice)
    if nice and os.getsid(0) == os.getpid():
        with suppress(OSError):  # no such grouping here, or not to be changed at this moment
            Path("/proc/self/autogroup").write_text(str(now))
