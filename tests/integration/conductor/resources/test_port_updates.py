"""A port that is there gets other addresses, another name, other limits: on a real log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cirra.network.v1 import network_pb2 as network
from conductor.network.port import Port
from core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, ResourceExhausted
from core.testing.invariants_log import constraint_differences
from tests.integration.conductor.resources.routed import Routed
from tests.integration.conductor.resources.test_security_groups import port_of, update_port
from tests.integration.conductor.resources.world import World, answers, errors


def at(address: str = "", subnet: str = "") -> network.FixedIp:
    return network.FixedIp(ip_address=address, subnet=subnet)


def addresses(port: Port) -> list[str]:
    return [fixed.ip_address for fixed in port.fixed_ips]


async def add_subnet(world: World, network_uid: str, cidr: str) -> str:
    request = network.CreateSubnetRequest(subnet=network.Subnet(network=network_uid, cidr=cidr))
    return (await world.member.call(world.first.network.CreateSubnet, request)).uid


async def test_addresses_come_and_go_and_are_free_again(world: World) -> None:
    made, subnet = await world.make_subnet("10.1.0.0/24")
    second = await add_subnet(world, made.uid, "10.2.0.0/24")
    accepted = await world.make_port(made.uid, fixed_ips=[at("10.1.0.50")])
    both = [at(subnet=subnet.uid), at("10.2.0.60")]
    await update_port(world, accepted.name, "fixed_ips", fixed_ips=both)
    port = await port_of(world, accepted)
    assert addresses(port) == ["10.1.0.50", "10.2.0.60"], "in a subnet it keeps what it has there"
    await update_port(world, accepted.name, "fixed_ips", fixed_ips=[at(subnet=second)])
    assert addresses(await port_of(world, accepted)) == ["10.2.0.60"]
    await world.make_port(made.uid, fixed_ips=[at("10.1.0.50")])
    with pytest.raises(AlreadyExists, match=r"10\.1\.0\.50"):
        await update_port(world, accepted.name, "fixed_ips", fixed_ips=[at("10.1.0.50")])
    await world.delete_port(accepted.name)
    assert set(await world.log.unique_keys(f"address/{second}")) == {"10.2.0.1", "10.2.0.2"}


async def test_what_is_chosen_is_none_of_those_that_are_named(world: World) -> None:
    """The port's own one is in use by the port itself."""
    made, _ = await world.make_subnet("10.1.0.0/24")
    pool = network.AllocationPool(start="10.2.0.50", end="10.2.0.50")
    wanted = network.Subnet(network=made.uid, cidr="10.2.0.0/24", dhcp_ip="10.2.0.2", allocation_pools=[pool])
    subnet = await world.member.call(world.first.network.CreateSubnet, network.CreateSubnetRequest(subnet=wanted))
    full = [at(subnet=subnet.uid), at("10.2.0.50")]
    accepted = await world.make_port(made.uid, fixed_ips=[at("10.2.0.50")])
    with pytest.raises(ResourceExhausted) as caught:
        await update_port(world, accepted.name, "fixed_ips", fixed_ips=full)
    assert caught.value.reason == "SUBNET_EXHAUSTED"
    assert addresses(await port_of(world, accepted)) == ["10.2.0.50"]
    await world.delete_port(accepted.name)
    with pytest.raises(ResourceExhausted):
        await world.make_port(made.uid, fixed_ips=full)


async def test_a_subnet_with_slaac_that_came_later_gives_its_address(world: World) -> None:
    made, subnet = await world.make_subnet("10.1.0.0/24")
    accepted = await world.make_port(made.uid, fixed_ips=[at("10.1.0.50")], mac_address="fa:16:3e:00:00:02")
    await add_subnet(world, made.uid, "fd00:1::/64")
    assert addresses(await port_of(world, accepted)) == ["10.1.0.50"]
    await update_port(world, accepted.name, "fixed_ips", fixed_ips=[at(subnet=subnet.uid)])
    assert addresses(await port_of(world, accepted)) == ["10.1.0.50", "fd00:1::f816:3eff:fe00:2"]


async def test_an_address_goes_to_one_of_all_that_want_it_at_once(world: World) -> None:
    made, subnet = await world.make_subnet("10.1.0.0/24")
    ports = [await world.make_port(made.uid) for _ in range(8)]
    wanted = [at("10.1.0.99")]
    results = await world.at_once(8, lambda n: update_port(world, ports[n].name, "fixed_ips", fixed_ips=wanted))
    assert len(answers(results)) == 1
    assert {getattr(error, "reason", repr(error)) for error in errors(results)} == {"ADDRESS_IN_USE"}
    held = [addresses(await port_of(world, accepted))[0] for accepted in ports]
    assert held.count("10.1.0.99") == 1 and len(set(held)) == 8
    assert set(await world.log.unique_keys(f"address/{subnet.uid}")) == {*held, "10.1.0.1", "10.1.0.2"}
    assert await constraint_differences(world.log) == []


async def test_name_and_limits(world: World) -> None:
    made, _ = await world.make_subnet("10.1.0.0/24")
    accepted = await world.make_port(made.uid, qos=network.BandwidthLimits(ingress_kbps=1000))
    await update_port(world, accepted.name, "display_name", display_name="front")
    port = await port_of(world, accepted)
    assert (port.terms.display_name, port.terms.qos.ingress_kbps) == ("front", 1000)
    await update_port(world, accepted.name, "qos", qos=network.BandwidthLimits(egress_kbps=2000))
    assert (await port_of(world, accepted)).terms.qos == network.BandwidthLimits(egress_kbps=2000)
    await update_port(world, accepted.name, "qos")
    assert (await port_of(world, accepted)).terms.qos == network.BandwidthLimits()


@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        ("fixed_ips", {}, "port.fixed_ips"),
        ("fixed_ips", {"fixed_ips": [at("10.9.0.9")]}, r"port.fixed_ips\[0\].ip_address"),
        ("fixed_ips", {"fixed_ips": [at("10.1.0.1")]}, r"port.fixed_ips\[0\].ip_address"),
        ("fixed_ips", {"fixed_ips": [at("10.1.0.9")] * 2}, r"port.fixed_ips\[1\].ip_address"),
        ("qos", {"qos": network.BandwidthLimits(ingress_kbps=1)}, "port.qos.ingress_kbps"),
        ("display_name", {"display_name": "x" * 300}, "port.display_name"),
    ],
)
async def test_what_can_t_be_is_refused(world: World, path: str, fields: dict[str, Any], field: str) -> None:
    made, _ = await world.make_subnet("10.1.0.0/24")
    accepted = await world.make_port(made.uid)
    with pytest.raises(InvalidArgument, match=field):
        await update_port(world, accepted.name, path, **fields)


async def test_an_address_that_a_floating_ip_leads_to_stays_while_it_does(world: World) -> None:
    routed = Routed(world)
    way = await routed.way()
    accepted = await world.make_port(way.network.uid, fixed_ips=[at("10.0.0.50")])
    floating_ip = await routed.floating_ip(way.external.uid, port=accepted.uid)
    with pytest.raises(FailedPrecondition, match=r"port\.fixed_ips: floating IP .* leads to 10\.0\.0\.50") as caught:
        await update_port(world, accepted.name, "fixed_ips", fixed_ips=[at("10.0.0.51")])
    assert caught.value.reason == "FLOATING_IP_LEADS_THERE" and "disassociate it" in caught.value.remedy
    await update_port(world, accepted.name, "fixed_ips", fixed_ips=[at("10.0.0.51"), at("10.0.0.50")])
    await routed.disassociate(floating_ip.uid)
    await update_port(world, accepted.name, "fixed_ips", fixed_ips=[at("10.0.0.51")])
    assert addresses(await port_of(world, accepted)) == ["10.0.0.51"]


async def test_no_floating_ip_leads_to_an_address_that_goes_meanwhile(world: World) -> None:
    routed = Routed(world)
    way = await routed.way()
    for number in range(8):
        accepted = await world.make_port(way.network.uid, fixed_ips=[at(f"10.0.0.{50 + number}")])
        floating_ip = await routed.floating_ip(way.external.uid)
        moved = [at(f"10.0.0.{100 + number}")]
        results = await asyncio.gather(
            update_port(world, accepted.name, "fixed_ips", fixed_ips=moved),
            routed.associate(floating_ip.uid, accepted.uid, replica=1),
            return_exceptions=True,
        )
        reasons = {getattr(error, "reason", repr(error)) for error in errors(results)}
        assert reasons <= {"FLOATING_IP_LEADS_THERE"}
        target = (await routed.load_floating_ip(floating_ip.uid)).target
        assert target is not None
        assert [target.fixed_ip_address] == addresses(await port_of(world, accepted))
    assert await constraint_differences(world.log) == []
