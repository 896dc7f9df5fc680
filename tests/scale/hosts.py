"""Hosts of their own, in miniature: network namespaces joined by a bridge, all of them made and removed by the test.

Nothing of it touches the machine's own network: the bridge lies in a namespace too, and every address is one of these
namespaces'. A thread enters a host with ``inside``; the sockets that it opens there stay there, and so do the programs
that it starts.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

IP = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
CLONE_NEWNET = 0x4000_0000
SUBNET = "10.77.0"
_networks = count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> None:
    """Run ``ip``. Raises ``CalledProcessError`` with what it said."""
    assert IP is not None
    done = subprocess.run([IP, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def why_not() -> str:
    """Why this machine cannot have such hosts; empty if it can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if IP is None:
        return "iproute2 is not installed"
    try:
        with Network() as network:
            network.add("probe")
    except (RuntimeError, OSError) as error:
        return f"network namespaces are not allowed here: {error}"
    return ""


@dataclass(frozen=True)
class Host:
    """One host: its network namespace, its address, and its plug in the switch."""

    name: str
    namespace: str
    address: str
    plug: str

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is on the host. What it started there stays there."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(f"/run/netns/{self.namespace}")
            try:
                yield
            finally:
                if _libc.setns(before, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "cannot leave the network namespace")
        finally:
            os.close(before)


def _enter(path: str) -> None:
    there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")
    finally:
        os.close(there)


def _sweep() -> None:
    """Remove what test runs left that were killed; the names say whose they were."""
    for path in Path("/run/netns").glob("echo-*-*-*"):
        owner = path.name.split("-")[1]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            ip("netns", "del", path.name)


@dataclass
class Network:
    """A switch and the hosts at it. Enter it; leaving it removes everything, whatever happened."""

    run: str = field(default_factory=lambda: f"{os.getpid()}-{next(_networks)}")
    hosts: dict[str, Host] = field(default_factory=dict)
    _made: list[str] = field(default_factory=list)

    @property
    def switch(self) -> str:
        return f"echo-{self.run}-switch"

    def __enter__(self) -> Network:
        _sweep()
        try:
            self._namespace(self.switch)
            ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
            ip("-n", self.switch, "link", "set", "br0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in reversed(self._made):
            if Path(f"/run/netns/{namespace}").exists():
                ip("netns", "del", namespace)  # its links go with it
        self._made.clear()

    def _namespace(self, name: str) -> None:
        ip("netns", "add", name)
        self._made.append(name)
        ip("-n", name, "link", "set", "lo", "up")

    def add(self, name: str) -> Host:
        """A host with an address, at the switch."""
        number = len(self.hosts) + 2
        host = Host(name, f"echo-{self.run}-{name}", f"{SUBNET}.{number}", f"plug{number}")
        self._namespace(host.namespace)
        ip("-n", self.switch, "link", "add", host.plug, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        ip("-n", self.switch, "link", "set", host.plug, "master", "br0", "up")
        ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        ip("-n", host.namespace, "link", "set", "eth0", "up")
        self.hosts[name] = host
        return host

    def pull(self, host: Host) -> None:
        """Pull the host's plug: nothing gets through any more, and nobody is told."""
        ip("-n", self.switch, "link", "set", host.plug, "down")

    def plug_in(self, host: Host) -> None:
        """Undo ``pull``."""
        ip("-n", self.switch, "link", "set", host.plug, "up")

    @contextmanager
    def pulled(self, host: Host) -> Iterator[None]:
        """Without this host."""
        self.pull(host)
        try:
            yield
        finally:
            self.plug_in(host)

    @contextmanager
    def mute(self, server: Host, client: Host) -> Iterator[None]:
        """The server's packets to that one client vanish: what a broken route or firewall does, without a word."""
        ip("-n", server.namespace, "route", "add", "blackhole", f"{client.address}/32")
        try:
            yield
        finally:
            ip("-n", server.namespace, "route", "del", "blackhole", f"{client.address}/32")
