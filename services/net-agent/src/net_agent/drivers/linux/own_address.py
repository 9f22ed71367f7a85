"""By which address this host reaches others. Blocks; nothing is sent."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address

from net_agent.model import IpAddress

# RFC 5737: nobody has it, so the way there is the default route.
_ELSEWHERE = ("192.0.2.1", 9)


def own_address(targets: Iterable[str]) -> IpAddress | None:
    """Of the way to the first of *targets* ("host:port") that isn't this very machine; else of the default route.

    None when there is neither.
    """
    ways = [_split(target) for target in targets]
    for host, port in [*ways, _ELSEWHERE]:
        address = _towards(host, port)
        if address is not None and not address.is_loopback:
            return address
    return None


def _split(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)


def _towards(host: str, port: int) -> IpAddress | None:
    """Of a connected datagram socket: the kernel has chosen the route then (udp(7))."""
    try:
        [(family, kind, _, _, there), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        with socket.socket(family, kind) as asker:
            asker.connect(there)
            return ip_address(asker.getsockname()[0])
    except OSError:
        return None
