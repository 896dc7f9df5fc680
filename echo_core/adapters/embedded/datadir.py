"""The directory that holds everything: its parts, secrets, remembered ports, logs, and who holds it now."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from echo_core.adapters.embedded.errors import AlreadyRunningError, DataDirError

LOG_ROTATE_BYTES = 10 << 20  # a log larger than this is put aside when its writer starts; one old copy is kept
FREE_BYTES_NEEDED = 128 << 20  # an empty cluster takes 40 MB and grows by WAL files of 16 MB
FREE_SPACE = "Free some space or move data_dir to a larger disk."
SAME_START_S = 0.05  # as exact as the kernel counts, and what is lost on the way through JSON
START_FIELD = 19  # of /proc/PID/stat, after the name: "starttime" of proc_pid_stat(5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """A running Echo, for the commands that want to talk to it. The URLs carry passwords."""

    pid: int
    started_at: float
    public_url: str
    database_url: str
    redis_url: str


def write_private(path: Path, text: str, *, durable: bool = False) -> None:
    """Replace a file as a whole; nobody but its owner may read it. ``durable``: it survives a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def start_of(pid: int) -> float:
    """When the process started, in seconds since the machine did, which no setting of the clock moves; where the system
    does not tell that, in seconds since 1970. Raises ``psutil.Error`` when it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return float(psutil.Process(pid).create_time())
    _, _, fields = stat.rpartition(b")")
    return int(fields.split()[START_FIELD]) / os.sysconf("SC_CLK_TCK")


def process_of(pid: int, started_at: float) -> psutil.Process | None:
    """The process with this number, if it is the one that started then (``start_of``) and not a later one with its
    number."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if abs(start_of(pid) - started_at) < SAME_START_S and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def find_instance(data_dir: Path) -> Instance | None:
    """Return the Echo that runs with this ``data_dir``; None when none does, or its servers do not run yet or any more.

    Its API may still be starting, or have stopped."""
    try:
        facts = json.loads((data_dir.resolve() / "run" / "instance.json").read_text(encoding="utf-8"))
        instance = Instance(**facts)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return instance if process_of(instance.pid, instance.started_at) else None


class DataDir:
    """The parts of one ``data_dir``. Every method blocks for a moment; none waits."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.secrets = self.path / "secrets"
        self.run = self.path / "run"
        self.logs = self.path / "logs"
        self.postgres = self.path / "postgres"
        self.valkey = self.path / "valkey"

    def prepare(self) -> None:
        """Create the parts.

        Raises:
            DataDirError: It cannot be written, or its disk is full.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for part in (self.secrets, self.run, self.logs):
                part.mkdir(mode=0o700, exist_ok=True)
            for part in (self.path, self.secrets, self.run, self.logs):
                self._probe(part)
        except OSError as error:
            remedy = f"Make it writable for this user (chown -R {os.geteuid()} {self.path}) or set another data_dir."
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                remedy = FREE_SPACE
            raise DataDirError(
                f"Echo cannot write to {self.path}: {error.strerror} ({error.filename}).", remedy
            ) from error
        free_bytes = shutil.disk_usage(self.path).free
        if free_bytes < FREE_BYTES_NEEDED:
            raise DataDirError(
                f"The disk of {self.path} is full: {free_bytes >> 20} MiB left, {FREE_BYTES_NEEDED >> 20} needed.",
                FREE_SPACE,
            )

    def _probe(self, part: Path) -> None:
        """Write for real: permission bits say nothing of read-only mounts and full disks."""
        probe = part / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()

    def find_secret(self, name: str) -> str | None:
        """The secret of this name, None when there is none yet."""
        with suppress(FileNotFoundError):
            return (self.secrets / name).read_text(encoding="utf-8").strip() or None
        return None

    def secret(self, name: str) -> str:
        """The secret of this name, drawn on first use: 32 random bytes in URL-safe letters."""
        value = self.find_secret(name)
        if value is None:
            value = secrets.token_urlsafe(32)
            write_private(self.secrets / name, value + "\n", durable=True)
        return value

    def read_run(self, name: str) -> dict[str, object]:
        """What was noted in ``run/<name>``; empty when nothing was, or half of it."""
        with suppress(FileNotFoundError, ValueError):
            noted = json.loads((self.run / name).read_text(encoding="utf-8"))
            return noted if isinstance(noted, dict) else {}
        return {}

    def write_run(self, name: str, facts: Mapping[str, object]) -> None:
        """Note facts of the running instance in ``run/<name>``."""
        write_private(self.run / name, json.dumps(facts))

    def log(self, name: str) -> Path:
        """Where ``name`` logs; a large log of an earlier run is put aside as ``<name>.log.1``."""
        path = self.logs / f"{name}.log"
        with suppress(FileNotFoundError):
            if path.stat().st_size > LOG_ROTATE_BYTES:
                path.replace(path.with_name(f"{name}.log.1"))
        return path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory against a second Echo. The kernel lets go of it when this process ends, however it ends.

        Raises:
            AlreadyRunningError: Another process holds it.
            DataDirError: The file system knows no locks.
        """
        descriptor = os.open(self.run / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._already_running(os.pread(descriptor, 32, 0)) from None
            except OSError as error:
                raise DataDirError(
                    f"The file system of {self.path} cannot lock files: {error.strerror}.",
                    "Move data_dir to a local disk: neither Echo's lock nor PostgreSQL's data is safe there.",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            (self.run / "instance.json").unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)

    def _already_running(self, noted_pid: bytes) -> AlreadyRunningError:
        instance = find_instance(self.path)
        pid = int(noted_pid) if noted_pid.isdigit() else None
        return AlreadyRunningError(
            self.path, pid=instance.pid if instance else pid, address=instance.public_url if instance else None
        )

    @contextmanager
    def announced(self, *, public_url: str, database_url: str, redis_url: str) -> Iterator[Instance]:
        """Let ``find_instance`` find this process for as long as the block runs."""
        instance = Instance(
            pid=os.getpid(),
            started_at=start_of(os.getpid()),
            public_url=public_url,
            database_url=database_url,
            redis_url=redis_url,
        )
        self.write_run("instance.json", asdict(instance))
        try:
            yield instance
        finally:
            (self.run / "instance.json").unlink(missing_ok=True)
