"""A guest as a network sees it: it opens the port's tap as QEMU does; behind it is a namespace with one interface.

What it asks for has two verbs: one waits with patience for what should come (`reaches`, `finds`, `dhcp`), the other
asks once for what should not (`is_cut_off_from`, `finds_nobody_at`, `hears_no_dhcp`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import select
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute

from net_agent.drivers.linux.links import disable_ipv6, get_link
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.tap import IFF_NO_PI, IFF_TAP, TUNSETIFF
from net_agent.model import Port
from tests.contract.network import echo
from tests.contract.network.waiting import IN_VAIN_S, PATIENCE_S

T = TypeVar("T")

# Of a command that does end: only what hangs takes so long.
COMMAND_S = 60.0
_FRAME_OCTETS = 65_550
_ECHO_AGAIN_S = 0.5
# nslookup's, of what a server has said; of its silence it has other words.
_NO_SUCH_NAME = "an't find"
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

    async def run(self, *argv: str, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)

        return await self.inside(run)

    async def dhcp(self) -> DhcpAnswer | None:
        """Asks for an address until it has one, and takes it; None: nobody answered."""
        return await self._ask_for_address(tries=int(PATIENCE_S))

    async def hears_no_dhcp(self) -> bool:
        return await self._ask_for_address(tries=1) is None

    async def _ask_for_address(self, tries: int) -> DhcpAnswer | None:
        """One try a second."""
        script = self._folder / "udhcpc.sh"
        script.write_text(_DHCP_SCRIPT)
        script.chmod(0o755)
        names = ("hostname", "domain", "mtu", "staticroutes", "msstaticroutes")
        wanted = [part for name in names for part in ("-O", name)]
        command = ["busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", str(script), "-t", str(tries), "-T", "1"]
        result = await self.run(*command, *wanted, timeout_s=COMMAND_S + tries)
        if result.returncode != 0:
            return None
        pairs = (line.partition("=") for line in result.stdout.splitlines())
        return DhcpAnswer({name: value for name, _, value in pairs})

    async def address(self, cidr: str, *routes: str) -> None:
        """Sets an address by hand, as a guest that doesn't ask."""
        await self.run("ip", "addr", "flush", "dev", "eth0")
        assert (await self.run("ip", "addr", "add", cidr, "dev", "eth0")).returncode == 0

    async def reaches(self, address: str, *, octets: int = 56) -> bool:
        """An echo comes back, with so many octets in it."""
        ask = partial(echo.answered, address, within_s=PATIENCE_S, every_s=_ECHO_AGAIN_S, octets=octets)
        return await self.inside(ask)

    async def is_cut_off_from(self, address: str) -> bool:
        """One echo does not come back."""
        return not await self.inside(partial(echo.answered, address, within_s=IN_VAIN_S, every_s=IN_VAIN_S))

    async def finds(self, address: str) -> bool:
        """Somebody says by ARP that the address is theirs."""
        return await self._arping(address, "-f", "-w", f"{PATIENCE_S:g}")

    async def finds_nobody_at(self, address: str) -> bool:
        return not await self._arping(address, "-c", "1", "-w", f"{IN_VAIN_S:g}")

    async def _arping(self, address: str, *options: str) -> bool:
        asked = await self.run("busybox", "arping", *options, "-I", "eth0", address)
        assert "Received" in asked.stdout, f"nothing was asked: {asked}"
        return asked.returncode == 0

    async def resolve(self, name: str, server: str = "10.77.0.2") -> str | None:
        """The IPv4 address of this name, by the DNS of its network; None: by its word, nobody has it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = await self.run("busybox", "nslookup", "-type=a", name, server)
            if answer.returncode == 0 or _NO_SUCH_NAME in answer.stdout + answer.stderr:
                break
            assert time.monotonic() < deadline, f"{server} does not answer: {answer}"
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
                    frame = os.read(source, _FRAME_OCTETS)
                except BlockingIOError:
                    continue
                except OSError:
                    # The port was unplugged under us: a guest's card goes dead, the guest doesn't.
                    del pairs[source]
                    continue
                # An end that is down, gone, or full loses this frame, and may hear the next.
                with suppress(OSError):
                    os.write(pairs[source], frame)


def _open_tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor
