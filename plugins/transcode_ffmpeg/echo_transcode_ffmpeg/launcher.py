"""Confine this process, then become the program: ``python -I -S launcher.py CONFINEMENT [PROGRAM ARGUMENT…]``.

A program of its own, because code between fork and exec of a threaded process (``preexec_fn``) may deadlock, and
because limits set here hold from the first instruction of the program. Without a PROGRAM it only tells, as JSON on
stdout, what this system permits.

CONFINEMENT is JSON: ``memory_bytes``, ``cpu_s``, ``file_bytes``, ``open_files``, ``nice``, ``parent`` (process id),
``network``, ``files`` and ``calls`` (each ``auto``, ``required`` or ``off``), and absolute paths: ``reads`` (files that
it may read), ``writes`` (directories in which it may make files), ``runs`` (code that it may load and execute beside
its own). One file, and long for it, because it runs without a module path, before each of the programs of a video.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Iterable, Iterator

EXIT_CANNOT_CONFINE = 78  # EX_CONFIG of sysexits.h
EXIT_CANNOT_EXECUTE = 127
LINUX = sys.platform == "linux"

# linux/prctl.h, linux/sched.h, linux/ioprio.h
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
CLONE_THREAD = 0x10000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
IOPRIO_WHO_PROCESS = 1
IOPRIO_IDLE = 3 << 13
CAPABILITY_VERSION_3 = 0x20080522
MAX_CAPABILITY = 63

# Landlock: linux/landlock.h; the numbers of its calls are the same on every architecture.
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_QUERY_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_REG, TRUNCATE = 1, 2, 4, 8, 1 << 5, 1 << 8, 1 << 14
FILE_RIGHTS_BY_VERSION = ((1, (1 << 13) - 1), (2, 1 << 13), (3, TRUNCATE), (5, 1 << 15))
"""Version that brought them, and the rights: everything that Landlock can refuse is refused unless granted below."""
NET_RIGHTS = 0b11
"""Bind and connect of TCP, from version 4: where there is neither a namespace nor a filter of calls."""
SCOPES = 0b11
"""From version 6: no signal and no abstract socket leads out."""
CODE = EXECUTE | READ_FILE | READ_DIR
READ = READ_FILE
WRITE = READ_FILE | READ_DIR | WRITE_FILE | MAKE_REG | REMOVE_FILE | TRUNCATE
RIGHTS_OF_A_FILE = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE

LIBRARIES = (
    *("/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/local/lib", "/usr/local/lib64"),
    *("/bin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"),
)
"""Where the programs and libraries of a system lie; not ``/usr`` itself, below which people keep configurations."""
SYSTEM_FACTS = ("/etc/ld.so.cache", "/dev/urandom", "/dev/zero", "/proc/cpuinfo", "/proc/meminfo")
SYSTEM_FACTS_FOLDERS = ("/sys/devices/system/cpu", "/sys/devices/system/node")

# seccomp: linux/seccomp.h, linux/filter.h, linux/audit.h
SECCOMP_MODE_FILTER = 2
KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD, JUMP_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16
EPERM, ENOSYS = 1, 38
X32_BIT = 0x40000000
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Their audit number, and which of the two numbers below is theirs."""
CLONE, CLONE3 = (56, 220), 435
ABOUT_ONE_PROCESS = ((62, 129), (200, 130), (234, 131), (129, 138), (297, 240), (302, 261))
"""kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, prlimit64: only about itself."""
PRLIMIT64 = (302, 261)
"""Of these the only one that means itself by 0."""
REFUSED = (
    ((41, 198), (425, 425)),  # socket, io_uring_setup (which makes sockets too)
    ((53, 199),),  # socketpair: one of datagrams can send to any local socket that has a path
    ((57, None), (58, None)),  # fork, vfork: no other process; threads come through clone
    ((101, 117), (310, 270), (311, 271), (440, 440), (312, 272)),  # ptrace, process_vm_*, process_madvise, kcmp
    ((434, 434), (438, 438), (424, 424)),  # pidfd_open, pidfd_getfd, pidfd_send_signal
    ((29, 194), (30, 196), (64, 190), (68, 186), (240, 180)),  # shmget, shmat, semget, msgget, mq_open
    ((272, 97), (308, 268), (165, 40), (166, 39), (155, 41), (161, 51)),  # unshare, setns, mount, umount2, …, chroot
    ((428, 428), (429, 429), (430, 430), (432, 432), (442, 442)),  # open_tree, move_mount, fsopen, fsmount, …
    ((321, 280), (298, 241), (323, 282)),  # bpf, perf_event_open, userfaultfd
    ((248, 217), (249, 218), (250, 219)),  # add_key, request_key, keyctl
    ((175, 105), (313, 273), (176, 106), (246, 104), (320, 294), (169, 142)),  # modules, kexec, reboot
    ((304, 265), (135, 92), (103, 116), (163, 89), (167, 224), (168, 225)),  # open_by_handle_at, personality, …
    # Landlock lets a file's owner change its attributes: chmod, chown, utime and extended ones, of every spelling.
    ((90, None), (91, 52), (268, 53), (452, 452), (92, None), (93, 55), (94, None), (260, 54)),
    ((132, None), (235, None), (261, None), (280, 88)),
    ((188, 5), (189, 6), (190, 7), (463, 463), (197, 14), (198, 15), (199, 16), (466, 466)),
)
"""What neither ffmpeg nor a probe needs, (x86-64, arm64): ways to other processes and hosts, and into the kernel."""


class Confinement:
    """What the caller wants; see the module."""

    def __init__(self, text: str) -> None:
        given = json.loads(text)
        self.memory_bytes: int = given["memory_bytes"]
        self.cpu_s: int = given["cpu_s"]
        self.file_bytes: int = given["file_bytes"]
        self.open_files: int = given["open_files"]
        self.nice: int = given["nice"]
        self.parent: int = given["parent"]
        self.wanted: dict[str, str] = {name: given[name] for name in ("network", "files", "calls")}
        self.reads: list[str] = given["reads"]
        self.writes: list[str] = given["writes"]
        self.runs: list[str] = given["runs"]


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # as linux/landlock.h: packed
    _fields_ = (("rights", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _limit(which: int, wanted: int) -> None:
    _, hard = resource.getrlimit(which)
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(which, (value, value))


def _leave_network() -> bool:
    """Enter an empty network namespace; needs root or, on most systems, just a user namespace."""
    if not LINUX:
        return False
    libc = _libc()
    return any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def _drop_powers() -> None:
    """Give up what root (or the owner of a fresh user namespace) may do beyond others, for ever."""
    if not LINUX:
        return
    libc = _libc()
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(MAX_CAPABILITY + 1):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # not permitted, or no more of them
    if hasattr(libc, "capset"):
        libc.capset(struct.pack("=Ii", CAPABILITY_VERSION_3, 0), bytes(24))


def _landlock_version() -> int:
    """0 where the kernel has none, or was told not to use it."""
    if not LINUX:
        return 0
    version = _libc().syscall(
        LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(LANDLOCK_QUERY_VERSION)
    )
    return max(0, int(version))


def _hide_files(grants: Iterable[tuple[str, int]]) -> int:
    """See and touch nothing but what is granted, from here on; the version of Landlock, 0 if that is not possible.

    A granted path that does not exist is left out. Needs ``no_new_privs``.
    """
    version = _landlock_version()
    if version == 0:
        return 0
    handled = sum(rights for since, rights in FILE_RIGHTS_BY_VERSION if version >= since)
    attr = _RulesetAttr(handled, NET_RIGHTS if version >= 4 else 0, SCOPES if version >= 6 else 0)
    size = ctypes.c_size_t(24 if version >= 6 else 16 if version >= 4 else 8)
    libc = _libc()
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(attr), size, ctypes.c_uint32(0))
    if ruleset < 0:
        return 0
    try:
        for path, rights in grants:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            if not os.path.isdir(path):  # noqa: PTH112 - pathlib costs 10 ms of start
                rights &= RIGHTS_OF_A_FILE
            rule = _PathBeneathAttr(rights & handled, fd)
            kind, flags = ctypes.c_int(LANDLOCK_RULE_PATH_BENEATH), ctypes.c_uint32(0)
            added = libc.syscall(LANDLOCK_ADD_RULE, ctypes.c_int(ruleset), kind, ctypes.byref(rule), flags)
            os.close(fd)
            if added != 0:
                return 0
        done = libc.syscall(LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return version if done == 0 else 0


def _grants(program: str, confinement: Confinement) -> Iterator[tuple[str, int]]:
    """What the program may see: itself and its libraries, what it was given, and nothing else."""
    real = os.path.realpath(program)
    yield real, CODE
    home = os.path.dirname(real)  # noqa: PTH120 - as above
    if os.path.basename(home) == "bin":  # noqa: PTH119 - a build in a place of its own, with its libraries beside it
        for name in ("lib", "lib64"):
            yield f"{os.path.dirname(home)}/{name}", CODE  # noqa: PTH120
    yield from ((path, CODE) for path in (*LIBRARIES, *confinement.runs))
    yield from ((path, READ) for path in (*SYSTEM_FACTS, *confinement.reads))
    yield from ((path, READ | READ_DIR) for path in SYSTEM_FACTS_FOLDERS)
    yield "/dev/null", READ | WRITE_FILE
    yield from ((path, WRITE) for path in confinement.writes)


def _instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _filter_of_calls(architecture: int, column: int) -> bytes:
    """A seccomp program (classic BPF). Conditions skip as many instructions as their last two numbers say."""
    me = os.getpid()  # stays the same through exec
    refuse, allow = _instruction(RETURN, ERRNO | EPERM), _instruction(RETURN, ALLOW)
    number, argument = _instruction(LOAD, NUMBER_AT), _instruction(LOAD, FIRST_ARGUMENT_AT)
    program = [
        _instruction(LOAD, ARCHITECTURE_AT),
        _instruction(JUMP_EQUAL, architecture, 1, 0),
        _instruction(RETURN, KILL_PROCESS),  # calls of another architecture have other numbers
        number,
        _instruction(JUMP_ANY_BIT, X32_BIT, 0, 1),
        refuse,
        # The flags of clone3 lie in memory, where a filter cannot look: without it, libc calls clone.
        *(_instruction(JUMP_EQUAL, CLONE3, 0, 1), _instruction(RETURN, ERRNO | ENOSYS)),
        *(_instruction(JUMP_EQUAL, CLONE[column], 0, 4), argument),
        *(_instruction(JUMP_ANY_BIT, CLONE_THREAD, 0, 1), allow, refuse),
    ]
    for call in ABOUT_ONE_PROCESS:
        harmless = 0 if call == PRLIMIT64 else me
        program += [_instruction(JUMP_EQUAL, call[column], 0, 5), argument]
        program += [_instruction(JUMP_EQUAL, me, 1, 0), _instruction(JUMP_EQUAL, harmless, 0, 1), allow, refuse]
    for group in REFUSED:
        for refused in group:
            if (value := refused[column]) is not None:
                program += [_instruction(JUMP_EQUAL, value, 0, 1), refuse]
    return b"".join([*program, allow])


def _refuse_calls() -> bool:
    """Let the kernel refuse what the program has no business to call. Needs ``no_new_privs``; the last thing to do."""
    known = ARCHITECTURES.get(os.uname().machine) if LINUX else None
    if known is None or sys.maxsize < 2**32:
        return False
    code = _filter_of_calls(*known)
    program = _FilterProgram(len(code) // 8, code)
    return bool(_libc().prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _stand_back(nice: int) -> None:
    """Let everything else on the machine go first: on its processors and, where the disk's scheduler has classes, on
    its disks. What the system refuses is left: the program then competes a little harder."""
    os.nice(nice)
    if hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # never interrupts others when it wakes
    if LINUX and (call := IOPRIO_SET.get(os.uname().machine)) is not None:
        _libc().syscall(call, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE)
    _nice_autogroup(os.nice(0))


def _nice_autogroup(nice: int) -> None:
    """Where the kernel groups tasks by session (sched(7), autogroup) niceness counts only within one session, and this
    program leads one of its own: without this it would get as much as the whole API does."""
    for _ in range(3):
        try:
            with open("/proc/self/autogroup", "w") as autogroup:  # noqa: PTH123 - pathlib is too much to import
                autogroup.write(str(nice))
        except BlockingIOError:
            time.sleep(0.1)  # one change in a tenth of a second for the whole machine
        except OSError:
            return
        else:
            return


def _die_with(parent: int) -> None:
    if LINUX:
        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(EXIT_CANNOT_CONFINE)


def _confine(confinement: Confinement, program: str) -> dict[str, object]:
    """Do all of it, and tell what held."""
    wanted = confinement.wanted
    namespace = wanted["network"] != "off" and _leave_network()
    _stand_back(confinement.nice)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, confinement.open_files)
    _limit(resource.RLIMIT_FSIZE, confinement.file_bytes)
    _limit(resource.RLIMIT_CPU, confinement.cpu_s)
    _limit(resource.RLIMIT_AS, confinement.memory_bytes)
    _drop_powers()
    landlock = _hide_files(_grants(program, confinement)) if wanted["files"] != "off" else 0
    # After all that changes credentials, which would clear the signal.
    _die_with(confinement.parent)
    calls = wanted["calls"] != "off" and _refuse_calls()
    return {"network": namespace or calls, "namespace": namespace, "files": landlock, "calls": calls}


def main() -> None:
    """Apply the limits and execute the program."""
    confinement, program = Confinement(sys.argv[1]), sys.argv[2:]
    held = _confine(confinement, program[0] if program else sys.executable)
    for name, wanted in confinement.wanted.items():
        if wanted == "required" and not held[name]:
            sys.stderr.write(f"launcher: this system does not permit what sandbox_{name} requires\n")
            sys.exit(EXIT_CANNOT_CONFINE)
    if not program:
        sys.stdout.write(json.dumps(held))
        return
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"launcher: cannot execute {program[0]}: {error.strerror}\n")
        sys.exit(EXIT_CANNOT_EXECUTE)


if __name__ == "__main__":
    main()
