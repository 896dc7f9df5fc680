"""Confine this process, then become the program: ``python -I -S launcher.py LIMITS PROGRAM ARGUMENT…``.

A program of its own, because code between fork and exec of a threaded process (``preexec_fn``) may deadlock, and
because limits set here hold from the first instruction of the program. LIMITS is JSON: ``memory_bytes``, ``cpu_s``,
``file_bytes``, ``open_files``, ``nice``, ``network`` (``auto``, ``required``, ``off``), ``parent`` (process id).
Imports nothing heavy: it runs before each of the several programs of a video.
"""

import ctypes
import json
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CLONE_NEWUSER = 0x10000000  # linux/sched.h
CLONE_NEWNET = 0x40000000
EXIT_CANNOT_CONFINE = 78  # EX_CONFIG of sysexits.h
EXIT_CANNOT_EXECUTE = 127


def _limit(which: int, wanted: int) -> None:
    _, hard = resource.getrlimit(which)
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(which, (value, value))


def _drop_network() -> bool:
    """Enter an empty network namespace; needs root or, on most systems, just a user namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        return False
    return any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def _die_with(parent: int) -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(EXIT_CANNOT_CONFINE)


def main() -> None:
    """Apply the limits and execute the program."""
    limits, program = json.loads(sys.argv[1]), sys.argv[2:]
    if limits["network"] != "off" and not _drop_network() and limits["network"] == "required":
        sys.stderr.write("launcher: this system does not permit a network namespace\n")
        sys.exit(EXIT_CANNOT_CONFINE)
    # After the namespaces: a change of credentials would clear the signal.
    _die_with(limits["parent"])
    os.nice(limits["nice"])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, limits["open_files"])
    _limit(resource.RLIMIT_FSIZE, limits["file_bytes"])
    _limit(resource.RLIMIT_CPU, limits["cpu_s"])
    _limit(resource.RLIMIT_AS, limits["memory_bytes"])
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"launcher: cannot execute {program[0]}: {error.strerror}\n")
        sys.exit(EXIT_CANNOT_EXECUTE)


if __name__ == "__main__":
    main()
