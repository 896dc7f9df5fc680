"""As which user the servers run.

An ordinary user runs them as themselves. PostgreSQL refuses to run as root, so root gives it an unprivileged user, and
that user may be unable to pass the directories above ``data_dir`` or above the installed binaries (``/root`` is 0700).
Opening those up is not ours to do. Instead the server keeps one capability of root, CAP_DAC_READ_SEARCH: it may read
and pass, but write nothing that is not its own. Rejected: a user namespace in which root bears another number, since
files of root stay writable from inside, and containers mostly forbid to make one. Where root has no such capability (it
is not in the default set of containers), unreachable binaries are copied, and an unreachable ``data_dir`` is an error.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from echo_core.adapters.embedded.errors import DataDirError

UNPRIVILEGED_USERS = ("echo", "nobody")  # the first that exists; an administrator may make the first
CAP_DAC_READ_SEARCH = 2  # <linux/capability.h>
CAP_SETPCAP = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to become. ``search``: keep the privilege to read files and pass directories."""

    uid: int
    gid: int
    search: bool = False


def may_pass(identity: Identity, path: Path) -> bool:
    """Whether the permission bits let the user reach ``path`` through every directory above it."""
    for directory in path.resolve().parents:
        facts = directory.stat()
        if facts.st_uid == identity.uid:
            needed = stat.S_IXUSR
        elif facts.st_gid == identity.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not facts.st_mode & needed:
            return False
    return True


def can_grant_search() -> bool:
    """Whether this process holds what the launcher needs to hand the search privilege on."""
    if sys.platform != "linux":
        return False
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            return all(held >> bit & 1 for bit in (CAP_DAC_READ_SEARCH, CAP_SETPCAP))
    return False


def able_to_reach(identity: Identity, *paths: Path) -> Identity | None:
    """The same user, with the search privilege where it is needed; None when it is needed and not ours to give."""
    if all(may_pass(identity, path) for path in paths):
        return identity
    return replace(identity, search=True) if can_grant_search() else None


def server_user(data_dir: Path) -> Identity | None:
    """The user for the servers: None to stay who we are, else the owner of ``data_dir`` or an unprivileged user.

    Raises:
        DataDirError: There is no such user, or this user has no name, which PostgreSQL insists on.
    """
    if os.geteuid() != 0:
        _check_named(os.geteuid())
        return None
    owner = data_dir.stat()
    if owner.st_uid != 0:
        _check_named(owner.st_uid)
        return Identity(owner.st_uid, owner.st_gid)
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(entry.pw_uid, entry.pw_gid)
    raise DataDirError(
        "PostgreSQL refuses to run as root, and this machine has no unprivileged user for it.",
        "Create one (useradd --system echo) or start Echo as an ordinary user.",
    )


def _check_named(uid: int) -> None:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise DataDirError(
            f"PostgreSQL refuses to run as a user without a name, and user {uid} has none in /etc/passwd.",
            f"Add one (echo 'echo:x:{uid}:{uid}::/:/bin/false' >> /etc/passwd) or set database.url to another server.",
        ) from None


def give_tree(path: Path, identity: Identity | None) -> None:
    """Make a directory and all in it the user's own, when it is not: as root only, and links are not followed."""
    if identity is None or path.lstat().st_uid == identity.uid:
        return
    for directory, names, files in os.walk(path):
        for name in (*names, *files):
            os.chown(Path(directory, name), identity.uid, identity.gid, follow_symlinks=False)
    os.chown(path, identity.uid, identity.gid, follow_symlinks=False)  # last: it says that all the others are done
