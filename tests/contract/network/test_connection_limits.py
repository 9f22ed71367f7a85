"""What one guest may take of its host's table of connections (nf_conntrack), on a real host."""

from __future__ import annotations

import json
import socket
from functools import partial
from pathlib import Path

import pytest

from net_agent.drivers.linux.guard.conntrack import carry_out, flows_of
from net_agent.drivers.linux.guard.flows import Sentence
from net_agent.drivers.linux.guard.groups import Limits
from tests.contract.network.hosts import LinuxHost, make_network, make_port
from tests.contract.network.stations import Station, stations
from tests.contract.network.waiting import until

pytestmark = pytest.mark.root

# So few, and so fast, that a test fills them at once.
LIMITS = Limits(connections=210, new_per_second=1_000_000, parts=7)
SERVICES = "10.77.0.2"
# Of the one network that a host has here.
ZONE = 1
# What guests began besides.
FEW = 20


async def refused(linux: LinuxHost, device: str) -> int:
    """Packets that would have begun one connection too many of those that come from this tap."""
    rules = json.loads(await linux.command("nft", "-j", "list", "ruleset"))["nftables"]
    return sum(
        part["counter"]["packets"]
        for each in rules
        if each.get("rule", {}).get("chain") == f"out-{device}" and "too many connections" in each["rule"]["comment"]
        for part in each["rule"]["expr"]
        if "counter" in part
    )


async def flood(station: Station, *, count: int, source: int) -> None:
    """As many connections as there are packets."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("", source))
            for number in range(count):
                sender.sendto(b"x", (SERVICES, 1_000 + number))

    await station.guest.inside(send)


async def test_a_guest_that_floods_takes_no_more_than_its_part_of_the_table(linux: LinuxHost) -> None:
    """Others connect as before; it may again when its connections have ended."""
    linux.limits = LIMITS
    await linux.restart()
    # However long this takes, none of them ends by itself.
    await linux.command("busybox", "sysctl", "-w", "net.netfilter.nf_conntrack_udp_timeout=3600")
    network = make_network()
    ports = [make_port(network, number) for number in (11, 12, 13)]
    async with stations(linux, *ports) as (greedy, server, client):
        await server.listens(80)
        sources = iter(range(20_000, 30_000))

        async def filled() -> bool:
            await flood(greedy, count=LIMITS.connections, source=next(sources))
            return await refused(linux, greedy.port.device) > LIMITS.connections

        await until(filled)
        held = int(await linux.namespaces.on_host(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text))
        assert LIMITS.connections * 0.9 < held < LIMITS.connections + FEW
        assert await client.connects(server.address, 80) is not None
        assert await greedy.is_refused(server.address, 80), "its own, it has used up"
        assert await linux.driver.heal() == {}
        assert (await linux.driver.observe(greedy.port.port_id)).wired, "what rules have counted is nobody's doing"

        flows = await linux.namespaces.on_host(partial(flows_of, ZONE))
        ended = Sentence(end=(), revive=(), delete=tuple(flows))
        await linux.namespaces.on_host(partial(carry_out, ZONE, ended))
        assert await greedy.connects(server.address, 80) is not None
