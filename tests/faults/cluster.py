"""An Echo whose processes a test starts, kills, stops and cuts off one by one.

The real programs: PostgreSQL, Valkey, the API and workers (tests/faults/api.py and worker.py: the real ones with places
to die in), with the plugin of tests/faults/plugin beside the bundled ones. Nothing supervises them but the test.
Long, because starting, breaking, healing and looking in share one state.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import psycopg
import redis
from joserfc import jwt
from joserfc.jwk import OctKey

from echo_core.adapters.embedded.binaries import valkey_server
from tests.e2e.api import Api, is_ready
from tests.integration.conftest import BUNDLED_BIN, NOBODY

ROOT = Path(__file__).resolve().parents[2]
OWNER_PASSWORD = "owner-password"
SECRET = "a shared secret of the fault suite, thirty-two bytes and more"
PR_SET_PDEATHSIG = 1
START_DEADLINE_S = 120.0

DISK_BYTES = 1 << 30
LEASE_S = 4.0
RECONCILE_S = 0.5
SETTINGS = {
    "ECHO_WORKER__LEASE_S": str(LEASE_S),
    "ECHO_WORKER__HEARTBEAT_S": "1",
    "ECHO_WORKER__WATCH_S": "0.2",
    "ECHO_WORKER__RECONCILE_S": str(RECONCILE_S),
    "ECHO_WORKER__RING_AGAIN_S": "2",
    "ECHO_WORKER__SHUTDOWN_GRACE_S": "1",
    "ECHO_TRANSCODER__SHORT_SIDES": "[120, 90]",
    "ECHO_PLUGINS__TRANSCODE_FFMPEG__PRESET": "ultrafast",
    "ECHO_PLUGINS__TRANSCODE_FFMPEG__THREADS": "1",
    "ECHO_PLUGINS__TRANSCODE_FFMPEG__MEMORY_LIMIT_BYTES": str(1 << 30),
    "ECHO_PLUGINS__STORAGE_LOCAL__MIN_FREE_BYTES": "0",
    "ECHO_REALTIME__POLL_S": "1",
    "ECHO_DATABASE__STATEMENT_TIMEOUT_S": "4",
    "ECHO_HTTP__CORS_ORIGINS": '["*"]',
    "ECHO_AUTH__HS256_SECRET": SECRET,
    "ECHO_PLUGINS__TRANSCODE_FFMPEG__NICE": "0",
    "NO_COLOR": "1",
    "PYTHONFAULTHANDLER": "1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: str, found: Callable[[], object], deadline_s: float = 60.0) -> None:
    """Look until ``found`` is true; a deadline, not a delay."""
    end = time.monotonic() + deadline_s
    while not found():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline_s:.0f} s")
        time.sleep(0.02)


def libfaketime() -> Path:
    """The library that gives one process a clock of its own."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is missing: run 'make system-packages'"
    return found[0]


def _mount_tmpfs(directory: Path) -> bool:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "echo-faults", str(directory)]
    return subprocess.run(mount, check=False, capture_output=True).returncode == 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Program:
    """One process that can be started again and again with the same arguments."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    identity: Mapping[str, object] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    ended_by_test: bool = False
    deaths: list[str] = field(default_factory=list)
    """Ends that nobody asked for."""

    def start(self, **environment: str) -> None:
        assert not self.runs, f"{self.name} runs already"
        self.note_death()
        self.ended_by_test = False
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                list(self.argv),
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT if not self.identity else "/",
                preexec_fn=_die_with_parent,
                **self.identity,
            )

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def note_death(self) -> None:
        """Remember an end that was not the test's doing. A -9 is: ``tests.faults.worker`` gives it to itself."""
        if self.process is not None and not self.runs and not self.ended_by_test:
            if (code := self.process.returncode) != -signal.SIGKILL:
                self.deaths.append(f"{self.name} ended by itself with {code}: {self.log.read_text()[-1500:]}")
            self.ended_by_test = True  # told once

    def send(self, number: int) -> None:
        if self.runs:
            assert self.process is not None
            self.process.send_signal(number)

    def end(self, number: int = signal.SIGKILL, deadline_s: float = 30.0) -> None:
        """Signal it and wait until it has ended."""
        if self.process is None:
            return
        self.note_death()
        self.ended_by_test = True
        self.send(number)
        try:
            self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            for telling in (signal.SIGUSR1, signal.SIGABRT):  # where its tasks are, where its threads are
                self.process.send_signal(telling)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(2)
            self.process.kill()
            self.process.wait(10)
            raise AssertionError(f"{self.name} did not end within {deadline_s:.0f} s of signal {number}") from None

    def children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            if self.runs:
                return psutil.Process(self.pid).children(recursive=True)
        return []


class Cluster:
    """See the module. Enter it to start everything."""

    def __init__(self, home: Path, *, workers: int = 2, **settings: str) -> None:
        self.home = home
        self.data_dir = home / "echo"
        self.control = home / "control"
        self.logs = home / "logs"
        for directory in (home, self.data_dir, self.control, self.logs):
            directory.mkdir(parents=True, exist_ok=True)
        self.has_disk = os.geteuid() == 0 and _mount_tmpfs(self.data_dir)
        """Whether the data directory is a small disk of its own, which can be filled without harm to anybody."""
        self.postgres_home = Path(tempfile.mkdtemp(prefix="echo-faults-pg-"))
        self.postgres_port, self.redis_port, self.api_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.api_port}"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ECHO_")} | SETTINGS
        self.environment |= {
            "ECHO_DATA_DIR": str(self.data_dir),
            "ECHO_HTTP__PORT": str(self.api_port),
            "ECHO_DATABASE__URL": self.database_url,
            "ECHO_AI__TRANSCRIBE": "[]",  # clips of tests say nothing
            "ECHO_AI__DESCRIBE": "[]",
            "ECHO_REDIS__URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "ECHO_PLUGINS__FAULT_PLUGIN__CONTROL": str(self.control),
            "FAULTS_CONTROL": str(self.control),
            "PYTHONPATH": str(ROOT / "tests" / "faults" / "plugin"),
            **settings,
        }
        identity: dict[str, object] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses root
            os.chown(self.postgres_home, NOBODY, NOBODY)
            identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        postgres = [
            str(BUNDLED_BIN / "postgres"),
            "-D",
            str(self.postgres_home / "data"),
            "-p",
            str(self.postgres_port),
        ]
        postgres += ["-k", str(self.postgres_home), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        valkey = [str(valkey_server()), "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", ""]
        echoctl = [sys.executable, "-m", "echo_core.entrypoints.cli"]
        self.postgres = self._program("postgres", postgres, identity)
        self.valkey = self._program("valkey", [*valkey, "--dir", str(home)])
        self.api = self._own_clock(self._program("api", [sys.executable, "-m", "tests.faults.api"]))
        self.workers = [
            self._own_clock(self._program(f"worker{n}", [sys.executable, "-m", "tests.faults.worker"]))
            for n in range(1, workers + 1)
        ]
        self._migrate = [*echoctl, "migrate"]
        self._database: psycopg.Connection[Any] | None = None
        self.users: dict[str, UUID] = {}

    def _program(self, name: str, argv: Sequence[str], identity: Mapping[str, object] | None = None) -> Program:
        return Program(name, argv, self.environment, self.logs / f"{name}.log", identity or {})

    def _own_clock(self, program: Program) -> Program:
        clock = self.control / f"clock-{program.name}"
        clock.write_text("+0")
        program.environment = {
            **program.environment,
            "LD_PRELOAD": str(libfaketime()),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return program

    @property
    def database_url(self) -> str:
        return f"postgresql://postgres:{OWNER_PASSWORD}@127.0.0.1:{self.postgres_port}/echo"

    @property
    def programs(self) -> list[Program]:
        return [self.postgres, self.valkey, self.api, *self.workers]

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Cluster:
        try:
            self._make_database()
            self.valkey.start()
            for program in (self.api, *self.workers):
                program.start()
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.send(signal.SIGCONT)
        for program in reversed(self.programs):
            program.end(signal.SIGKILL)
        if self._database is not None:
            self._database.close()
        shutil.rmtree(self.postgres_home, ignore_errors=True)
        if self.has_disk:
            subprocess.run(["umount", "--lazy", str(self.data_dir)], check=True)

    def _make_database(self) -> None:
        password = self.postgres_home / "password"
        password.write_text(OWNER_PASSWORD)
        password.chmod(0o644)
        initdb = [str(BUNDLED_BIN / "initdb"), "-D", str(self.postgres_home / "data"), "-U", "postgres", "-E", "UTF8"]
        initdb += ["--locale=C", "--no-sync", "--auth=scram-sha-256", f"--pwfile={password}"]
        subprocess.run(  # type: ignore[call-overload]
            initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **self.postgres.identity
        )
        self.start_postgres()
        with psycopg.connect(self.database_url.replace("/echo", "/postgres"), autocommit=True) as connection:
            connection.execute("create database echo template template0")
        subprocess.run(self._migrate, env=self.environment, check=True, capture_output=True, cwd=ROOT)

    def start_postgres(self) -> None:
        self.postgres.start()
        wait_for("PostgreSQL answers", self._postgres_answers, START_DEADLINE_S)

    def _postgres_answers(self) -> bool:
        assert self.postgres.runs, (self.logs / "postgres.log").read_text()[-2000:]
        try:
            psycopg.connect(self.database_url.replace("/echo", "/postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.api.runs, self.tail("api")
            return is_ready(self.url)

        try:
            wait_for("the API is ready", ready, START_DEADLINE_S)
        except AssertionError as error:
            self.api.send(signal.SIGUSR1)
            time.sleep(1)
            raise AssertionError(f"{error}\n{self.tail('api')}") from None

    def end_postgres(self) -> None:
        """At once, as after a crash: nothing is said to the clients."""
        self.wake_postgres()
        self.postgres.end(signal.SIGQUIT)

    def wake_postgres(self) -> None:
        """End a pause."""
        for child in (*self.postgres.children(), self.postgres):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)

    def revive_postgres(self) -> None:
        """Start it, unless it runs."""
        if not self.postgres.runs:
            self.start_postgres()

    def heal(self) -> None:
        """Everything runs again and nothing is spoiled any more."""
        for file in self.control.iterdir():
            if file.name.startswith("clock-"):
                file.write_text("+0")
            else:
                file.unlink(missing_ok=True)
        (self.data_dir / "filler").unlink(missing_ok=True)
        self.revive_postgres()
        self.wake_postgres()
        for program in self.programs:
            program.send(signal.SIGCONT)
            if not program.runs:
                program.start()
        wait_for("Valkey takes writes", self._valkey_takes_writes)
        self.wait_ready()

    def _valkey_takes_writes(self) -> bool:
        try:
            with self.redis() as client:
                return bool(client.config_set("maxmemory", "0"))
        except (redis.RedisError, OSError):
            return False

    def fill_disk(self, *, leave_bytes: int) -> None:
        """Take all room but ``leave_bytes`` of the data directory's disk, until the file ``filler`` is removed."""
        assert self.has_disk, "the data directory lies on a disk that others need"
        disk = os.statvfs(self.data_dir)
        wanted = disk.f_bavail * disk.f_frsize - leave_bytes
        if wanted > 0:
            with (self.data_dir / "filler").open("ab") as filler, contextlib.suppress(OSError):
                os.posix_fallocate(filler.fileno(), filler.tell(), wanted)

    # --- looking in -------------------------------------------------------------------------------------------------

    def sql(self, statement: str, *parameters: object) -> list[Any]:
        """The rows of a statement, asked as the superuser."""
        for last in (False, True):
            try:
                if self._database is None or self._database.closed:
                    self._database = psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)
                cursor = self._database.execute(statement, parameters or None)  # type: ignore[arg-type]
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if self._database is not None:
                    self._database.close()
                if last:
                    raise
        raise AssertionError("unreachable")

    def redis(self) -> redis.Redis:
        return redis.Redis(port=self.redis_port, socket_timeout=5)

    def unfinished_steps(self) -> list[tuple[str, str]]:
        """(id, resource) of every step that is still to come to its end."""
        return [
            (str(step_id), resource)
            for step_id, resource in self.sql(
                "select id, resource from echo.steps where state in ('pending', 'queued', 'running') limit 50"
            )
        ]

    def set_clock(self, program: Program, offset_s: int) -> None:
        """Move the wall clock of one process; it notices within a second or two."""
        (self.control / f"clock-{program.name}").write_text(f"{offset_s:+d}")

    def hurry(self) -> None:
        """Nobody needs to wait out the pause before a retry."""
        self.sql("update echo.steps set run_at = clock_timestamp() where state = 'queued' and run_at > now()")

    def deaths(self) -> list[str]:
        """Processes that ended and were not asked to."""
        for program in self.programs:
            program.note_death()
        told = [death for program in self.programs for death in program.deaths]
        for program in self.programs:
            program.deaths.clear()
        return told

    def cut_connections(self) -> int:
        """End every connection of Echo's at the server; how many there were."""
        mine = "usename in ('echo_api', 'echo_worker')"
        return len(self.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where {mine}"))  # noqa: S608

    def tail(self, name: str, characters: int = 4000) -> str:
        return (self.logs / f"{name}.log").read_text(errors="replace")[-characters:]

    def encoders(self) -> list[psutil.Process]:
        """Every ffmpeg and ffprobe that works for this cluster, whoever its parent is now."""
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            name, line = process.info["name"] or "", " ".join(process.info["cmdline"] or ())
            if name.startswith("ff") and str(self.data_dir) in line:
                found.append(process)
        return found

    # --- users ------------------------------------------------------------------------------------------------------

    def user(self, name: str) -> Api:
        """A client of this user's."""
        return Api(self.url, self.token(str(self.users.setdefault(name, uuid4()))))

    def token(self, user_id: str, *, issued_ago_s: int = 60, lifetime_s: int = 86_400) -> str:
        """A bearer token as the identity service would issue it."""
        issued_at = int(time.time()) - issued_ago_s
        claims = {"iss": f"{self.url}/auth/v1", "aud": "authenticated", "role": "authenticated", "sub": user_id}
        claims |= {"iat": issued_at, "exp": issued_at + lifetime_s, "email": "somebody@example.org"}
        return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


@contextlib.contextmanager
def running_cluster(home: Path, **options: Any) -> Iterator[Cluster]:
    with Cluster(home, **options) as cluster:
        yield cluster


def make_clip(path: Path, *, seconds: float = 1.0, size: str = "160x120") -> Path:
    """A small real clip with sound."""
    if not path.exists():
        subprocess.run(
            [
                "ffmpeg", "-nostdin", "-v", "error", "-y",
                "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}",
                "-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}",
                "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25",
                "-c:a", "aac", "-b:a", "64k", "-movflags", "+faststart", str(path),
            ],
            check=True,
        )  # fmt: skip
    return path
