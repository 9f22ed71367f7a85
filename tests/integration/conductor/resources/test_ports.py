"""Addresses: unique whatever happens at once, given until none is left, and said so then."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any
from uuid import UUID

import pytest

from cirra.network.v1 import network_pb2 as network
from conductor.network.port import Port
from core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from tests.integration.conductor.resources.world import World, answers, errors


async def ports_of(world: World, uids: list[str]) -> list[Port]:
    return [await world.repository.load(Port, UUID(uid)) for uid in uids]


async def test_a_hundred_at_once_in_a_large_subnet(world: World) -> None:
    made, subnet = await world.make_subnet("10.1.0.0/16")
    results = await world.at_once(100, lambda n: world.make_port(made.uid, replica=n))
    assert errors(results) == []
    ports = await ports_of(world, [answer.uid for answer in answers(results)])
    addresses = {port.fixed_ips[0].ip_address for port in ports}
    assert len(addresses) == len({port.mac_address for port in ports}) == 100
    assert all(IPv4Address(address) in IPv4Network("10.1.0.0/16") for address in addresses)
    assert all(port.fixed_ips[0].subnet == subnet.uid for port in ports)
    assert set(await world.log.unique_keys(f"address/{subnet.uid}")) == addresses | {"10.1.0.1", "10.1.0.2"}


async def test_a_hundred_at_once_in_a_small_subnet_take_every_address(world: World) -> None:
    made, _ = await world.make_subnet("10.1.0.0/28")
    results = await world.at_once(100, lambda n: world.make_port(made.uid, replica=n))
    ports = await ports_of(world, [answer.uid for answer in answers(results)])
    # 14 hosts, less the gateway and the DHCP server.
    assert {port.fixed_ips[0].ip_address for port in ports} == {f"10.1.0.{number}" for number in range(3, 15)}
    assert len(ports) == 12
    refused = errors(results)
    assert len(refused) == 88
    assert {getattr(error, "reason", repr(error)) for error in refused} == {"SUBNET_EXHAUSTED"}
    assert all(isinstance(error, ResourceExhausted) and error.remedy for error in refused)


async def test_a_freed_address_is_given_again(world: World) -> None:
    made, _ = await world.make_subnet("10.1.0.0/29")
    taken = [await world.make_port(made.uid) for _ in range(4)]
    with pytest.raises(ResourceExhausted):
        await world.make_port(made.uid)
    [before] = await ports_of(world, [taken[2].uid])
    await world.delete_port(taken[2].name)
    [after] = await ports_of(world, [(await world.make_port(made.uid)).uid])
    assert after.fixed_ips[0].ip_address == before.fixed_ips[0].ip_address


async def test_when_one_subnet_is_full_the_next_one_is_used(world: World) -> None:
    made, first = await world.make_subnet("10.1.0.0/29")
    wanted = network.Subnet(network=made.uid, cidr="10.2.0.0/29")
    second = await world.member.call(world.first.network.CreateSubnet, network.CreateSubnetRequest(subnet=wanted))
    ports = await ports_of(world, [(await world.make_port(made.uid)).uid for _ in range(5)])
    assert [port.fixed_ips[0].subnet for port in ports] == [first.uid] * 4 + [second.uid]


async def test_only_the_pool_is_used_and_the_dhcp_server_s_address_is_not(world: World) -> None:
    made, _ = await world.make_subnet("10.9.0.0/24")
    pool = network.AllocationPool(start="192.168.1.100", end="192.168.1.110")
    wanted = network.Subnet(network=made.uid, cidr="192.168.1.0/24", allocation_pools=[pool])
    subnet = await world.member.call(world.first.network.CreateSubnet, network.CreateSubnetRequest(subnet=wanted))
    fixed = network.FixedIp(subnet=subnet.name)
    results = await world.at_once(11, lambda n: world.make_port(made.uid, replica=n, fixed_ips=[fixed]))
    ports = await ports_of(world, [answer.uid for answer in answers(results)])
    found = sorted(port.fixed_ips[0].ip_address for port in ports)
    assert found == [f"192.168.1.{number}" for number in range(101, 111)]


async def test_an_address_that_is_asked_for_is_given_once(world: World) -> None:
    made, _ = await world.make_subnet("10.1.0.0/24")
    fixed = [network.FixedIp(ip_address="10.1.0.77")]
    results = await world.at_once(8, lambda n: world.make_port(made.uid, replica=n, fixed_ips=fixed))
    assert len(answers(results)) == 1
    assert {getattr(error, "reason", repr(error)) for error in errors(results)} == {"ADDRESS_IN_USE"}


async def test_a_mac_address_is_used_once_on_a_network(world: World) -> None:
    made, _ = await world.make_subnet("10.1.0.0/24")
    other, _ = await world.make_subnet("10.1.0.0/24", network_name="other")
    await world.make_port(made.uid, mac_address="fa:16:3e:00:00:01")
    with pytest.raises(AlreadyExists, match=r"port\.mac_address"):
        await world.make_port(made.uid, mac_address="fa:16:3e:00:00:01")
    assert await world.make_port(other.uid, mac_address="fa:16:3e:00:00:01")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"fixed_ips": [network.FixedIp(ip_address="10.1.0.1")]}, "port.fixed_ips[0].ip_address"),  # gateway
        ({"fixed_ips": [network.FixedIp(ip_address="10.1.0.2")]}, "port.fixed_ips[0].ip_address"),  # DHCP
        ({"fixed_ips": [network.FixedIp(ip_address="10.1.0.255")]}, "port.fixed_ips[0].ip_address"),  # broadcast
        ({"fixed_ips": [network.FixedIp(ip_address="10.2.0.5")]}, "port.fixed_ips[0].ip_address"),
        ({"fixed_ips": [network.FixedIp(ip_address="x")]}, "port.fixed_ips[0].ip_address"),
        ({"fixed_ips": [network.FixedIp()]}, "port.fixed_ips[0]"),
        ({"fixed_ips": [network.FixedIp(subnet="nowhere")]}, "port.fixed_ips[0].subnet"),
        ({"fixed_ips": [network.FixedIp(ip_address="10.1.0.9")] * 2}, "port.fixed_ips[1].ip_address"),
        ({"mac_address": "01:00:5e:00:00:01"}, "port.mac_address"),  # multicast
        ({"mac_address": "FA:16:3E:00:00:01"}, "port.mac_address"),
    ],
)
async def test_bad_wishes_name_the_field(world: World, fields: dict[str, Any], field: str) -> None:
    made, _ = await world.make_subnet("10.1.0.0/24")
    with pytest.raises(InvalidArgument) as caught:
        await world.make_port(made.uid, **fields)
    assert [violation.field for violation in caught.value.violations] == [field]


async def test_several_addresses_of_one_port_differ(world: World) -> None:
    made, subnet = await world.make_subnet("10.1.0.0/29")
    fixed = [network.FixedIp(subnet=subnet.uid)] * 4
    [port] = await ports_of(world, [(await world.make_port(made.uid, fixed_ips=fixed)).uid])
    assert {fixed.ip_address for fixed in port.fixed_ips} == {f"10.1.0.{number}" for number in range(3, 7)}


async def test_a_network_without_subnet_says_so(world: World) -> None:
    request = network.CreateNetworkRequest(network=network.Network(display_name="bare"))
    made = await world.member.call(world.first.network.CreateNetwork, request)
    with pytest.raises(FailedPrecondition, match="no subnet") as caught:
        await world.make_port(made.uid)
    assert caught.value.reason == "NETWORK_HAS_NO_SUBNET"


async def test_a_port_in_use_is_not_deleted(world: World) -> None:
    made, _ = await world.make_subnet("10.1.0.0/24")
    port = await world.make_port(made.uid)
    await world.repository.change(Port, UUID(port.uid), lambda it: it.set_device("i1"))
    with pytest.raises(FailedPrecondition, match="in use by instance i1"):
        await world.delete_port(port.name)
    await world.repository.change(Port, UUID(port.uid), Port.release_device)
    await world.delete_port(port.name)
    with pytest.raises(NotFound):
        await world.delete_port(port.name)


async def test_ports_and_the_end_of_their_network_exclude_each_other(world: World) -> None:
    """A port that comes while its network goes: either it is first and the network stays, or it is refused."""
    for number in range(8):
        made, _ = await world.make_subnet("10.1.0.0/24", network_name=f"net-{number}")
        deletion = network.DeleteNetworkRequest(name=made.name)

        async def delete(deletion: network.DeleteNetworkRequest = deletion) -> object:
            return await world.member.call(world.second.network.DeleteNetwork, deletion)

        port, gone = await asyncio.gather(world.make_port(made.uid), delete(), return_exceptions=True)
        if isinstance(gone, BaseException):
            assert getattr(gone, "reason", repr(gone)) == "NETWORK_IN_USE"
            assert not isinstance(port, BaseException)
        else:
            assert isinstance(port, NotFound), port
        left = (await world.log.counter("ports-on-network", made.uid)).used
        assert left == (1 if isinstance(gone, BaseException) else 0)


async def add_subnet(world: World, network_uid: str, cidr: str, **fields: Any) -> str:
    wanted = network.Subnet(network=network_uid, cidr=cidr, **fields)
    made = await world.member.call(world.first.network.CreateSubnet, network.CreateSubnetRequest(subnet=wanted))
    return made.uid


async def test_a_port_has_an_address_of_each_family_and_of_each_slaac_subnet(world: World) -> None:
    made, four = await world.make_subnet("10.1.0.0/24")
    six = [await add_subnet(world, made.uid, f"fd00:{n}::/64") for n in (1, 2)]
    static = await add_subnet(world, made.uid, "fd00:9::/120", no_dhcp=True)
    await add_subnet(world, made.uid, "10.2.0.0/24")
    [port] = await ports_of(world, [(await world.make_port(made.uid, mac_address="fa:16:3e:00:00:01")).uid])
    by_subnet = {fixed.subnet: fixed.ip_address for fixed in port.fixed_ips}
    assert [fixed.subnet for fixed in port.fixed_ips] == [four.uid, static, *six]
    assert [by_subnet[subnet] for subnet in six] == [f"fd00:{n}::f816:3eff:fe00:1" for n in (1, 2)]
    assert IPv6Address(by_subnet[static]) in IPv6Network("fd00:9::/120")
    assert by_subnet[six[0]] in await world.log.unique_keys(f"address/{six[0]}")


async def test_slaac_comes_with_what_is_asked_for(world: World) -> None:
    made, _ = await world.make_subnet("10.1.0.0/24")
    six = await add_subnet(world, made.uid, "fd00:1::/64")
    asked = [network.FixedIp(ip_address="10.1.0.77"), network.FixedIp(subnet=six)]
    mac = "fa:16:3e:00:00:02"
    [port] = await ports_of(world, [(await world.make_port(made.uid, fixed_ips=asked, mac_address=mac)).uid])
    assert [fixed.ip_address for fixed in port.fixed_ips] == ["10.1.0.77", "fd00:1::f816:3eff:fe00:2"]
    with pytest.raises(InvalidArgument, match="follow from the MAC address"):
        await world.make_port(made.uid, fixed_ips=[network.FixedIp(ip_address="fd00:1::77")])


async def test_a_hundred_ipv6_ports_at_once(world: World) -> None:
    made, _ = await world.make_subnet("10.1.0.0/16")
    six = await add_subnet(world, made.uid, "fd00:1::/64")
    results = await world.at_once(100, lambda n: world.make_port(made.uid, replica=n))
    assert errors(results) == []
    ports = await ports_of(world, [answer.uid for answer in answers(results)])
    assert len({port.fixed_ips[1].ip_address for port in ports}) == 100
    assert all(port.fixed_ips[1].subnet == six for port in ports)
