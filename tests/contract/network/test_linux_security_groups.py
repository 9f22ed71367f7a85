"""Security groups on a real host: TCP streams between guests, each a namespace behind the tap of its port.

By the back end that the kernel can have. `make e2e NAME=kernel` runs this file in a guest whose kernel tracks
connections in the bridge.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.guard.conntrack import flows_of
from net_agent.drivers.linux.guard.groups import Limits
from net_agent.drivers.linux.guard.kernel import best_backend
from net_agent.drivers.linux.ruleset import Seen
from net_agent.model import AllowedPair, GroupMember, Port, SecurityGroup
from tests.contract.network.hosts import OPEN, LinuxHost, make_group, make_network, make_port, rule
from tests.contract.network.stations import ARRIVES_S, IN_VAIN_S, passes, stations

pytestmark = pytest.mark.root

TCP, ICMP, ICMPV6 = 6, 1, 58
ANYTHING_OUT = (rule(egress=True), rule(egress=True, ip_version=6))
# Of the one network that a host has here.
_ONLY_ZONE = 1


async def tracks_in_the_bridge(linux: LinuxHost) -> bool:
    return (await linux.namespaces.on_host(best_backend)).name == "bridge"


def lets_in(*ports: int, **remote: Any) -> SecurityGroup:
    return make_group(*(rule(protocol=TCP, ports=(port, port), **remote) for port in ports))


async def test_nothing_gets_to_a_guest_but_what_a_rule_lets_in(linux: LinuxHost) -> None:
    network, web = make_network(), lets_in(80)
    await linux.driver.keep(web)
    server = make_port(network, 11, security_group_ids=(web.group_id,))
    async with stations(linux, server, make_port(network, 12)) as (inside, client):
        listening = await inside.listens(80)
        await inside.listens(81)
        stream = await client.connects(inside.address, 80)
        assert stream is not None
        accepted, _ = listening.accept()
        assert await passes(stream, accepted) and await passes(accepted, stream), "the answers pass too"
        assert await client.is_refused(inside.address, 81)
        assert await client.guest.is_cut_off_from(inside.address)
        # Nor does anything get out: the group has no rule for that. What every guest needs does.
        await client.listens(80)
        assert await inside.is_refused(client.address, 80)
        told = await inside.guest.dhcp()
        assert told is not None and told["ip"] == inside.address


async def test_ports_that_come_while_groups_and_members_do_are_each_seen_wired(linux: LinuxHost) -> None:
    """What somebody else's rule or membership still lacks is not lacking to a port."""
    network, front = make_network(), make_group()
    group = make_group(*ANYTHING_OUT, rule(remote_group_id=front.group_id))
    await linux.driver.keep(group)
    ports = [make_port(network, number, security_group_ids=(group.group_id,)) for number in range(11, 41)]
    lacking: list[tuple[str, ...]] = []

    async def plug(port: Port, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        lacking.append((await linux.driver.plug(port)).lacking)

    async def change() -> None:
        for number in range(40):
            address = ip_network(f"10.77.1.{number}").network_address
            await linux.driver.keep(GroupMember(make_port(network, 99).port_id, (front.group_id,), (address,)))
            await linux.driver.keep(replace(group, rules=(*group.rules, rule(protocol=TCP, ports=(number + 1, 80)))))

    await asyncio.gather(change(), *(plug(port, number / 10) for number, port in enumerate(ports)))
    assert len(lacking) == len(ports) and not any(lacking), lacking


async def test_in_no_group_nothing_passes_and_without_port_security_everything(linux: LinuxHost) -> None:
    network = make_network()
    none, off = (make_port(network, 11, security_group_ids=()), make_port(network, 12, unguarded=True))
    async with stations(linux, none, off, make_port(network, 13)) as (closed, free, client):
        await closed.listens(80)
        await free.listens(80)
        assert await client.is_refused(closed.address, 80)
        assert await client.connects(free.address, 80) is not None
        # It may call itself what it likes.
        await free.guest.address("10.77.0.99/24")
        assert await client.connects("10.77.0.99", 80) is not None


async def test_only_those_of_a_range(linux: LinuxHost) -> None:
    network, web = make_network(), lets_in(80, remote_cidr=ip_network("10.77.0.12/32"))
    await linux.driver.keep(web)
    server = make_port(network, 11, security_group_ids=(web.group_id,))
    async with stations(linux, server, make_port(network, 12), make_port(network, 13)) as (inside, one, other):
        await inside.listens(80)
        assert await one.connects(inside.address, 80) is not None
        assert await other.is_refused(inside.address, 80)


async def test_members_of_a_group_come_and_go_as_elements(linux: LinuxHost) -> None:
    network, front = make_network(), make_group()
    store = lets_in(5432, remote_group_id=front.group_id)
    await linux.driver.keep(store)
    server = make_port(network, 11, security_group_ids=(store.group_id,))
    async with stations(linux, server, make_port(network, 12)) as (inside, client):
        listening = await inside.listens(5432)
        assert await client.is_refused(inside.address, 5432)
        family = "bridge" if await tracks_in_the_bridge(linux) else "inet"
        before = await linux.command("nft", "-a", "list", "chain", family, "cirra", f"ingress-{store.group_id}")
        member = GroupMember(client.port.port_id, (front.group_id,), client.port.addresses)
        await linux.driver.keep(member)
        stream = await client.connects(inside.address, 5432)
        assert stream is not None
        accepted, _ = listening.accept()
        after = await linux.command("nft", "-a", "list", "chain", family, "cirra", f"ingress-{store.group_id}")
        assert before == after, "a member is an element: no rule was touched"
        await linux.driver.drop("group-member", member.port_id)
        assert not await passes(stream, accepted, within_s=IN_VAIN_S), "it was a member no more"
        assert await client.is_refused(inside.address, 5432)


async def test_flows_that_only_a_removed_rule_let_pass_end_and_others_go_on(linux: LinuxHost) -> None:
    network, web, also = make_network(), lets_in(80, 81), lets_in(81)
    for group in (web, also):
        await linux.driver.keep(group)
    server = make_port(network, 11, security_group_ids=(web.group_id, also.group_id, OPEN.group_id))
    outwards = make_group(*ANYTHING_OUT)
    await linux.driver.keep(outwards)
    server = replace(server, security_group_ids=(web.group_id, also.group_id, outwards.group_id))
    async with stations(linux, server, make_port(network, 12)) as (inside, client):
        pairs = []
        for number in (80, 81):
            listening = await inside.listens(number)
            stream = await client.connects(inside.address, number)
            assert stream is not None
            pairs.append((stream, listening.accept()[0]))
        (first, its_end), (second, other_end) = pairs
        assert await passes(first, its_end) and await passes(second, other_end)
        await linux.driver.keep(replace(web, rules=()))
        # Though the server may send anything: what it sends is no beginning of a connection.
        assert not await passes(its_end, first, within_s=IN_VAIN_S)
        assert not await passes(first, its_end, within_s=IN_VAIN_S)
        assert await passes(second, other_end) and await passes(other_end, second), "another group lets it pass"
        await linux.driver.keep(web)
        assert await passes(first, its_end), "with its rule, the stream is back"


async def test_icmp_by_its_type(linux: LinuxHost) -> None:
    network = make_network()
    echo, other = (make_group(rule(protocol=ICMP, icmp_type=number)) for number in (8, 13))
    for group in (echo, other):
        await linux.driver.keep(group)
    ports = [make_port(network, 11 + n, security_group_ids=(it.group_id,)) for n, it in enumerate((echo, other))]
    async with stations(linux, *ports, make_port(network, 13)) as (answers, silent, client):
        assert await client.guest.reaches(answers.address)
        assert await client.guest.is_cut_off_from(silent.address)


async def test_an_allowed_address_pair_is_used_and_another_address_is_not(linux: LinuxHost) -> None:
    network = make_network()
    port = make_port(network, 11)
    port = replace(port, allowed_pairs=(AllowedPair(ip_network("10.77.0.192/30"), port.mac_address),))
    async with stations(linux, port, make_port(network, 12)) as (virtual, client):
        await client.listens(80)
        for address, right in (("10.77.0.193", True), ("10.77.0.197", False), (virtual.address, True)):
            await virtual.guest.address(f"{address}/24")
            reached = await virtual.connects(client.address, 80, within_s=ARRIVES_S if right else IN_VAIN_S)
            assert (reached is not None) is right, address


async def test_ipv6_is_guarded_as_ipv4_is(linux: LinuxHost) -> None:
    network = make_network()
    web = make_group(
        rule(ip_version=6, protocol=TCP, ports=(80, 80)), rule(ip_version=6, protocol=ICMPV6, icmp_type=128)
    )
    await linux.driver.keep(web)

    def port_at(number: int, **changes: object) -> Port:
        made = make_port(network, number, **changes)
        return replace(made, allowed_pairs=(AllowedPair(ip_network(f"fd00::{number}/128"), made.mac_address),))

    ports = (port_at(11, security_group_ids=(web.group_id,)), port_at(12))
    async with stations(linux, *ports) as (inside, client):
        for number, each in ((11, inside), (12, client)):
            await each.run("busybox", "sysctl", "-w", "net.ipv6.conf.eth0.disable_ipv6=0")
            await each.run("ip", "addr", "add", f"fd00::{number}/64", "dev", "eth0", "nodad")
        await inside.listens(80, socket.AF_INET6)
        await inside.listens(81, socket.AF_INET6)
        assert await client.connects("fd00::11", 80) is not None
        assert await client.is_refused("fd00::11", 81)
        assert await client.guest.reaches("fd00::11")
        await client.run("ip", "addr", "del", "fd00::12/64", "dev", "eth0")
        await client.run("ip", "addr", "add", "fd00::66/64", "dev", "eth0", "nodad")
        assert await client.is_refused("fd00::11", 80), "not its address"


async def test_networks_with_the_same_addresses_have_connections_of_their_own(linux: LinuxHost) -> None:
    """Both streams have the same addresses and ports at both ends; one ends, the other goes on."""
    first, second = make_network(), make_network()
    groups = [lets_in(80), lets_in(80)]
    streams = []
    for network, group in zip((first, second), groups, strict=True):
        await linux.driver.keep(group)
        server = make_port(network, 11, security_group_ids=(group.group_id,))
        async with stations(linux, server, make_port(network, 12)) as (inside, client):
            listening = await inside.listens(80)

            def connect(address: str = inside.address) -> socket.socket:
                return socket.create_connection((address, 80), timeout=ARRIVES_S, source_address=("", 4000))

            stream = await client.guest.inside(connect)
            streams.append((stream, listening.accept()[0]))
    await linux.driver.keep(replace(groups[0], rules=()))
    assert not await passes(*streams[0], within_s=IN_VAIN_S)
    assert await passes(*streams[1])


async def test_who_only_sends_is_not_taken_for_many_connections(linux: LinuxHost) -> None:
    """As to a collector of logs: no answer ever comes, and more packets a second than there may be new connections."""
    network, count = make_network(), 3 * Limits().new_per_second
    async with stations(linux, make_port(network, 11), make_port(network, 12)) as (sender, collector):

        def listen() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind(("", 514))
            return made

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as log:
                for _ in range(count):
                    log.sendto(b"x", (collector.address, 514))

        with await collector.guest.inside(listen):
            # Whoever stands for the guest at its tap may lose some: what counts is that no rule drops any.
            await sender.guest.inside(send)
        rules = json.loads(await linux.command("nft", "-j", "list", "ruleset"))["nftables"]
    dropped = [
        next(part["counter"]["packets"] for part in each["rule"]["expr"] if "counter" in part)
        for each in rules
        if "too many" in each.get("rule", {}).get("comment", "")
    ]
    # Of both ports both ways, connections and new connections.
    assert len(dropped) == 8 and not any(dropped), dropped


async def test_the_back_end_is_the_best_that_the_kernel_can_have(linux: LinuxHost) -> None:
    await linux.driver.plug(make_port(make_network(), 11))
    tables = set((await linux.command("nft", "list", "tables")).split("\n")) & {
        "table bridge cirra",
        "table inet cirra",
    }
    tracking = "add table bridge x; add chain bridge x y; add rule bridge x y ct state established accept"
    try:
        await linux.command("nft", tracking)
    except subprocess.CalledProcessError:
        assert tables == {"table bridge cirra", "table inet cirra"}
    else:
        assert tables == {"table bridge cirra"}


async def test_where_bridges_stop_to_show_their_frames_nothing_passes_unseen(linux: LinuxHost) -> None:
    """What is tracked in the bridge never needed that they show them."""
    network, web = make_network(), lets_in(80)
    await linux.driver.keep(web)
    server = make_port(network, 11, security_group_ids=(web.group_id,))
    async with stations(linux, server, make_port(network, 12)) as (inside, client):
        for number in (80, 81):
            await inside.listens(number)
        assert await client.connects(inside.address, 80) is not None
        await linux.command("ip", "link", "set", network.bridge, "type", "bridge", "nf_call_iptables", "0")
        if not await tracks_in_the_bridge(linux):
            for name in ("iptables", "ip6tables"):
                await linux.command("busybox", "sysctl", "-w", f"net.bridge.bridge-nf-call-{name}=0")
            assert await client.is_refused(inside.address, 80)
            assert not (await linux.driver.observe(inside.port.port_id)).wired
            await linux.driver.heal()
        assert (await linux.driver.observe(inside.port.port_id)).wired
        assert await client.connects(inside.address, 80) is not None
        assert await client.is_refused(inside.address, 81)


async def test_rules_are_read_again_only_when_somebody_else_changed_some(
    linux: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = nftables.read_table, list[str]()

    def counted(family: str, name: str) -> Seen | None:
        reads.append(family)
        return read(family, name)

    monkeypatch.setattr(nftables, "read_table", counted)
    network, front = make_network(), make_group()
    group = make_group(*ANYTHING_OUT, rule(remote_group_id=front.group_id))
    ports = [make_port(network, number, security_group_ids=(group.group_id,)) for number in (11, 12, 13)]
    await linux.driver.plug(ports[0])
    before = len(reads)
    await linux.driver.keep(group)
    for port in ports:
        await linux.driver.plug(port)
        for address in port.addresses:
            await linux.driver.keep(GroupMember(port.port_id, (front.group_id,), (address,)))
        assert (await linux.driver.observe(port.port_id)).wired
    await linux.driver.unplug(ports[2].port_id)
    assert await linux.driver.heal() == {}
    assert len(reads) == before, "what was written is known"
    await linux.command("nft", "flush", "chain", "bridge", "cirra", ports[0].device)
    assert not (await linux.driver.observe(ports[0].port_id)).wired
    assert len(reads) > before
    assert await linux.driver.heal() == {}
    assert (await linux.driver.observe(ports[0].port_id)).wired
    # Another agent knows nothing, reads all of it, and finds it as the first one took it to be.
    as_it_was = await linux.fingerprint(network)
    await linux.restart()
    assert await linux.driver.heal() == {}
    assert await linux.fingerprint(network) == as_it_was


async def test_a_restart_of_the_agent_touches_no_rule_and_no_stream(linux: LinuxHost) -> None:
    network = make_network()
    async with stations(linux, make_port(network, 11), make_port(network, 12)) as (inside, client):
        listening = await inside.listens(80)
        stream = await client.connects(inside.address, 80)
        assert stream is not None
        accepted, _ = listening.accept()
        before = await linux.fingerprint(network)
        await linux.restart()
        await linux.driver.heal()
        await linux.driver.plug(inside.port)
        assert await linux.fingerprint(network) == before
        assert await passes(stream, accepted)


async def test_an_address_that_a_port_loses_is_nobody_s_at_once(linux: LinuxHost) -> None:
    """The guest may use it no more, and nothing is remembered of its connections with what is no guest."""
    network = make_network()
    server, client = make_port(network, 11), make_port(network, 12)
    async with stations(linux, server, client) as (inside, outside):
        listening = await inside.listens(80)
        stream = await outside.connects(inside.address, 80)
        assert stream is not None
        accepted, _ = listening.accept()
        assert await passes(stream, accepted)
        assert await inside.guest.resolve("guest-12") == "10.77.0.12"

        async def asked_for_names() -> bool:
            flows = await linux.namespaces.on_host(partial(flows_of, _ONLY_ZONE))
            return any((str(flow.source), flow.destination_port) == (inside.address, 53) for flow in flows)

        assert await asked_for_names()
        await linux.driver.plug(replace(server, addresses=(ip_address("10.77.0.99"),)))
        assert not await asked_for_names()
        assert not await passes(accepted, stream, within_s=IN_VAIN_S)
        assert await outside.is_refused(inside.address, 80)
        await inside.guest.address("10.77.0.99/24")
        assert await outside.connects("10.77.0.99", 80) is not None
