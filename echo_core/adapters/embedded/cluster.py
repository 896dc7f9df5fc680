"""The files of PostgreSQL under ``data_dir/postgres``: made once, checked at each start.

``postgres/<major>/`` is the cluster. It is made beside its place and renamed when it is whole, so that a half-made one
(a full disk, a power cut) is never taken for data.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echo_core.adapters.embedded.binaries import POSTGRES_MAJOR, copy_postgres, postgres_bin
from echo_core.adapters.embedded.child import Child, Command
from echo_core.adapters.embedded.datadir import DataDir
from echo_core.adapters.embedded.errors import DataDirError, StartFailedError
from echo_core.adapters.embedded.identity import Identity, able_to_reach, give_tree, may_pass, server_user

SUPERUSER = "postgres"
SECRET = "postgres"  # noqa: S105 - the name of the file that holds it
# Written to postgresql.conf when the cluster is made, so that its owner may change them there.
INITIAL_SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
    "jit": "off",  # compiling costs more than Echo's short queries
}
LIKELY_CAUSES = {
    "No space left on device": "The disk is full: free some space, then start again. No data is lost.",
    "could not open shared memory": "Give the container more shared memory (docker run --shm-size=256m).",
    "could not map anonymous shared memory": "Lower shared_buffers in postgresql.conf or give the machine more memory.",
    "Permission denied": "Give the directory back to the user that made it (chown -R), then start again.",
    "could not locate a valid checkpoint": "The data is damaged: restore a backup (docs/embedded.md).",
    "invalid primary checkpoint": "The data is damaged: restore a backup (docs/embedded.md).",
    "could not read file": "The data is damaged: restore a backup (docs/embedded.md).",
    "could not open file": "The data is damaged: restore a backup (docs/embedded.md).",
    "incorrect checksum": "The data is damaged: restore a backup (docs/embedded.md).",
    "unrecognized configuration parameter": "Correct postgresql.conf.",
    "configuration file": "Correct postgresql.conf.",
}


def explain(log_tail: str, log: Path) -> str:
    """What to do about a start that ended with these lines."""
    for words, remedy in LIKELY_CAUSES.items():
        if words in log_tail:
            return remedy
    return f"The whole log is {log}."


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A cluster that is ready to be served: where it is, with which programs, and as whom."""

    path: Path
    bin: Path
    identity: Identity | None


async def prepare_cluster(data_dir: DataDir, *, fsync: bool) -> Cluster:
    """Make the cluster when there is none, and check what there is.

    Raises:
        DataDirError: It cannot be used: another version's, damaged, unreachable or somebody else's.
        StartFailedError: initdb failed.
    """
    cluster = await asyncio.to_thread(_place, data_dir)
    log = data_dir.log("postgres")
    if not cluster.path.exists():
        await _make(data_dir, cluster, log, fsync=fsync)
    elif data_dir.find_secret(SECRET) is None:
        await _set_password(cluster, data_dir.secret(SECRET), log)
    return cluster


def _place(data_dir: DataDir) -> Cluster:
    """Find or make the place, its programs and its user, and hand the place to that user."""
    home = data_dir.postgres
    path = home / str(POSTGRES_MAJOR)
    user = server_user(data_dir.path)
    programs = postgres_bin()
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        _check_owner(home)
        _check_version(home, path)
        identity, programs = (None, programs) if user is None else _reachable(user, home, programs)
        give_tree(home, identity)
        _check_owner(path if path.exists() else home)
    except PermissionError as error:
        raise DataDirError(f"{home} belongs to another user ({error}).", f"chown -R {os.geteuid()} {home}") from error
    return Cluster(path=path, bin=programs, identity=identity)


def _reachable(user: Identity, home: Path, programs: Path) -> tuple[Identity, Path]:
    """The user with the privileges that are needed, and programs that they reach: copies, if need be."""
    identity = able_to_reach(user, home, programs / "postgres")
    if identity is not None:
        return identity, programs
    if may_pass(user, home):
        copy = copy_postgres(programs, home)
        give_tree(copy, user)
        return user, copy / programs.relative_to(programs.parents[2])
    raise DataDirError(
        f"Echo runs as root, PostgreSQL refuses to, and user {user.uid} cannot reach {home}.",
        "Set data_dir to a place such as /var/lib/echo, or start Echo as the ordinary user who owns it.",
    )


def _check_owner(path: Path) -> None:
    owner = path.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise PermissionError(f"user {owner} owns {path}, Echo runs as {os.geteuid()}")


def _check_version(home: Path, path: Path) -> None:
    """Refuse data of another major version, and data that lost its heart."""
    found = sorted(version.parent for version in (*home.glob("PG_VERSION"), *home.glob("*/PG_VERSION")))
    foreign = [place for place in found if _version(place) != str(POSTGRES_MAJOR) and not place.name.startswith(".")]
    if home in found or (foreign and path not in found) or path in foreign:
        place = home if home in found else (path if path in foreign else foreign[0])
        raise DataDirError(
            f"{place} holds data of PostgreSQL {_version(place)} that Echo did not put there; this Echo runs "
            f"PostgreSQL {POSTGRES_MAJOR} and keeps its data in {path}.",
            "Dump it with that version's pg_dump and restore it into a fresh data_dir (docs/embedded.md), "
            "or serve it yourself and set database.url.",
        )
    if path.exists() and not (path / "global" / "pg_control").is_file():
        raise DataDirError(
            f"{path} is not whole: PG_VERSION or global/pg_control is missing.",
            f"Restore a backup (docs/embedded.md). To begin with an empty database instead, move {path} away.",
        )


def _version(place: Path) -> str:
    return (place / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()


async def _make(data_dir: DataDir, cluster: Cluster, log: Path, *, fsync: bool) -> None:
    """Run initdb. Order and case of text follow Unicode code points whatever the machine's locale (builtin C.UTF-8)."""
    draft = cluster.path.with_name(f".{cluster.path.name}.new")
    password_file = cluster.path.with_name(".password")

    def clear() -> None:
        shutil.rmtree(draft, ignore_errors=True)
        password_file.unlink(missing_ok=True)

    await asyncio.to_thread(clear)
    descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(data_dir.secret(SECRET))
    give_tree(password_file, cluster.identity)
    argv = [
        *(str(cluster.bin / "initdb"), "--pgdata", str(draft), "--username", SUPERUSER, "--pwfile", str(password_file)),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
        *("--builtin-locale=C.UTF-8", "--no-instructions"),
        *(f"--set={name}={value}" for name, value in INITIAL_SETTINGS.items()),
        *(() if fsync else ("--no-sync",)),
    ]
    try:
        await _run("initdb", argv, cluster, log)
        draft.rename(cluster.path)
    finally:
        await asyncio.to_thread(clear)


async def _set_password(cluster: Cluster, password: str, log: Path) -> None:
    """Give the superuser the password of a new secret file, the old one being lost: through the single-user mode."""
    statement = cluster.path.with_name(".statement")
    descriptor = os.open(statement, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"ALTER ROLE {SUPERUSER} PASSWORD '{password}'\n")  # URL-safe letters: nothing to quote
    argv = [str(cluster.bin / "postgres"), "--single", "-D", str(cluster.path), "-c", "log_statement=none", "template1"]
    try:
        await _run("postgres --single", argv, cluster, log, stdin=statement)
    finally:
        statement.unlink()


async def _run(name: str, argv: Sequence[str], cluster: Cluster, log: Path, *, stdin: Path | None = None) -> None:
    """Run a program of PostgreSQL to its end.

    Raises:
        StartFailedError: It failed.
    """
    child = await Child.spawn(
        Command(
            name=name,
            argv=argv,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            cwd=cluster.path.parent,
            stdin=stdin,
            log=log,
            identity=cluster.identity,
        )
    )
    try:
        code = await child.wait()
    finally:
        await child.kill()
    if code != 0:
        raise StartFailedError(f"{name} failed:\n{child.tail}", explain(child.tail, log))
