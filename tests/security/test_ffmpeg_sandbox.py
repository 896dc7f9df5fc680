"""What a program that took over ffmpeg could do: a stand-in tries it from inside, behind the real launcher.

Every attempt is made twice: unconfined, where it must succeed (else the test would show nothing), and confined. The
many of one kind share a process of each sort, because each start costs a tenth of a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from echo_transcode_ffmpeg import sandbox
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.process import Limits, Outcome, View, run
from echo_transcode_ffmpeg.sandbox import Confinement, find_confinement
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

from echo_core.plugin_api import UnavailableError

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
LIMITS = Limits(memory_bytes=1024 * MIB, cpu_s=30, file_bytes=MIB, nice=0)
OPEN = replace(LIMITS, network="off", files="off", calls="off")
TIMEOUT_S = 60.0
REFUSALS = ("PermissionError", "OSError [Errno 18] Invalid cross-device link")
"""The second is what Landlock answers to links and moves from outside."""
SECRET = "postgresql://owner:hunter2@db"


@dataclass(frozen=True)
class Place:
    """A data directory with a secret, a call's input with a neighbour's beside it, and its output directory."""

    root: Path
    source: Path
    neighbour: Path
    out_dir: Path
    secret: Path
    tcp_port: int
    unix_socket: Path

    @property
    def view(self) -> View:
        return View(reads=(self.source,), writes=(self.out_dir,))


@contextmanager
def made_place(root: Path) -> Iterator[Place]:
    scratch = root / "data" / "scratch"
    (scratch / "out").mkdir(parents=True)
    for path, text in ((scratch / "mine.mp4", "mine"), (scratch / "other.mp4", "other")):
        path.write_text(text)
    secret = root / "data" / "secret_key"
    secret.write_text(SECRET)
    (scratch / "out" / "link").symlink_to(secret)
    (scratch / "out" / "run").write_text("#!/bin/sh\nexit 0\n")
    (scratch / "out" / "run").chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "s"))
        unix.listen()
        yield Place(
            root=root,
            source=scratch / "mine.mp4",
            neighbour=scratch / "other.mp4",
            out_dir=scratch / "out",
            secret=secret,
            tcp_port=tcp.getsockname()[1],
            unix_socket=root / "s",
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with made_place(tmp_path) as place:
        yield place


async def attempt(code: str, place: Place, limits: Limits) -> Outcome:
    """Run Python code as if it were ffmpeg; it exits with 0 when it got what it wanted."""
    names = {
        "source": str(place.source),
        "neighbour": str(place.neighbour),
        "out_dir": str(place.out_dir),
        "secret": str(place.secret),
        "data_dir": str(place.root / "data"),
        "tcp_port": place.tcp_port,
        "unix_socket": str(place.unix_socket),
        "worker": os.getpid(),
    }
    setup = "import ctypes, os, socket\n" + "".join(f"{name} = {value!r}\n" for name, value in names.items())
    argv = [sys.executable, "-I", "-S", "-c", setup + code]
    return await run(argv, cwd=place.out_dir, limits=limits, timeout_s=TIMEOUT_S, view=place.view)


MANY = """
import json
def made(code):
    try:
        exec(code, dict(globals()))
    except BaseException as error:
        return f"{type(error).__name__} {error}"
    return ""
def made_apart(code):
    for path, text in kept.items():
        with open(path, "w") as file:
            file.write(text)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, made(code).encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    for planted in ("planted", data_dir + "/planted"):
        if os.path.lexists(planted):
            (os.rmdir if os.path.isdir(planted) and not os.path.islink(planted) else os.unlink)(planted)
    with os.fdopen(reader) as file:
        return file.read()
kept = {source: "mine", neighbour: "other", secret: SECRET}
print(json.dumps({name: (made_apart if apart else made)(code) for name, code in codes.items()}))
"""


@dataclass(frozen=True)
class Attempts:
    """By name: what an attempt ended with, empty for success. ``harm`` is what the confined ones changed."""

    unconfined: dict[str, str]
    confined: dict[str, str]
    harm: bool


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Attempts:
    codes = FILES | CALLS
    setup = f"SECRET = {SECRET!r}\ncodes = {codes!r}\n"
    found = []
    for apart, limits in ((False, LIMITS), (True, OPEN)):
        with made_place(tmp_path_factory.mktemp("place")) as place:
            before = _contents(place.root / "data")
            outcome = asyncio.run(attempt(f"{setup}apart = {apart}\n{MANY}", place, limits))
            assert outcome.returncode == 0, outcome.errors
            found.append((json.loads(outcome.stdout), _contents(place.root / "data") != before))
    (confined, harm), (unconfined, _) = found
    return Attempts(unconfined=unconfined, confined=confined, harm=harm)


def _contents(directory: Path) -> dict[Path, tuple[int, float, bytes]]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    stats = {path: path.lstat() for path in files}
    return {path: (stats[path].st_mode, stats[path].st_mtime, path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def confinement() -> Confinement:
    return asyncio.run(find_confinement(FfmpegConfig(), LIMITS))


def _call(number: int, *arguments: int) -> str:
    """A system call of x86-64, by number; succeeds when the kernel let it pass to its own checks."""
    listed = ", ".join(f"ctypes.c_long({argument})" for argument in (number, *arguments))
    return (
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"if libc.syscall({listed}) < 0 and ctypes.get_errno() in (1, 38): raise PermissionError\n"
    )


FILES = {
    "read the accounts": "open('/etc/passwd').read()",
    "read the instance's secret": "open(secret).read()",
    "look around in the data directory": "os.listdir(data_dir)",
    "read another video": "open(neighbour).read()",
    "read through a link in its own directory": "open('link').read()",
    "read the worker's environment": "open(f'/proc/{worker}/environ').read()",
    "read the worker's memory map": "open(f'/proc/{worker}/maps').read()",
    "change its input": "open(source, 'r+b').write(b'x')",
    "cut its input": "os.truncate(source, 0)",
    "remove its input": "os.unlink(source)",
    "cut another video": "os.truncate(neighbour, 0)",
    "remove another video": "os.unlink(neighbour)",
    "move another video": "os.rename(neighbour, neighbour + '.x')",
    "plant a file": "open(data_dir + '/planted', 'w')",
    "plant a link among its outputs": "os.symlink(secret, 'planted')",
    "plant a hard link among its outputs": "os.link(secret, 'planted')",
    "make a directory": "os.mkdir('planted')",
    "run what it wrote": "os.execv('run', ['run'])",
}
CALLS = {
    "start another process": "os.waitpid(os.fork() or os._exit(0), 0)",
    "start another program": "assert os.posix_spawn('/bin/true', ['true'], {})",
    "connect to a port": "socket.create_connection(('127.0.0.1', tcp_port), 5)",
    "send a datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "connect to a local socket": "socket.socket(socket.AF_UNIX).connect(unix_socket)",
    "make a socket in a pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "signal the worker": "os.kill(worker, 0)",
    "limit the worker": "import resource; resource.prlimit(worker, resource.RLIMIT_CORE)",
    "open its input to everybody": "os.chmod(source, 0o666)",
    "open the secret to everybody": "os.chmod(secret, 0o666)",
    "date its input back": "os.utime(source, (0, 0))",
    "share memory with others": _call(29, 0, 4096, 0o1600),
    "make a ring for calls": _call(425, 1, 0),
    "trace": _call(101, 16, 1 << 30),
    "enter namespaces": _call(272, 0),
    "load a program into the kernel": _call(321, 0, 0, 0),
}
REFUSED_ELSEWHERE_TOO = {
    "read the worker's environment",
    "read the worker's memory map",
    "make a ring for calls",
    "load a program into the kernel",
}
"""Some systems refuse these to everybody, or to those who gave up root's powers."""


@pytest.mark.parametrize("name", FILES)
def test_it_sees_and_touches_its_input_and_its_outputs_only(
    attempts: Attempts, confinement: Confinement, name: str
) -> None:
    if not confinement.landlock:
        pytest.skip("this kernel has no Landlock")
    assert attempts.unconfined[name] == "" or name in REFUSED_ELSEWHERE_TOO
    assert attempts.confined[name].startswith(REFUSALS)


@pytest.mark.parametrize("name", CALLS)
def test_it_reaches_no_other_process_no_host_and_nothing_rare_in_the_kernel(
    attempts: Attempts, confinement: Confinement, name: str
) -> None:
    if not confinement.calls:
        pytest.skip("this system permits no seccomp filter")
    if "syscall" in CALLS[name] and os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86-64")
    assert attempts.unconfined[name] == "" or name in REFUSED_ELSEWHERE_TOO
    assert attempts.confined[name].startswith(REFUSALS)


def test_nothing_was_changed_by_all_of_this(attempts: Attempts, confinement: Confinement) -> None:
    if not confinement.landlock:
        pytest.skip("this kernel has no Landlock")
    assert not attempts.harm


@pytest.mark.parametrize("layer", ["network", "calls"])
async def test_each_layer_alone_keeps_it_off_the_network(place: Place, confinement: Confinement, layer: str) -> None:
    if not (confinement.network and confinement.calls):
        pytest.skip("this system does not permit both layers")
    limits = replace(OPEN, **{layer: "required"})
    assert (await attempt(CALLS["connect to a port"], place, limits)).returncode != 0


async def test_without_a_namespace_landlock_refuses_connections(place: Place, confinement: Confinement) -> None:
    if confinement.landlock < 4:
        pytest.skip("this kernel's Landlock knows no network")
    limits = replace(OPEN, files="required")
    assert "PermissionError" in (await attempt(CALLS["connect to a port"], place, limits)).errors[-1]


async def test_it_can_still_do_its_work(place: Place) -> None:
    code = "import threading; open('a.tmp', 'w').write(open(source).read()); os.rename('a.tmp', 'a')\n"
    code += "thread = threading.Thread(target=os.unlink, args=['b']); open('b', 'w'); thread.start(); thread.join()"
    outcome = await attempt(code, place, LIMITS)
    assert (outcome.returncode, outcome.errors) == (0, ())
    assert {path.name for path in place.out_dir.iterdir()} == {"a", "link", "run"}


@pytest.mark.parametrize(
    ("code", "sign"),
    [
        ("kept = [bytearray(1 << 20) for _ in range(4096)]", "MemoryError"),
        ("kept = [open('/dev/zero') for _ in range(1000)]", "Too many open files"),
        ("import threading\nwhile True: threading.Thread(target=lambda: threading.Event().wait()).start()", "thread"),
        ("open('big', 'wb').write(bytes(2 << 20))", "File too large"),
    ],
    ids=["memory", "files", "threads", "output"],
)
async def test_it_cannot_take_the_machine(place: Place, code: str, sign: str) -> None:
    code = f"import traceback\ntry:\n    exec({code!r})\nexcept BaseException as e:\n"
    code += "    os.write(2, f'{type(e).__name__} {e}'.encode())\n    os._exit(1)"
    outcome = await attempt(code, place, LIMITS)
    assert outcome.returncode == 1
    assert sign in outcome.errors[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose powers are to be gone")
async def test_root_is_nobody_special(place: Place) -> None:
    code = "print([line for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNew'))])"
    outcome = await attempt(code, place, OPEN)
    words = outcome.stdout.decode().replace("\\t", " ").replace("\\n", "")
    assert words.count("0000000000000000") == 5
    assert "NoNewPrivs: 1" in words
    assert "PermissionError" in (await attempt("os.setuid(1234)", place, OPEN)).errors[-1]
    assert "PermissionError" in (await attempt("os.chroot(out_dir)", place, OPEN)).errors[-1]


async def test_what_this_system_permits_is_shown_to_the_operator(confinement: Confinement) -> None:
    health = await FfmpegTranscoder(FfmpegConfig()).check()
    facts = health.facts
    shown = (facts["without_network"], facts["landlock"], facts["seccomp"])
    assert shown == (confinement.network, confinement.landlock, confinement.calls)


def test_each_missing_layer_is_named_unless_it_was_switched_off() -> None:
    bare = Confinement(network=False, landlock=0, calls=False)
    assert len(bare.warnings(FfmpegConfig())) == 3
    assert bare.warnings(FfmpegConfig(sandbox_network="off", sandbox_files="off", sandbox_calls="off")) == ()


async def test_a_layer_that_is_required_and_missing_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blind = (Path(sandbox.__file__).with_name("launcher.py")).read_text().replace("LANDLOCK_CREATE_RULESET = 444", "")
    launcher = tmp_path / "launcher.py"
    launcher.write_text("LANDLOCK_CREATE_RULESET = 9999  # as on a kernel without Landlock\n" + blind)
    monkeypatch.setattr("echo_transcode_ffmpeg.process.LAUNCHER", launcher)
    found = await find_confinement(FfmpegConfig(), LIMITS)
    assert found.landlock == 0
    with pytest.raises(UnavailableError) as caught:
        await find_confinement(FfmpegConfig(sandbox_files="required"), replace(LIMITS, files="required"))
    assert caught.value.code == "sandbox_unavailable"
    assert "sandbox_" in caught.value.remedy
