"""An uplink that drops foreign MAC addresses, as virtual switches do, is found by a probe, and told with the remedy.

The other end of the uplink is a switch: a bridge in a namespace of its own, which has the gateway's address.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from core.agent.faults import Faults
from core.agent.state_folder import StateFolder
from net_agent.conditions import Conditions
from net_agent.drivers.linux.uplink_probe import Heard, ask, foreign_mac
from net_agent.healer import Healer
from net_agent.model import Network
from tests.contract.network.hosts import LinuxHost, make_network
from tests.contract.network.waiting import until

pytestmark = pytest.mark.root

REASON = "UPLINK_DROPS_FOREIGN_MACS"


@dataclass(frozen=True, slots=True)
class Switched:
    linux: LinuxHost
    network: Network
    switch: str

    @property
    def key(self) -> tuple[str, str]:
        return "network", self.network.network_id

    async def at_switch(self, *argv: str) -> str:
        return await self.linux.command(*argv, namespace=self.switch)

    async def own_mac(self) -> str:
        [link] = json.loads(await self.linux.command("ip", "-j", "link", "show", "uplink1"))
        return str(link["address"])

    async def drop(self, condition: str) -> None:
        await self.at_switch("nft", "add table bridge vswitch")
        await self.at_switch("nft", "add chain bridge vswitch in { type filter hook prerouting priority 0; }")
        await self.at_switch("nft", "add chain bridge vswitch out { type filter hook postrouting priority 0; }")
        chain = "in" if "saddr" in condition else "out"
        side = "iifname" if chain == "in" else "oifname"
        await self.at_switch("nft", f"add rule bridge vswitch {chain} {side} provider1 {condition} drop")


@pytest.fixture
async def switched(linux: LinuxHost) -> AsyncIterator[Switched]:
    switch = f"{linux.name}-switch"
    await linux.namespaces.create(switch)
    for command in (
        f"link set provider1 netns {switch}",
        f"-n {switch} link add br0 type bridge",
        f"-n {switch} link set provider1 master br0 up",
        f"-n {switch} addr add 203.0.113.1/24 dev br0",
        f"-n {switch} link set br0 up",
    ):
        await linux.command("ip", *command.split())
    network = make_network("203.0.113.0/24", physical_network="physnet1", mtu=1500, external=True)
    await linux.driver.keep(network)

    async def passes() -> bool:
        """Bridges let pass what comes by an interface a moment after its carrier."""
        return await ask(linux.namespaces, "uplink1", IPv4Address("203.0.113.1")) == Heard(own=True, foreign=True)

    await until(passes)
    yield Switched(linux, network, switch)
    await linux.namespaces.delete(switch)


async def test_a_switch_that_lets_all_pass_is_no_condition(switched: Switched) -> None:
    assert await switched.linux.driver.conditions() == {}


@pytest.mark.parametrize("way", ["saddr", "daddr"])
async def test_a_switch_that_drops_foreign_ones_is_told(switched: Switched, way: str) -> None:
    """On the way in (forged transmits), or back (no promiscuous mode): broadcasts do come."""
    await switched.drop(f"ether {way} != {{ {await switched.own_mac()}, ff:ff:ff:ff:ff:ff }}")
    fault = (await switched.linux.driver.conditions())[switched.key]
    assert fault.reason == REASON and "uplink1" in fault.message and "203.0.113.1" in fault.message
    assert "forged transmits" in fault.remedy and "promiscuous" in fault.remedy
    await switched.at_switch("nft", "delete table bridge vswitch")
    assert await switched.linux.driver.conditions() == {}


async def test_a_gateway_that_answers_nobody_tells_nothing(switched: Switched) -> None:
    await switched.at_switch("ip", "addr", "del", "203.0.113.1/24", "dev", "br0")
    assert await switched.linux.driver.conditions() == {}


async def test_nobody_learns_an_address_from_the_probe(switched: Switched) -> None:
    await switched.linux.driver.conditions()
    learnt = await switched.at_switch("ip", "neigh")
    assert foreign_mac(await switched.own_mac()) not in learnt and "0.0.0.0" not in learnt


async def test_it_is_told_with_the_hosts_faults_until_it_is_gone(switched: Switched, tmp_path: Path) -> None:
    driver, faults = switched.linux.driver, Faults()
    state = StateFolder(tmp_path / "state", tmp_path / "identity")
    for folder in (tmp_path / "state", tmp_path / "identity"):
        folder.mkdir()
    state.initialise()
    conditions = Conditions([driver.conditions], interval_s=60)
    healer = Healer(driver, state, faults, interval_s=3, conditions=lambda: conditions.found)
    await switched.drop(f"ether saddr != {await switched.own_mac()}")
    await conditions.look()
    await healer.heal()
    [told] = faults.observed().faults
    assert (told.kind, told.object_id, told.failure.reason) == (*switched.key, REASON) and told.failure.remedy
    await switched.at_switch("nft", "delete table bridge vswitch")
    await conditions.look()
    await healer.heal()
    assert not faults.observed().faults
