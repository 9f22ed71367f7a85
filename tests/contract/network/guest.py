"""A guest as a network sees it: it opens the port's tap as QEMU does; behind it is a namespace with one interface."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import select
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute

from net_agent.drivers.linux.links import disable_ipv6, get_link
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.tap import IFF_NO_PI, IFF_TAP, TUNSETIFF
from net_agent.model import Port

T = TypeVar("T")

_FRAME_OCTETS = 65_550
_DHCP_SCRIPT = """#!/bin/sh
# Says what it was told, and acts on it: RFC 3442 routes (option 121) go before the router of option 3.
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/$mask" dev "$interface"
if [ -n "$mtu" ]; then ip link set "$interface" mtu "$mtu"; fi
if [ -n "$staticroutes" ]; then
    set -- $staticroutes
    while [ $# -ge 2 ]; do
        ip route replace "$1" via "$2" dev "$interface"
        shift 2
    done
elif [ -n "$router" ]; then
    ip route replace default via "$router" dev "$interface"
fi
env
"""


@dataclass(frozen=True, slots=True)
class DhcpAnswer:
    """What udhcpc was told, by its own names: ip, mask, router, dns, mtu, domain, hostname, staticroutes …"""

    told: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.told[name]

    def get(self, name: str) -> str | None:
        return self.told.get(name)


class Guest:
    """start() … stop(). mac_address: the port's unless the guest lies."""

    def __init__(self, namespaces: Namespaces, port: Port, folder: Path, mac_address: str | None = None) -> None:
        self._namespaces = namespaces
        self._port = port
        self._folder = folder
        self._mac_address = mac_address or port.mac_address
        self._name = f"guest-{os.urandom(4).hex()}"
        self._tap = self._nic = -1
        self._stop_read, self._stop_write = os.pipe()
        self._pump = threading.Thread(target=self._run_pump, name=f"pump {port.device}")

    async def start(self) -> None:
        self._tap = await self._namespaces.on_host(lambda: _open_tap(self._port.device))
        await self._namespaces.create(self._name)
        self._nic = await self.inside(self._make_nic)
        self._pump.start()

    async def stop(self) -> None:
        """Pulls the plug: no release, no farewell."""
        os.write(self._stop_write, b"x")
        await asyncio.to_thread(self._pump.join)
        for descriptor in (self._tap, self._nic, self._stop_read, self._stop_write):
            os.close(descriptor)
        await self._namespaces.delete(self._name)

    async def inside(self, function: Callable[[], T]) -> T:
        return await self._namespaces.inside(self._name, function)

    async def run(self, *argv: str, timeout_s: float = 10.0) -> subprocess.CompletedProcess[str]:
        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)

        return await self.inside(run)

    async def dhcp(self, *, tries: int = 8) -> DhcpAnswer | None:
        """Asks for an address and takes it; None: nobody answered (one try a second)."""
        script = self._folder / "udhcpc.sh"
        script.write_text(_DHCP_SCRIPT)
        script.chmod(0o755)
        names = ("hostname", "domain", "mtu", "staticroutes", "msstaticroutes")
        wanted = [part for name in names for part in ("-O", name)]
        command = ["busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", str(script), "-t", str(tries), "-T", "1"]
        result = await self.run(*command, *wanted, timeout_s=30)
        if result.returncode != 0:
            return None
        pairs = (line.partition("=") for line in result.stdout.splitlines())
        return DhcpAnswer({name: value for name, _, value in pairs})

    async def address(self, cidr: str, *routes: str) -> None:
        """Sets an address by hand, as a guest that doesn't ask."""
        await self.run("ip", "addr", "flush", "dev", "eth0")
        assert (await self.run("ip", "addr", "add", cidr, "dev", "eth0")).returncode == 0

    async def ping(self, address: str) -> bool:
        return (await self.run("busybox", "ping", "-c", "1", "-W", "1", address)).returncode == 0

    async def arping(self, address: str) -> bool:
        """Somebody says that the address is theirs."""
        return (await self.run("busybox", "arping", "-c", "1", "-w", "1", "-I", "eth0", address)).returncode == 0

    async def resolve(self, name: str, server: str = "10.77.0.2") -> str | None:
        """The IPv4 address of this name, by the DNS of its network; None: nobody knows it."""
        answer = await self.run("busybox", "nslookup", "-type=a", name, server)
        found = re.findall(r"^Address(?: \d+)?: (\d+\.\d+\.\d+\.\d+)$", answer.stdout, re.MULTILINE)
        return found[-1] if answer.returncode == 0 and found else None

    def _make_nic(self) -> int:
        nic = _open_tap("eth0")
        with IPRoute() as ip:
            link = get_link(ip, "eth0")
            assert link is not None
            disable_ipv6("eth0")
            ip.link("set", index=link.index, address=self._mac_address, state="up")
            ip.link("set", index=1, state="up")
        return nic

    def _run_pump(self) -> None:
        pairs = {self._tap: self._nic, self._nic: self._tap}
        while True:
            readable, _, _ = select.select([*pairs, self._stop_read], [], [])
            if self._stop_read in readable:
                return
            for source in readable:
                try:
                    os.write(pairs[source], os.read(source, _FRAME_OCTETS))
                except OSError:
                    # The port was unplugged under us: a guest's card goes dead, the guest doesn't.
                    pairs.pop(source, None)


def _open_tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor
