"""Floating IPs on a real log: one address never twice, one target at a time, and a way that stays open."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from cirra.identity.v1 import identity_pb2 as identity
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER
from cirra.network.v1 import network_pb2 as network
from core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from core.ids import uuid7
from core.testing.invariants_log import constraint_differences
from tests.integration.conductor.resources.routed import Routed
from tests.integration.conductor.resources.world import World, answers, errors, user

POOL = [network.AllocationPool(start="203.0.113.10", end="203.0.113.19")]


@pytest.fixture
def routed(world: World) -> Routed:
    return Routed(world)


async def test_a_hundred_at_once_of_a_pool_of_ten(world: World, routed: Routed) -> None:
    external, pool = await routed.external(allocation_pools=POOL, dhcp_ip="203.0.113.2")
    results = await world.at_once(100, lambda n: routed.floating_ip(external.uid, replica=n))
    made = [await routed.load_floating_ip(answer.uid) for answer in answers(results)]
    assert {each.address for each in made} == {f"203.0.113.{number}" for number in range(10, 20)} and len(made) == 10
    refused = errors(results)
    assert {getattr(error, "reason", repr(error)) for error in refused} == {"EXTERNAL_IP_ADDRESS_EXHAUSTED"}
    assert all(isinstance(error, ResourceExhausted) and error.remedy for error in refused)
    await routed.give_back(str(made[3].id))
    [again] = [await routed.load_floating_ip((await routed.floating_ip(external.uid)).uid)]
    assert (again.address, again.subnet_id) == (made[3].address, pool.uid)
    assert await constraint_differences(world.log) == []


async def test_a_quota_holds_at_once_and_is_given_back_once(world: World, routed: Routed) -> None:
    external, _ = await routed.external()
    quota = identity.Quota(resource="floating_ips", limit=3)
    await world.admin.call(
        world.first.identity.SetQuotas, identity.SetQuotasRequest(project=world.project_id, quotas=[quota])
    )

    async def used() -> int:
        return (await world.log.counter("quota/floating_ips", world.project_id)).used

    results = await world.at_once(100, lambda n: routed.floating_ip(external.uid, replica=n))
    made = answers(results)
    assert (len(made), await used()) == (3, 3)
    assert {getattr(error, "reason", repr(error)) for error in errors(results)} == {"QUOTA_EXCEEDED"}
    twice = await world.at_once(2, lambda n: routed.give_back(made[0].uid))
    assert answers(twice) and all(isinstance(error, NotFound) for error in errors(twice))
    assert await used() == 2
    await routed.floating_ip(external.uid)
    with pytest.raises(ResourceExhausted, match="floating_ips"):
        await routed.floating_ip(external.uid)
    assert await constraint_differences(world.log) == []


async def test_of_a_hundred_associations_of_one_at_once_one_wins(world: World, routed: Routed) -> None:
    way = await routed.way()
    made = await routed.floating_ip(way.external.uid)
    ports = [(await world.make_port(way.network.uid)).uid for _ in range(100)]
    results = await world.at_once(100, lambda n: routed.associate(made.uid, ports[n], replica=n))
    assert len(answers(results)) == 1
    assert {getattr(error, "reason", repr(error)) for error in errors(results)} == {"FLOATING_IP_IN_USE"}
    target = (await routed.load_floating_ip(made.uid)).target
    assert target is not None and target.router_id == way.router.uid
    leading = [uid for uid in ports if (await routed.load_port(uid)).floating_ips]
    assert leading == [target.port_id]
    assert await constraint_differences(world.log) == []


async def test_an_address_of_a_port_has_one_floating_ip(world: World, routed: Routed) -> None:
    way = await routed.way()
    port = (await world.make_port(way.network.uid)).uid
    made = [(await routed.floating_ip(way.external.uid)).uid for _ in range(20)]
    results = await world.at_once(20, lambda n: routed.associate(made[n], port, replica=n))
    assert len(answers(results)) == 1
    assert {getattr(error, "reason", repr(error)) for error in errors(results)} == {"FIXED_IP_HAS_FLOATING_IP"}
    with pytest.raises(AlreadyExists, match=r"leads to 10\.0\.0\.") as refused:
        await routed.floating_ip(way.external.uid, port=port)
    assert refused.value.reason == "FIXED_IP_HAS_FLOATING_IP" and refused.value.remedy


async def test_it_moves_and_is_given_back(world: World, routed: Routed) -> None:
    way = await routed.way()
    web, db = [(await world.make_port(way.network.uid)).uid for _ in range(2)]
    made = await routed.floating_ip(way.external.uid, port=web)
    assert (await routed.load_port(web)).floating_ips.keys() == {made.uid}
    with pytest.raises(FailedPrecondition, match="already") as refused:
        await routed.associate(made.uid, db)
    assert refused.value.reason == "FLOATING_IP_IN_USE"
    await routed.associate(made.uid, db, move=True)
    assert (await routed.load_port(web)).floating_ips.keys() == set()
    assert (await routed.load_port(db)).floating_ips.keys() == {made.uid}
    await routed.disassociate(made.uid)
    await routed.disassociate(made.uid)
    assert (await routed.load_port(db)).floating_ips.keys() == set()
    await routed.associate(made.uid, db)
    await routed.give_back(made.uid)
    assert (await routed.load_port(db)).floating_ips.keys() == set()
    with pytest.raises(NotFound):
        await routed.associate(made.uid, db)
    assert await constraint_differences(world.log) == []


async def test_several_addresses_of_a_port(world: World, routed: Routed) -> None:
    way = await routed.way()
    fixed = [network.FixedIp(ip_address=f"10.0.0.{number}") for number in (50, 51)]
    port = (await world.make_port(way.network.uid, fixed_ips=fixed)).uid
    first, second = [(await routed.floating_ip(way.external.uid)).uid for _ in range(2)]
    with pytest.raises(InvalidArgument, match=r"give one of 10\.0\.0\.50, 10\.0\.0\.51"):
        await routed.associate(first, port)
    with pytest.raises(InvalidArgument, match="fixed_ip_address"):
        await routed.associate(first, port, fixed_ip_address="10.0.0.99")
    await routed.associate(first, port, fixed_ip_address="10.0.0.50")
    await routed.associate(second, port, fixed_ip_address="10.0.0.51")
    assert (await routed.load_port(port)).floating_ips.keys() == {first, second}
    await routed.give_back(second)
    await routed.associate(first, port, fixed_ip_address="10.0.0.51", move=True)
    assert (await routed.load_port(port)).floating_ips.keys() == {first}


async def test_there_must_be_a_way(world: World, routed: Routed) -> None:
    way = await routed.way()
    lonely, _ = await world.make_subnet("10.7.0.0/24")
    port = (await world.make_port(lonely.uid)).uid
    made = await routed.floating_ip(way.external.uid)
    with pytest.raises(FailedPrecondition, match="is not reachable from subnet") as refused:
        await routed.associate(made.uid, port)
    assert refused.value.reason == "EXTERNAL_NETWORK_NOT_REACHABLE" and "set-gateway" in refused.value.remedy
    inner = (await world.make_port(way.network.uid)).uid
    await routed.associate(made.uid, inner)
    for closing in (
        routed.clear_gateway(way.router.uid),
        routed.remove(way.router.uid, way.subnet.uid),
        routed.set_gateway(way.router.uid, (await routed.external("198.51.100.0/24"))[0].uid),
    ):
        with pytest.raises(FailedPrecondition, match="1 floating IPs lead through") as refused:
            await closing
        assert refused.value.reason == "ROUTER_IN_USE_BY_FLOATING_IP" and refused.value.remedy
    with pytest.raises(FailedPrecondition, match="1 floating IPs") as refused:
        request = network.DeleteSubnetRequest(name=way.pool.uid)
        await world.admin.call(world.first.network.DeleteSubnet, request)
    assert refused.value.reason == "SUBNET_IN_USE"
    await routed.disassociate(made.uid)
    await routed.clear_gateway(way.router.uid)
    with pytest.raises(FailedPrecondition):
        await routed.associate(made.uid, inner)


async def test_an_association_and_the_end_of_its_way_exclude_each_other(world: World, routed: Routed) -> None:
    way = await routed.way()
    made = (await routed.floating_ip(way.external.uid)).uid
    port = (await world.make_port(way.network.uid)).uid
    for round_number in range(8):

        async def act(number: int) -> object:
            return await (routed.clear_gateway(way.router.uid) if number else routed.associate(made, port))

        results = await world.at_once(2, act)
        [refusal] = errors(results)
        reason = getattr(refusal, "reason", repr(refusal))
        assert reason in ("EXTERNAL_NETWORK_NOT_REACHABLE", "ROUTER_IN_USE_BY_FLOATING_IP"), (round_number, refusal)
        await routed.disassociate(made)
        await routed.set_gateway(way.router.uid, way.external.uid)
    assert await constraint_differences(world.log) == []


async def test_which_address_and_whose(world: World, routed: Routed) -> None:
    way = await routed.way(allocation_pools=POOL, dhcp_ip="203.0.113.2")
    with pytest.raises(PermissionDenied, match="floating_ip_address"):
        await routed.floating_ip(way.external.uid, floating_ip_address="203.0.113.7")
    made = await routed.floating_ip(way.external.uid, floating_ip_address="203.0.113.7", who=world.admin)
    assert (await routed.load_floating_ip(made.uid)).address == "203.0.113.7"
    with pytest.raises(AlreadyExists, match=r"203\.0\.113\.7 is in use") as refused:
        await routed.floating_ip(way.external.uid, floating_ip_address="203.0.113.7", who=world.admin)
    assert refused.value.reason == "ADDRESS_IN_USE"
    for wanted in ("203.0.113.1", "203.0.113.255", "198.51.100.1", "nonsense"):
        with pytest.raises(InvalidArgument, match="floating_ip_address"):
            await routed.floating_ip(way.external.uid, floating_ip_address=wanted, who=world.admin)
    with pytest.raises(FailedPrecondition, match="is not external"):
        await routed.floating_ip(way.network.uid)
    with pytest.raises(InvalidArgument, match=r"floating_ip\.subnet"):
        await routed.floating_ip(way.external.uid, subnet=way.subnet.uid)
    chosen = await routed.load_floating_ip((await routed.floating_ip(way.external.uid, subnet=way.pool.uid)).uid)
    assert IPv4Address(chosen.address) in IPv4Network("203.0.113.0/24")
    stranger = user(str(uuid7()), ROLE_MEMBER)
    theirs = await routed.floating_ip(way.external.uid, who=stranger)
    port = (await world.make_port(way.network.uid)).uid
    with pytest.raises(NotFound, match="no port"):
        await routed.associate(theirs.uid, port, who=stranger)
    with pytest.raises(NotFound, match="no floating IP"):
        await routed.give_back(made.uid, who=stranger)


async def test_a_network_without_pool(world: World, routed: Routed) -> None:
    bare = network.CreateNetworkRequest(network=network.Network(display_name="bare", external=True))
    external = await world.admin.call(world.first.network.CreateNetwork, bare)
    with pytest.raises(FailedPrecondition, match="no IPv4 subnet") as refused:
        await routed.floating_ip(external.uid)
    assert refused.value.reason == "NETWORK_HAS_NO_SUBNET" and refused.value.remedy


async def test_a_request_is_served_once(world: World, routed: Routed) -> None:
    way = await routed.way()
    made = await world.at_once(8, lambda n: routed.floating_ip(way.external.uid, replica=n, request_id="one"))
    assert errors(made) == [] and len({answer.uid for answer in answers(made)}) == 1
    uid = answers(made)[0].uid
    port = (await world.make_port(way.network.uid)).uid
    done = await world.at_once(8, lambda n: routed.associate(uid, port, replica=n, request_id="two"))
    assert errors(done) == [] and len({answer.position for answer in answers(done)}) == 1
