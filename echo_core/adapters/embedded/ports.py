"""Ports on the loopback interface that nobody uses."""

from __future__ import annotations

import secrets
import socket

LOOPBACK = "127.0.0.1"
# Below Linux's default range for outgoing connections (net.ipv4.ip_local_port_range, from 32768): the kernel never
# lends one of these away while its server is being restarted.
FIRST_PORT, LAST_PORT = 15000, 31999


def listen_error(port: int, host: str = LOOPBACK) -> OSError | None:
    """Why a server could not listen on the port now; None when it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error
        return None


def choose_port(remembered: object = None) -> int:
    """The remembered port when it is free, else another free one. It may be taken before its server listens."""
    if isinstance(remembered, int) and 0 < remembered < 1 << 16 and listen_error(remembered) is None:
        return remembered
    for _ in range(100):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        if listen_error(port) is None:
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:  # a crowded machine: let the kernel choose
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    return int(port)
