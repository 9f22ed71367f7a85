"""Two ends of a wire, as guests would be, on what carries their frames: Cirra's, or the same without its rules.

A guest is a network namespace. Its interface is one of a veth pair whose other one is a port of the host's bridge.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from net_agent.model import Port
from tests.contract.network.fabric import make_vxlan, two_hosts
from tests.contract.network.hosts import LinuxHost, make_network, make_port

# An underlay of 1,500 octets less what VXLAN takes; the same without a tunnel.
MTU = 1450
UNDERLAY_MTU = 1500
VNI = 77
# Of the bare way; Cirra's is told by its own ports. RFC 5737's addresses join hosts.
_ADDRESSES = ("10.77.0.11", "10.77.0.12")
_MAC_ADDRESSES = ("fa:16:3e:00:00:0b", "fa:16:3e:00:00:0c")
_HOSTS = ("192.0.2.1", "192.0.2.2")
# The least that tells what belongs to a connection, where networks may use the same addresses.
_TRACKING = """
table inet tracking {
    chain zones { type filter hook prerouting priority -300; iifname "bridge0" ct zone set 1; }
    chain forward { type filter hook forward priority 0; ct state established,related accept; }
}
"""


@dataclass(frozen=True, slots=True)
class Space:
    """A network namespace, by the file that it is bound to."""

    path: Path

    @classmethod
    @asynccontextmanager
    async def make(cls, what: str) -> AsyncIterator[Space]:
        name = f"bench-{what}-{os.urandom(3).hex()}"
        await checked("ip", "netns", "add", name)
        try:
            space = cls(Path("/run/netns") / name)
            await space.ip("link set lo up")
            yield space
        finally:
            await checked("ip", "netns", "del", name)

    def enter(self, *command: str) -> list[str]:
        """The command that runs *command* there."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    async def ip(self, words: str) -> None:
        await checked(*self.enter("ip", *words.split()))


@dataclass(frozen=True, slots=True)
class Ends:
    """Of a wire. `host`: the sender's; `address`: the receiver's."""

    host: Space
    sender: Space
    receiver: Space
    address: str


async def checked(*command: str) -> str:
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


async def _guest(stack: AsyncExitStack, host: Space, device: str, bridge: str, mac_address: str, address: str) -> Space:
    """A guest behind *device*, which is made on the host's bridge."""
    space = await stack.enter_async_context(Space.make("guest"))
    await host.ip(f"link add {device} mtu {MTU} type veth peer name eth0 mtu {MTU} netns {space.path.name}")
    await space.ip(f"link set eth0 address {mac_address} up")
    await space.ip(f"addr add {address}/24 dev eth0")
    await host.ip(f"link set {device} master {bridge} up")
    return space


# ---- Cirra's


@asynccontextmanager
async def cirra_bridge(folder: Path) -> AsyncIterator[Ends]:
    """Two guests of one host."""
    host = LinuxHost(folder)
    await host.start()
    try:
        network = make_network(mtu=MTU)
        placed = [(host, make_port(network, number)) for number in (11, 12)]
        for _, port in placed:
            await host.driver.plug(port)
        async with _in_place_of_taps(placed) as ends:
            yield ends
    finally:
        await host.stop()


@asynccontextmanager
async def cirra_tunnel(folder: Path) -> AsyncIterator[Ends]:
    """A guest on each of two hosts."""
    async with two_hosts(folder) as fabric:
        network = make_vxlan(VNI, mtu=MTU)
        placed = [
            (host, await fabric.plug(host, network, number))
            for host, number in ((fabric.first, 11), (fabric.second, 12))
        ]
        async with _in_place_of_taps(placed) as ends:
            yield ends


@asynccontextmanager
async def _in_place_of_taps(placed: list[tuple[LinuxHost, Port]]) -> AsyncIterator[Ends]:
    async with AsyncExitStack() as stack:
        spaces = []
        for host, port in placed:
            await host.command("ip", "link", "del", port.device)
            bridge, address = port.network.bridge, str(port.addresses[0])
            spaces.append(await _guest(stack, Space(host.namespace), port.device, bridge, port.mac_address, address))
        await _guarded(placed)
        yield Ends(Space(placed[0][0].namespace), spaces[0], spaces[1], str(placed[1][1].addresses[0]))
        await _guarded(placed)


async def _guarded(placed: list[tuple[LinuxHost, Port]]) -> None:
    """All is as the driver would have it, with an interface under the tap's name on its bridge."""
    for host, port in placed:
        state = await host.driver.observe(port.port_id)
        if not state.wired:
            raise SystemExit(f"what is measured is not what Cirra makes: {', '.join(state.lacking)}")


# ---- bare


@asynccontextmanager
async def bare_bridge() -> AsyncIterator[Ends]:
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(_bare_host())
        spaces = [
            await _guest(stack, host, f"tap{number}", "bridge0", mac_address, address)
            for number, (mac_address, address) in enumerate(zip(_MAC_ADDRESSES, _ADDRESSES, strict=True))
        ]
        yield Ends(host, spaces[0], spaces[1], _ADDRESSES[1])


def bare_tunnel() -> AbstractAsyncContextManager[Ends]:
    return _tunnel(_bare_host)


def tracked_tunnel() -> AbstractAsyncContextManager[Ends]:
    """As the bare one, but its frames are shown to the hooks of IP, and their connections tracked in a zone. With less
    nobody guards guests by connections, on a kernel that doesn't track them in the bridge."""
    return _tunnel(_tracking_host)


@asynccontextmanager
async def _tunnel(make_host: Callable[[], AbstractAsyncContextManager[Space]]) -> AsyncIterator[Ends]:
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(make_host()) for _ in range(2)]
        peer = f"peer name under0 mtu {UNDERLAY_MTU} netns {hosts[1].path.name}"
        await hosts[0].ip(f"link add under0 mtu {UNDERLAY_MTU} type veth {peer}")
        spaces = []
        for number, host in enumerate(hosts):
            here, there = _HOSTS[number], _HOSTS[1 - number]
            await host.ip(f"addr add {here}/24 dev under0")
            await host.ip("link set under0 up")
            await host.ip(f"link add vxlan0 mtu {MTU} type vxlan id {VNI} dstport 4789 local {here} nolearning")
            for mac_address in ("00:00:00:00:00:00", _MAC_ADDRESSES[1 - number]):
                await checked(
                    *host.enter("bridge", "fdb", "append", mac_address, "dev", "vxlan0", "dst", there, "self")
                )
            await host.ip("link set vxlan0 master bridge0 up")
            spaces.append(await _guest(stack, host, "tap0", "bridge0", _MAC_ADDRESSES[number], _ADDRESSES[number]))
        yield Ends(hosts[0], spaces[0], spaces[1], _ADDRESSES[1])


@asynccontextmanager
async def _bare_host() -> AsyncIterator[Space]:
    async with Space.make("host") as host:
        await host.ip(f"link add bridge0 mtu {MTU} type bridge stp_state 0 forward_delay 0")
        # A new namespace shows bridged frames to the hooks of IP.
        for hook in ("ip", "ip6", "arp"):
            name = f"/proc/sys/net/bridge/bridge-nf-call-{hook}tables"
            await checked(*host.enter("sh", "-c", f"! test -e {name} || echo 0 >{name}"))
        await host.ip("link set bridge0 up")
        yield host


@asynccontextmanager
async def _tracking_host() -> AsyncIterator[Space]:
    async with _bare_host() as host:
        await host.ip("link set bridge0 type bridge nf_call_iptables 1 nf_call_ip6tables 1")
        await checked(*host.enter("nft", _TRACKING))
        yield host
