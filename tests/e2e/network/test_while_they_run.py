"""What changes while guests run: rules, members of groups, NICs, bandwidth; and what IPv6 brings them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import InstanceNic
from cirra.network.v1.network_pb2 import BandwidthLimits, Network, Port
from cirra.network.v1.security_group_pb2 import (
    ETHERTYPE_IPV6,
    TRAFFIC_DIRECTION_INGRESS,
    SecurityGroup,
    SecurityGroupRule,
)
from core import eui64
from core.ids import last_segment, tap_device
from deployment.demo.tenant import Tenant
from tests.e2e.network import streams, ways_out
from tests.e2e.network.guests import METADATA_IPV6, Guest, all_reach_each_other, answers, boot, delete_named, vxlan
from tests.e2e.testbed.guests import BOOT_TIMEOUT_S
from tests.testbed.testbed import Testbed

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

# Where guests say again what they hear, and where they take all that comes.
_HERE, _ALSO, _ALL = 7001, 7002, 7100
# What an emulated guest can send and take several times over, to the guest and from it.
_LIMITS = BandwidthLimits(ingress_kbps=6_000, egress_kbps=4_000)
_WITHIN, _MEASURED_S = 0.1, 8
# Until the machine has time enough for guests to use all that they may.
_USED_TIMEOUT_S = 240.0


@dataclass(frozen=True, slots=True)
class Trio:
    """Each on a host of its own, shared by all cases: `one` and `other` are on `network`, `far` on another one behind a
    router. Both networks have a subnet of each family."""

    tenant: Tenant
    network: Network
    one: Guest
    other: Guest
    far: Guest

    async def port(self, guest: Guest) -> Port:
        return await self.tenant.user.ports.get(guest.instance.nics[0].port)

    async def ipv6(self, guest: Guest) -> str:
        """The address that it makes itself of what is advertised."""
        found = [each.ip_address for each in (await self.port(guest)).fixed_ips if ":" in each.ip_address]
        assert len(found) == 1, found
        return found[0]

    @asynccontextmanager
    async def group(self, name: str, *rules: SecurityGroupRule) -> AsyncIterator[SecurityGroup]:
        """One more; who is in it has to leave before."""
        made = await self.tenant.user.security_groups.create(name, rules=rules, default_rules=False)
        try:
            yield made
        finally:
            await self.tenant.user.security_groups.delete(made)

    @asynccontextmanager
    async def member(self, guest: Guest, *groups: SecurityGroup) -> AsyncIterator[None]:
        """In these beside the one that lets somebody log in."""
        await self.set_groups(guest, *groups)
        try:
            yield
        finally:
            await self.set_groups(guest)

    async def set_groups(self, guest: Guest, *groups: SecurityGroup) -> None:
        await self.tenant.user.ports.update(
            await self.port(guest), security_groups=[self.tenant.security_group, *groups]
        )


def lets_in(port: int, *, remote_ip_prefix: str = "", remote_group: str = "") -> SecurityGroupRule:
    return SecurityGroupRule(
        direction=TRAFFIC_DIRECTION_INGRESS,
        protocol="tcp",
        port_range_min=port,
        port_range_max=port,
        remote_ip_prefix=remote_ip_prefix,
        remote_group=remote_group,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trio(testbed: Testbed, operated: Tenant) -> AsyncIterator[Trio]:
    user, (first, second, third) = operated.user, testbed.hosts
    async with (
        vxlan(user, "near", "10.46.0.0/24", "2001:db8:46::/64") as (near, near_subnets),
        vxlan(user, "far", "10.47.0.0/24", "2001:db8:47::/64") as (far, far_subnets),
        ways_out.router(user, "", *near_subnets, *far_subnets),
    ):
        try:
            guests = await boot(testbed, operated, "trio", (first, near), (second, near), (third, far))
            await all_reach_each_other(guests)
            for guest in guests:
                await streams.listen(guest, _HERE, _ALSO)
                await streams.listen(guest, _ALL, command="sh -c 'cat >/dev/null'")
            yield Trio(operated, near, *guests)
        finally:
            await delete_named(operated, "trio")


async def test_a_removed_rule_ends_what_only_it_let_pass(trio: Trio) -> None:
    """Streams of guests on two other hosts, one of them by the router: a second rule lets that one go on."""
    one, other, far, user = trio.one, trio.other, trio.far, trio.tenant.user
    assert not await streams.is_let_in(other, one.address, _HERE), "nothing gets in unless a rule says so"
    async with (
        trio.group("everybody", lets_in(_HERE), lets_in(_HERE, remote_ip_prefix=f"{far.address}/32")) as group,
        trio.member(one, group),
    ):
        for guest in (other, far):
            await streams.comes_to_be_let_in(guest, one.address, _HERE)
        ending = await streams.connect(other, "ending", one.address, _HERE)
        going = await streams.connect(far, "going", one.address, _HERE)
        assert not await streams.is_let_in(other, one.address, _ALSO)

        [rule] = [each for each in group.rules if not each.remote_ip_prefix]

        async def remove() -> None:
            await user.security_groups.remove_rule(rule)

        async def add_again() -> None:
            nonlocal rule
            rule = (await user.security_groups.add_rule(group, lets_in(_HERE))).rules[-1]

        last = await streams.ends_soon(ending, "a removed rule", remove, add_again)
        await going.goes_on()
        assert not await streams.is_let_in(other, one.address, _HERE)
        assert (await ending.look()).heard == last, "it stays ended"

        await add_again()
        await ending.goes_on()
        await streams.comes_to_be_let_in(other, one.address, _HERE)
        await going.goes_on()


async def test_members_of_a_remote_group_are_let_in_as_they_come_and_go(testbed: Testbed, trio: Trio) -> None:
    one, other, far, tenant = trio.one, trio.other, trio.far, trio.tenant
    async with (
        trio.group("front") as front,
        trio.group("store", lets_in(_HERE, remote_group=front.uid)) as store,
        trio.member(one, store),
        trio.member(other, front),
    ):
        await streams.comes_to_be_let_in(other, one.address, _HERE)
        assert not await streams.is_let_in(far, one.address, _HERE), "it is no member"
        stays = await streams.connect(other, "stays", one.address, _HERE)
        async with trio.member(far, front):
            await streams.comes_to_be_let_in(far, one.address, _HERE)
            leaves = await streams.connect(far, "leaves", one.address, _HERE)
            last = await streams.ends_soon(
                leaves, "a member that leaves", lambda: trio.set_groups(far), lambda: trio.set_groups(far, front)
            )
        await stays.goes_on()
        assert not await streams.is_let_in(far, one.address, _HERE)

        # A guest that is made as a member, and goes.
        member = await tenant.user.ports.create(network=trio.network, security_groups=[tenant.security_group, front])
        try:
            nic = InstanceNic(port=member.name)
            [newcomer] = await boot(testbed, tenant, "member", (other.host, nic))
            await streams.comes_to_be_let_in(newcomer, one.address, _HERE)
            assert await _names(testbed, one, newcomer.address), "the host of the rule knows it"
        finally:
            await delete_named(tenant, "member")
            await tenant.user.ports.delete(member)

        async def forgotten() -> bool:
            return not await _names(testbed, one, newcomer.address)

        await ways_out.until(forgotten, "no word of the member any more")
        await stays.goes_on()
        assert (await leaves.look()).heard == last


async def test_nics_come_and_go_while_guests_run(testbed: Testbed, trio: Trio) -> None:
    """With a lease by DHCP on another network, that leads to another host; the first NIC's stream goes on."""
    guests = (trio.one, trio.other)
    async with (
        trio.group("beats", lets_in(_HERE)) as group,
        trio.member(trio.one, group),
        vxlan(trio.tenant.user, "plugged", "10.48.0.0/24") as (network, _),
    ):
        await streams.comes_to_be_let_in(trio.far, trio.one.address, _HERE)
        stream = await streams.connect(trio.far, "first-nic", trio.one.address, _HERE)
        for _ in range(2):
            async with AsyncExitStack() as stack:
                addresses = [await stack.enter_async_context(_plugged(testbed, trio, it, network)) for it in guests]
                for guest, address in zip(guests, reversed(addresses), strict=True):
                    await answers(guest, f"ping -c 1 -W 2 -I eth1 {address} >/dev/null && echo reached", "reached")
                await stream.goes_on()
            await stream.goes_on()


async def test_bandwidth_is_what_the_port_has_both_ways(trio: Trio) -> None:
    """Between hosts. A guest that its host leaves no time uses less: then it is measured again."""
    one, other, user = trio.one, trio.other, trio.tenant.user
    async with (
        trio.group("bulk", lets_in(_ALL)) as group,
        trio.member(one, group),
        trio.member(other, group),
    ):
        port = await trio.port(one)
        for name, sender, receiver, limit in (
            ("ingress", other, one, _LIMITS.ingress_kbps),
            ("egress", one, other, _LIMITS.egress_kbps),
        ):
            await streams.comes_to_be_let_in(sender, receiver.address, _ALL)
            async with streams.flood(sender, receiver.address, _ALL):

                async def exceeds(receiver: Guest = receiver, limit: int = limit) -> bool:
                    return await streams.received_kbps(receiver, 2) > (1 + _WITHIN) * limit

                await ways_out.until(exceeds, f"{name} without a limit", timeout_s=_USED_TIMEOUT_S)
                await user.ports.update(port, qos=_LIMITS)
                try:
                    ratio = await _settles(receiver, limit)
                finally:
                    await user.ports.update(port, qos=BandwidthLimits())
                print(f"{name}: {ratio:.3f} of its limit")
                await ways_out.until(exceeds, f"{name} without its limit again", timeout_s=_USED_TIMEOUT_S)


async def test_ipv6_from_the_address_to_metadata(testbed: Testbed, trio: Trio) -> None:
    """SLAAC, echo and TCP on the network and by the router, security groups and spoofing, all between hosts."""
    one, other, far = trio.one, trio.other, trio.far
    addresses = {guest.address: await trio.ipv6(guest) for guest in (one, other, far)}
    for guest in (one, other, far):
        address = addresses[guest.address]
        prefix = IPv6Network(f"{address}/64", strict=False)
        assert IPv6Address(address) == eui64.address_of_mac(prefix, guest.instance.nics[0].mac_address)
        await answers(guest, _HAS.format(address=address), "has it")
    target = addresses[one.address]
    echo = SecurityGroupRule(
        direction=TRAFFIC_DIRECTION_INGRESS, protocol="ipv6-icmp", ethertype=ETHERTYPE_IPV6, icmp_type=128
    )
    assert not await other.reaches(target), "no rule of IPv6 lets it in"
    rules = (echo, lets_in(_HERE), lets_in(_HERE, remote_ip_prefix="2001:db8:47::/64"))
    async with trio.group("six", *rules) as group, trio.member(one, group):
        for guest in (other, far):
            await ways_out.until(lambda guest=guest: guest.reaches(target), "an answer by IPv6")  # type: ignore[misc]
        await streams.comes_to_be_let_in(far, target, _HERE)
        assert not await streams.is_let_in(other, target, _HERE), "the rule is of the other network"
        assert not await streams.is_let_in(far, target, _ALSO)
        stream = await streams.connect(far, "six", target, _HERE)
        # With an address that isn't its own, it is not heard: not even by an answer to somebody else.
        await other.run(
            "echo 0 >/proc/sys/net/ipv6/conf/eth0/dad_transmits; ip -6 addr add 2001:db8:46::bad/64 dev eth0"
        )
        assert (await other.ended(f"ping -6 -c 2 -W 2 -I 2001:db8:46::bad {target}")).code != 0
        await other.run("ip -6 addr del 2001:db8:46::bad/64 dev eth0")
        await ways_out.until(lambda: other.reaches(target), "an answer to its own address")

        [rule] = [each for each in group.rules if each.remote_ip_prefix]
        await trio.tenant.user.security_groups.remove_rule(rule)
        last = await stream.ends()
        await ways_out.until(lambda: far.reaches(target), "an answer: the rule of echo is still there")
        assert (await stream.look()).heard == last
    for guest in (one, other, far):
        told = json.loads(await guest.run(f"timeout 8 wget -q -O - '{METADATA_IPV6}/openstack/latest/meta_data.json'"))
        assert (told["uuid"], told["name"]) == (guest.instance.uid, guest.instance.display_name)


# As soon as nobody else turned out to have it, too.
_HAS = "ip -6 -o addr show dev eth0 scope global | grep -v tentative | grep -q ' {address}/64 ' && echo has it"


@asynccontextmanager
async def _plugged(testbed: Testbed, trio: Trio, guest: Guest, network: Network) -> AsyncIterator[str]:
    """The address that the guest leased for one NIC more, within; neither guest nor host have it afterwards."""
    user = trio.tenant.user
    await user.operations.wait(
        await user.instances.attach_interface(guest.instance, network=network), timeout_s=BOOT_TIMEOUT_S
    )
    nic = (await user.instances.get(guest.instance.name)).nics[1]
    tap = tap_device(last_segment(nic.port))
    try:
        await answers(guest, "ip -4 -o addr show dev eth1 | sed 's/.* inet //; s/ .*//'", f"{nic.fixed_ip}/24")
        assert tap in await testbed.links(guest.host.name)
        yield nic.fixed_ip
    finally:
        await user.operations.wait(
            await user.instances.detach_interface(guest.instance, nic.port), timeout_s=BOOT_TIMEOUT_S
        )
    assert (await guest.ended("test -e /sys/class/net/eth1")).code != 0
    assert tap not in await testbed.links(guest.host.name)
    # Its client of DHCP has seen that, too: the next one is asked for anew.
    await answers(guest, "test -e /run/udhcpc.eth1.pid || echo gone", "gone")


async def _settles(receiver: Guest, limit_kbps: int) -> float:
    """Returns the part of the limit that is used, once that is all of it."""
    ratio = 0.0

    async def used() -> bool:
        nonlocal ratio
        # More comes too, for a moment, when its host had no time for the guest: what had queued up before its tap.
        ratio = await streams.received_kbps(receiver, _MEASURED_S) / limit_kbps
        return abs(ratio - 1) <= _WITHIN

    await ways_out.until(used, "all of the bandwidth that there is", timeout_s=_USED_TIMEOUT_S)
    return ratio


async def _names(testbed: Testbed, guest: Guest, address: str) -> bool:
    """Whether the rules of the guest's host have the address."""
    rules = json.loads(await testbed.output(guest.host.name, "nft", "-j", "list", "ruleset"))["nftables"]
    return any(address in _elements(entry["set"]) for entry in rules if "set" in entry)


def _elements(found: dict[str, object]) -> Sequence[object]:
    elements = found.get("elem", [])
    assert isinstance(elements, list)
    return [part for each in elements for part in _flat(each)]


def _flat(value: object) -> list[object]:
    if isinstance(value, dict):
        return [part for each in value.values() for part in _flat(each)]
    if isinstance(value, list):
        return [part for each in value for part in _flat(each)]
    return [value]
