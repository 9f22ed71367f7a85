"""Ports of embedded servers: kept while a server is away, since the kernel gives them to nobody by itself."""

from __future__ import annotations

import socket
from pathlib import Path

from core.embedded.server import LOOPBACK, free_port, port_is_free


def test_a_free_port_is_none_that_the_kernel_gives_out() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found = {free_port() for _ in range(50)}
    assert len(found) > 25, "chosen at random, so that two who look at once find different ones"
    assert all(1024 < port < 65_536 for port in found)
    if first > 32_767:
        assert not {port for port in found if first <= port <= last}


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        assert not port_is_free(LOOPBACK, listener.getsockname()[1])
