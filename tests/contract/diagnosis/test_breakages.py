"""A healthy guest has nothing that is broken; and each breakage, made on purpose, is what the verdict names.

Nothing heals here: no net-agent runs, only its driver.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from cirra.agent.v1.desired_pb2 import Failure, ObjectFault
from cirra.agent.v1.diagnosis_pb2 import PATH_HOP_STATE_OK
from core.ids import uuid7
from net_agent.drivers.linux.dhcp_link import inner_device, outer_device
from net_agent.drivers.linux.dnsmasq_config import NetworkPaths
from net_agent.drivers.linux.files import replace_text
from net_agent.drivers.linux.guard.names import group_chain
from net_agent.drivers.linux.links import write_sysctl
from tests.contract.diagnosis.site import Site, states

pytestmark = pytest.mark.root

Break = Callable[[Site], Awaitable[object]]


async def test_a_healthy_guest_has_nothing_broken(site: Site) -> None:
    found = await site.is_well()
    told = {name for name, state in states(found).items() if state == PATH_HOP_STATE_OK}
    assert told >= {"rules", "tap", "guest", "bridge", "host-filter", "dhcp", "address", "metadata", "dns"}


async def test_nothing_is_left_and_nothing_disturbed(site: Site) -> None:
    """The host is as before, to the index of each interface; and the guest has heard of no new lease."""
    before = await site.linux.fingerprint(site.network)
    for _ in range(3):
        await site.is_well()
    assert await site.linux.fingerprint(site.network) == before
    assert len(await site.linux.driver.leases()) == 1
    assert await site.guest.reaches("10.77.0.2")


# ---- breaking it


def _command(*argv: str) -> Break:
    """*argv*: {tap}, {bridge}, {outer} stand for this guest's devices."""

    async def act(site: Site) -> None:
        names = {
            "tap": site.port.device,
            "bridge": site.network.bridge,
            "outer": outer_device(site.network.network_id),
            "inner": inner_device(site.network.network_id),
        }
        await site.command(*(part.format(**names) for part in argv))

    return act


async def _flush_group(site: Site) -> None:
    """In the table that has it, which depends on the kernel."""
    chain = group_chain(site.port.security_group_ids[0], egress=False)
    listing = json.loads(await site.command("nft", "-j", "list", "chains"))["nftables"]
    [family] = [it["chain"]["family"] for it in listing if it.get("chain", {}).get("name") == chain]
    await site.command("nft", "flush", "chain", family, "cirra", chain)


async def _pull_the_card(site: Site) -> None:
    await site.linux.unplug_guest(site.guest)


async def _kill_dnsmasq(site: Site) -> None:
    await site.linux.kill(site.network, "dnsmasq")


async def _forget_the_host(site: Site) -> None:
    """dnsmasq reads a file that lacks this guest."""
    paths = NetworkPaths(site.linux.folder / "networks" / site.network.network_id)
    replace_text(paths.hosts, "")
    await site.command("kill", "-HUP", str(site.linux.pids(site.network)["dnsmasq"]))


async def _kill_the_proxy(site: Site) -> None:
    await site.linux.kill(site.network, "metadata-proxy")


async def _stop_the_service(site: Site) -> None:
    site.metadata_server.close()
    await site.metadata_server.wait_closed()


async def _guest_shuts_its_card(site: Site) -> None:
    await site.guest.run("ip", "link", "set", "eth0", "down")


async def _forward_reject(site: Site) -> None:
    """As firewalld, or a distribution's iptables-services, has it."""
    await site.linux.namespaces.on_host(lambda: write_sysctl("net/bridge/bridge-nf-call-iptables", "1"))
    await site.command("nft", "add table ip filter")
    await site.command("nft", "add chain ip filter FORWARD { type filter hook forward priority 0; policy accept; }")
    await site.command("nft", "add rule ip filter FORWARD reject with icmp type host-prohibited")


async def _wrong_names(site: Site) -> None:
    """dnsmasq tells another address for the guest's name than the guest's."""
    paths = NetworkPaths(site.linux.folder / "networks" / site.network.network_id)
    replace_text(paths.names, f"10.77.0.99 guest-11.{site.network.dns_domain} guest-11\n")
    await site.command("kill", "-HUP", str(site.linux.pids(site.network)["dnsmasq"]))


async def _told_fault(site: Site) -> None:
    failure = Failure(reason="SEGMENT_LOST", message="the segment is gone", remedy="bring it back")
    other = ObjectFault(kind="network", object_id=str(uuid7()), failure=Failure(reason="OTHER", message="another's"))
    site.faults += [other, ObjectFault(kind="network", object_id=site.network.network_id, failure=failure)]


BREAKAGES: dict[str, tuple[Break, str, str]] = {
    "rules table deleted": (_command("nft", "delete", "table", "bridge", "cirra"), "rules", "RULES_MISSING"),
    "port's chain flushed": (_command("nft", "flush chain bridge cirra {tap}"), "rules", "RULES_NOT_IN_FORCE"),
    "a group's chain flushed": (_flush_group, "rules", "RULES_NOT_IN_FORCE"),
    "all tables flushed": (_command("nft", "flush", "ruleset"), "rules", "RULES_MISSING"),
    "tap deleted": (_command("ip", "link", "del", "{tap}"), "tap", "TAP_MISSING"),
    "tap down": (_command("ip", "link", "set", "{tap}", "down"), "tap", "TAP_DOWN"),
    "tap off its bridge": (_command("ip", "link", "set", "{tap}", "nomaster"), "tap", "TAP_OFF_BRIDGE"),
    "tap with another MTU": (_command("ip", "link", "set", "{tap}", "mtu", "1300"), "tap", "TAP_MTU_WRONG"),
    "no guest": (_pull_the_card, "guest", "GUEST_NOT_CONNECTED"),
    "bridge deleted": (_command("ip", "link", "del", "{bridge}"), "bridge", "BRIDGE_MISSING"),
    "bridge down": (_command("ip", "link", "set", "{bridge}", "down"), "bridge", "BRIDGE_DOWN"),
    "FORWARD REJECT": (_forward_reject, "host-filter", "HOST_FILTER_REJECTS"),
    "DHCP's end off the bridge": (_command("ip", "link", "set", "{outer}", "nomaster"), "dhcp", "DHCP_LINK_BROKEN"),
    "dnsmasq killed": (_kill_dnsmasq, "dhcp", "DHCP_NOT_RUNNING"),
    "dnsmasq lost the host": (_forget_the_host, "dhcp", "DHCP_ENTRY_MISSING"),
    "the guest shut its card": (_guest_shuts_its_card, "address", "GUEST_SILENT"),
    "metadata proxy killed": (_kill_the_proxy, "metadata", "METADATA_PROXY_NOT_RUNNING"),
    "metadata service away": (_stop_the_service, "metadata", "METADATA_SERVICE_AWAY"),
    "wrong DNS": (_wrong_names, "dns", "DNS_WRONG_ANSWER"),
    "a fault that the agent told": (_told_fault, "faults", "SEGMENT_LOST"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_breakage_is_named(site: Site, breakage: str) -> None:
    act, hop, reason = BREAKAGES[breakage]
    await act(site)
    told = await site.names(hop, reason)
    assert told.observed and told.remedy
