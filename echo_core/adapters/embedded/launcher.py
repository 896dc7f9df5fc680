"""Become another program that does not outlive its parent: ``python launcher.py <options> <program> <argument>…``.

A process of its own because each step must happen between fork and exec, and code between fork and exec of a threaded
program (``preexec_fn``) may deadlock. The order matters: a change of user clears the death signal (prctl(2),
PR_SET_PDEATHSIG), so that comes last; it also fires when the parent *thread* ends, not only the process.
Standard library only, nothing of Echo: it starts in about 20 ms.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

# Linux, <sys/prctl.h>, <linux/capability.h> and <linux/securebits.h>
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _drop_to(libc: ctypes.CDLL, uid: int, gid: int, *, search: bool) -> None:
    """Become ``uid`` for good; with ``search`` keep one privilege of root: to read files and pass directories.

    ``SECBIT_NO_SETUID_FIXUP`` keeps the privilege over the change of user, and makes access(2) honour it: initdb
    looks for its neighbours with access(2).
    """
    if search:
        _checked(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "prctl(PR_SET_SECUREBITS)")
    os.setgroups([])
    os.setgid(gid)  # for root these two set the saved ids as well
    os.setuid(uid)
    if search:
        bit = 1 << CAP_DAC_READ_SEARCH
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; then the high halves
        _checked(libc.capset(header, sets), "capset")
        _checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0), "prctl(PR_CAP_AMBIENT)")


def main() -> None:
    """Apply the options (JSON: parent, death_signal, uid, gid, search), then exec the program."""
    options = json.loads(sys.argv[1])
    program = sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if options["uid"] is not None:
        _drop_to(libc, options["uid"], options["gid"], search=options["search"])
    if sys.platform == "linux":
        if options["uid"] is not None:
            _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
        _checked(libc.prctl(PR_SET_PDEATHSIG, options["death_signal"], 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != options["parent"]:  # it died before the signal was asked for
        sys.exit(1)
    os.execvpe(program[0], program, os.environ)  # noqa: S606 - this is what the program is for


if __name__ == "__main__":
    main()
