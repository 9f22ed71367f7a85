"""A host whose own rules eat what its bridges pass on is told of without anybody asking, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.agent.faults import Faults
from core.agent.state_folder import StateFolder
from net_agent.conditions import Conditions
from net_agent.diagnosis.finding import Finding
from net_agent.diagnosis.host_filter_watch import HostFilterWatch
from net_agent.diagnosis.path import Targets
from net_agent.diagnosis.reader import FindGround, PathReader
from net_agent.diagnosis.table import Hop
from net_agent.drivers.linux.driver import LinuxDriver
from net_agent.drivers.linux.links import write_sysctl
from net_agent.healer import Healer
from tests.contract.diagnosis.site import Site
from tests.contract.network.waiting import until

pytestmark = pytest.mark.root

REASON = "HOST_FILTER_REJECTS"
# As administrators, distributions and firewalld (1.3.3, without its zones) have them; each with the chain to be named.
REJECTING = {
    "nft": (
        [
            "nft add table ip filter",
            "nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy accept; }'",
            "nft add rule ip filter FORWARD reject with icmp type host-prohibited",
        ],
        "ip filter FORWARD (reject)",
    ),
    "iptables": (
        ["iptables-nft -A FORWARD -j REJECT --reject-with icmp-host-prohibited"],
        "ip filter FORWARD (reject)",
    ),
    "iptables, policy": (["iptables-nft -P FORWARD DROP"], "ip filter FORWARD (policy drop)"),
    "iptables, in a chain of its own": (
        ["iptables-nft -N SITE", "iptables-nft -A FORWARD -j SITE", "iptables-nft -A SITE -j DROP"],
        "ip filter FORWARD (drop)",
    ),
    "firewalld": (
        [
            "nft add table inet firewalld",
            "nft 'add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }'",
            "nft add chain inet firewalld filter_FORWARD_ZONES",
            "nft add chain inet firewalld filter_FWD_trusted",
            "nft add rule inet firewalld filter_FWD_trusted accept",
            "nft add rule inet firewalld filter_FORWARD ct state established,related accept",
            "nft add rule inet firewalld filter_FORWARD ct state invalid drop",
            "nft add rule inet firewalld filter_FORWARD jump filter_FORWARD_ZONES",
            "nft add rule inet firewalld filter_FORWARD reject with icmpx type admin-prohibited",
        ],
        "inet firewalld filter_FORWARD (drop, reject)",
    ),
    "iptables-legacy": (
        ["iptables-legacy -A FORWARD -j REJECT --reject-with icmp-host-prohibited"],
        "iptables-legacy filter FORWARD (reject)",
    ),
    "iptables-legacy, policy": (["iptables-legacy -P FORWARD DROP"], "iptables-legacy filter FORWARD (policy drop)"),
}
# What firewalld does when it is told so; all else is run as it is advised.
DONE = {
    "firewall-cmd --permanent --zone=trusted --add-interface=brq+; firewall-cmd --reload": [
        "nft insert rule inet firewalld filter_FORWARD_ZONES iifname 'brq*' goto filter_FWD_trusted"
    ]
}


class Reader(PathReader):
    """Notes the ports that are asked."""

    def __init__(self, find_ground: FindGround) -> None:
        super().__init__(find_ground, Targets())
        self.asked: list[str] = []

    async def look(self, port_id: str, hop: Hop) -> Finding | None:
        self.asked.append(port_id)
        return await super().look(port_id, hop)


@dataclass(frozen=True, slots=True)
class Watched:
    """As the agent has it: `look` and `heal` are what it does on its timers."""

    site: Site
    reader: Reader
    conditions: Conditions
    healer: Healer
    faults: Faults

    async def tells(self, *conditions: tuple[str, str, str]) -> None:
        """Returns once a look finds just these: on a busy machine an answer may come too late to be one."""

        async def just_these() -> bool:
            await self.conditions.look()
            await self.healer.heal()
            told = self.faults.observed().faults
            return tuple((it.kind, it.object_id, it.failure.reason) for it in told) == conditions

        await until(just_these)

    @property
    def condition(self) -> tuple[str, str, str]:
        return "network", self.site.network.network_id, REASON

    async def run(self, *commands: str) -> None:
        for command in commands:
            await self.site.command(*shlex.split(command))


@pytest.fixture
async def watched(site: Site, tmp_path: Path) -> AsyncIterator[Watched]:
    driver, faults = site.linux.driver, Faults()
    assert isinstance(driver, LinuxDriver)
    # As on a kernel whose bridges don't track connections, and where Docker or an administrator wants it so.
    await site.linux.namespaces.on_host(lambda: write_sysctl("net/bridge/bridge-nf-call-iptables", "1"))
    state = StateFolder(tmp_path / "state", tmp_path / "identity")
    for folder in (tmp_path / "state", tmp_path / "identity"):
        folder.mkdir()
    state.initialise()
    reader = Reader(driver.ground)
    conditions = Conditions([driver.conditions, HostFilterWatch(driver, reader).conditions], interval_s=60)
    healer = Healer(driver, state, faults, interval_s=3, conditions=lambda: conditions.found)
    yield Watched(site, reader, conditions, healer, faults)


@pytest.mark.parametrize("kind", REJECTING)
async def test_it_is_told_until_what_is_advised_was_done(watched: Watched, kind: str) -> None:
    commands, chain = REJECTING[kind]
    await watched.tells()
    await watched.run(*commands)
    await watched.tells(watched.condition)
    [fault] = watched.faults.observed().faults
    assert chain in fault.failure.message
    # What was told a while ago, while nothing of it is left.
    watched.site.faults.append(fault)
    _, advised = fault.failure.remedy.split(": ")
    await watched.run(*DONE.get(advised, advised.split("; ")))
    await watched.tells()
    # What doesn't come by our bridges is still rejected.
    [hop] = [hop for hop in (await watched.site.is_well()).hops if hop.name == "host-filter"]
    assert hop.observed.startswith(chain)


async def test_it_is_told_until_the_rules_are_gone(watched: Watched) -> None:
    await watched.run(*REJECTING["nft"][0])
    await watched.tells(watched.condition)
    await watched.run("nft delete table ip filter")
    await watched.tells()


async def test_rules_that_reject_something_else_are_none_and_guests_are_asked_once(watched: Watched) -> None:
    await watched.tells()
    assert watched.reader.asked == [], "without such rules nobody is asked"
    await watched.run("iptables-nft -A FORWARD -p tcp --dport 25 -j REJECT")
    await watched.tells()
    assert watched.reader.asked

    async def nobody_is_asked() -> bool:
        watched.reader.asked.clear()
        await watched.conditions.look()
        return not watched.reader.asked

    await until(nobody_is_asked)
    await watched.tells()
    await watched.run("iptables-nft -A FORWARD -j DROP")
    await watched.tells(watched.condition)


async def test_what_our_own_side_lacks_is_no_condition_of_the_host(watched: Watched) -> None:
    """Nobody answers, and there are rules that might be why; and yet they aren't."""
    await watched.run("iptables-nft -A FORWARD -p tcp --dport 25 -j REJECT")
    await watched.site.linux.kill(watched.site.network, "dnsmasq")
    await watched.conditions.look()
    assert watched.conditions.found == {}
