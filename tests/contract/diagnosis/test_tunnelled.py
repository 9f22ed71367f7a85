"""A guest on a VXLAN network whose other guest is on another host: nothing broken, and each breakage named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import Question
from cirra.agent.v1.diagnosis_pb2 import PATH_HOP_STATE_OK, PATH_HOP_STATE_UNKNOWN, PathFound, PathHop, PortPath
from net_agent.diagnosis.path import Targets
from net_agent.diagnosis.reader import PathReader
from net_agent.drivers.linux.driver import LinuxDriver
from net_agent.drivers.linux.vxlan import vxlan_device
from net_agent.model import Peer
from tests.contract.diagnosis.site import Site, serving, states, summary
from tests.contract.network.fabric import make_vxlan, peer_of
from tests.contract.network.hosts import UNDERLAY, make_port

pytestmark = pytest.mark.root

OWN, OTHER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


@dataclass(slots=True)
class Tunnelled:
    site: Site
    peer: Peer
    # The other host, as far as it is one: a namespace.
    other: str

    @property
    def devices(self) -> dict[str, str]:
        return {
            "tunnel": vxlan_device(self.site.network.network_id),
            "underlay": UNDERLAY,
            "other": self.other,
            "bridge": self.site.network.bridge,
            "mac": self.peer.mac_address,
            "address": str(self.peer.addresses[0]),
        }


@pytest.fixture
async def tunnelled(tmp_path: Path) -> AsyncIterator[Tunnelled]:
    async with serving(tmp_path, tunnel_address=OWN) as (linux, server):
        other = f"{linux.name}-other"
        await linux.namespaces.create(other)
        for command in (
            f"link add {UNDERLAY} mtu 1500 type veth peer name wire mtu 1500 netns {other}",
            f"addr add {OWN}/24 dev {UNDERLAY}",
            f"link set {UNDERLAY} up",
            f"-n {other} addr add {OTHER}/24 dev wire",
            f"-n {other} link set wire up",
        ):
            await linux.command("ip", *command.split())
        network = make_vxlan(77)
        port = make_port(network, 11)
        peer = peer_of(make_port(network, 12), linux, tunnel_address=OTHER)
        await linux.driver.plug(port)
        await linux.driver.keep(peer)
        guest = await linux.guest(port)
        assert await guest.dhcp() is not None
        try:
            yield Tunnelled(Site(linux, port, guest, server), peer, other)
        finally:
            await linux.namespaces.delete(other)


async def test_a_guest_with_peers(tunnelled: Tunnelled) -> None:
    found = await tunnelled.site.is_well()
    told = states(found)
    assert told["tunnel"] == told["peers"] == told["underlay"] == PATH_HOP_STATE_OK, summary(found)
    [seen] = [hop.observed for hop in found.hops if hop.name == "underlay"]
    assert f"{tunnelled.peer.host} ({OTHER})" in seen


async def test_a_host_that_answers_no_echo_is_not_called_broken(tunnelled: Tunnelled) -> None:
    await tunnelled.site.command("sysctl", "-w", "net.ipv4.icmp_echo_ignore_all=1", namespace=tunnelled.other)

    def underlay(found: PathFound) -> PathHop:
        return next(hop for hop in found.hops if hop.name == "underlay")

    def doubtful(found: PathFound) -> bool:
        return (underlay(found).state, underlay(found).reason) == (PATH_HOP_STATE_UNKNOWN, "PEER_HOST_NO_ECHO")

    found = await tunnelled.site.finds(doubtful)
    assert doubtful(found), summary(found)
    assert list(underlay(found).others) == [tunnelled.peer.port_id]


async def test_of_the_other_end_only_its_side_is_told(tunnelled: Tunnelled) -> None:
    driver = tunnelled.site.linux.driver
    assert isinstance(driver, LinuxDriver)
    await tunnelled.site.is_well()
    question = Question(path=PortPath(port_id=tunnelled.site.port.port_id, side=True))
    found = (await PathReader(driver.ground, Targets()).read(question)).path
    assert [hop.name for hop in found.hops] == [
        *("rules", "tap", "guest", "bridge", "host-filter", "uplink", "tunnel", "peers", "underlay", "faults")
    ]


_FDB = ("bridge", "fdb", "del", "{mac}", "dev", "{tunnel}")
BREAKAGES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "tunnel deleted": (("ip", "link", "del", "{tunnel}"), "tunnel", "TUNNEL_MISSING"),
    "tunnel down": (("ip", "link", "set", "{tunnel}", "down"), "tunnel", "TUNNEL_DOWN"),
    "tunnel off the bridge": (("ip", "link", "set", "{tunnel}", "nomaster"), "tunnel", "TUNNEL_OFF_BRIDGE"),
    "tunnel learns": (("bridge", "link", "set", "dev", "{tunnel}", "learning", "on"), "tunnel", "TUNNEL_WRONG"),
    "tunnel address lost": (
        ("ip", "addr", "del", f"{OWN}/24", "dev", "{underlay}"), "tunnel", "TUNNEL_ADDRESS_MISSING",
    ),
    "underlay without carrier": (("ip", "-n", "{other}", "link", "set", "wire", "down"), "tunnel", "UNDERLAY_DOWN"),
    "underlay with a small MTU": (
        ("ip", "link", "set", "{underlay}", "mtu", "1400"), "tunnel", "UNDERLAY_MTU_TOO_SMALL",
    ),
    "forwarding entry dropped": ((*_FDB, "dst", str(OTHER), "self"), "peers", "PEERS_MISSING"),
    "the bridge's entry dropped": ((*_FDB, "master"), "peers", "PEERS_MISSING"),
    "neighbour dropped": (("ip", "neigh", "del", "{address}", "dev", "{bridge}"), "peers", "PEERS_MISSING"),
    "the other host gone": (
        ("ip", "-n", "{other}", "addr", "del", f"{OTHER}/24", "dev", "wire"), "underlay", "PEER_HOST_SILENT",
    ),
    "a small MTU on the way": (
        ("ip", "-n", "{other}", "link", "set", "wire", "mtu", "1400"), "underlay", "UNDERLAY_MTU_TOO_SMALL",
    ),
}  # fmt: skip


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_breakage_is_named(tunnelled: Tunnelled, breakage: str) -> None:
    command, hop, reason = BREAKAGES[breakage]
    await tunnelled.site.command(*(part.format(**tunnelled.devices) for part in command))
    told = await tunnelled.site.names(hop, reason)
    assert told.observed and told.remedy
    assert list(told.others) == ([tunnelled.peer.port_id] if hop == "underlay" else []), "whose host may know more"
    if hop == "peers":
        assert f"{tunnelled.peer.addresses[0]} on {tunnelled.peer.host}: " in told.observed, "whose way it is"
