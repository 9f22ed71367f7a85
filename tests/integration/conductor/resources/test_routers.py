"""Routers on a real log: whose address is whose, whatever comes at once, and what can't go while it is used."""

from __future__ import annotations

import pytest

from cirra.identity.v1 import identity_pb2 as identity
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER
from cirra.network.v1 import network_pb2 as network
from cirra.network.v1 import router_pb2
from core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from core.ids import uuid7
from core.testing.invariants_log import constraint_differences
from tests.integration.conductor.resources.routed import Routed
from tests.integration.conductor.resources.world import World, answers, errors, user


@pytest.fixture
def routed(world: World) -> Routed:
    return Routed(world)


async def test_a_router_has_the_gateway_s_address_and_a_mac_of_its_own(world: World, routed: Routed) -> None:
    inner, subnet = await world.make_subnet("10.0.0.0/24")
    made = await routed.router()
    assert (await world.log.unique_keys(f"address/{subnet.uid}"))["10.0.0.1"] == subnet.uid
    await routed.add(made.uid, subnet.uid)
    [interface] = (await routed.load_router(made.uid)).interfaces.values()
    assert (interface.ip_address, interface.at_gateway) == ("10.0.0.1", True)
    assert (await world.log.unique_keys(f"address/{subnet.uid}"))["10.0.0.1"] == made.uid
    assert await world.log.unique_keys(f"mac/{inner.uid}") == {interface.mac_address: made.uid}
    await routed.remove(made.uid, subnet.uid)
    assert (await world.log.unique_keys(f"address/{subnet.uid}"))["10.0.0.1"] == subnet.uid
    assert await world.log.unique_keys(f"mac/{inner.uid}") == {}
    assert await constraint_differences(world.log) == []


async def test_of_a_hundred_routers_at_once_one_is_the_gateway(world: World, routed: Routed) -> None:
    _, subnet = await world.make_subnet("10.0.0.0/24")
    member = user(world.project_id, ROLE_MEMBER)
    made = [(await routed.router()).uid for _ in range(10)]
    results = await world.at_once(100, lambda n: routed.add(made[n % 10], subnet.uid, who=member, replica=n))
    [_] = answers(results)
    reasons = {getattr(error, "reason", repr(error)) for error in errors(results)}
    assert reasons == {"SUBNET_ALREADY_ROUTED"}
    routers = [await routed.load_router(uid) for uid in made]
    assert sum(len(router.interfaces) for router in routers) == 1


async def test_a_second_router_has_another_address(world: World, routed: Routed) -> None:
    inner, subnet = await world.make_subnet("10.0.0.0/24")
    first, second = await routed.router(), await routed.router()
    await routed.add(first.uid, subnet.uid)
    with pytest.raises(AlreadyExists, match=rf"router {first.uid}'s already") as refused:
        await routed.add(second.uid, subnet.uid)
    assert refused.value.reason == "SUBNET_ALREADY_ROUTED" and "--fixed-ip" in refused.value.remedy
    port = await world.make_port(inner.uid, fixed_ips=[network.FixedIp(ip_address="10.0.0.77")])
    with pytest.raises(AlreadyExists, match=r"ip_address: 10\.0\.0\.77 is in use") as refused:
        await routed.add(second.uid, subnet.uid, ip_address="10.0.0.77")
    assert refused.value.reason == "ADDRESS_IN_USE"
    for wanted in ("10.0.0.2", "10.0.0.255", "10.9.0.1", "nonsense"):
        with pytest.raises(InvalidArgument, match="ip_address"):
            await routed.add(second.uid, subnet.uid, ip_address=wanted)
    await routed.add(second.uid, subnet.uid, ip_address="10.0.0.254")
    with pytest.raises(AlreadyExists):
        await world.make_port(inner.uid, fixed_ips=[network.FixedIp(ip_address="10.0.0.254")])
    await world.delete_port(port.name)


async def test_a_subnet_without_gateway_needs_an_address(world: World, routed: Routed) -> None:
    inner, _ = await world.make_subnet("10.0.0.0/24")
    wanted = network.CreateSubnetRequest(subnet=network.Subnet(network=inner.uid, cidr="10.1.0.0/24", no_gateway=True))
    subnet = await world.member.call(world.first.network.CreateSubnet, wanted)
    made = await routed.router()
    with pytest.raises(FailedPrecondition, match="ip_address") as refused:
        await routed.add(made.uid, subnet.uid)
    assert refused.value.reason == "SUBNET_HAS_NO_GATEWAY" and refused.value.remedy
    await routed.add(made.uid, subnet.uid, ip_address="10.1.0.9")


async def test_what_is_another_project_s(world: World, routed: Routed) -> None:
    stranger = user(str(uuid7()), ROLE_MEMBER)
    _, subnet = await world.make_subnet("10.0.0.0/24")
    theirs = await routed.router(who=stranger)
    with pytest.raises(NotFound, match="no subnet"):
        await routed.add(theirs.uid, subnet.uid, who=stranger)
    with pytest.raises(NotFound, match="no router"):
        await routed.add(theirs.uid, subnet.uid)
    shared = network.CreateNetworkRequest(network=network.Network(display_name="all", shared=True))
    made = await world.admin.call(world.first.network.CreateNetwork, shared)
    wanted = network.CreateSubnetRequest(subnet=network.Subnet(network=made.uid, cidr="10.2.0.0/24"))
    of_all = await world.admin.call(world.first.network.CreateSubnet, wanted)
    with pytest.raises(InvalidArgument, match="gateway of another project's network"):
        await routed.add(theirs.uid, of_all.uid, who=stranger)
    await routed.add(theirs.uid, of_all.uid, ip_address="10.2.0.9", who=stranger)


async def test_the_way_out_is_an_external_network(world: World, routed: Routed) -> None:
    inner, subnet = await world.make_subnet("10.0.0.0/24")
    external, pool = await routed.external()
    with pytest.raises(FailedPrecondition, match=r"external_gateway\.network: network .* is not external") as refused:
        await routed.router(inner.uid)
    assert refused.value.reason == "NETWORK_NOT_EXTERNAL" and refused.value.remedy
    made = await routed.router(external.uid)
    gateway = (await routed.load_router(made.uid)).gateway
    assert gateway is not None and gateway.enable_snat and gateway.network_id == external.uid
    await routed.set_gateway(made.uid, external.uid, enable_snat=False)
    gateway = (await routed.load_router(made.uid)).gateway
    assert gateway is not None and not gateway.enable_snat
    with pytest.raises(InvalidArgument, match="set that as the gateway instead"):
        await routed.add(made.uid, pool.uid)
    await routed.add(made.uid, subnet.uid)
    request = network.DeleteNetworkRequest(name=external.uid)
    with pytest.raises(FailedPrecondition, match="1 routers with their gateway there") as refused:
        await world.admin.call(world.first.network.DeleteNetwork, request)
    assert refused.value.reason == "NETWORK_IN_USE" and "clear" in refused.value.remedy
    with pytest.raises(FailedPrecondition, match="1 router interfaces") as refused:
        await world.member.call(world.first.network.DeleteNetwork, network.DeleteNetworkRequest(name=inner.uid))
    assert refused.value.reason == "NETWORK_IN_USE"
    with pytest.raises(FailedPrecondition) as refused:
        await world.member.call(world.first.network.DeleteSubnet, network.DeleteSubnetRequest(name=subnet.uid))
    assert refused.value.reason == "SUBNET_IN_USE" and "remove it from its routers" in refused.value.remedy
    with pytest.raises(FailedPrecondition, match="interfaces on"):
        await routed.delete(made.uid)
    await routed.remove(made.uid, subnet.uid)
    await routed.delete(made.uid)
    await world.member.call(world.first.network.DeleteNetwork, network.DeleteNetworkRequest(name=inner.uid))
    await world.admin.call(world.first.network.DeleteNetwork, request)
    assert await constraint_differences(world.log) == []


async def test_a_gateway_and_the_end_of_its_network_exclude_each_other(world: World, routed: Routed) -> None:
    for _ in range(8):
        external, _ = await routed.external()
        request = network.DeleteNetworkRequest(name=external.uid)

        async def act(number: int, request: network.DeleteNetworkRequest = request) -> object:
            if number:
                return await world.admin.call(world.second.network.DeleteNetwork, request)
            return await routed.router(request.name)

        results = await world.at_once(2, act)
        [refusal] = errors(results)
        assert isinstance(refusal, NotFound | FailedPrecondition), refusal


async def test_updates(world: World, routed: Routed) -> None:
    _, subnet = await world.make_subnet("10.0.0.0/24")
    made = await routed.router()
    await routed.add(made.uid, subnet.uid)
    route = router_pb2.StaticRoute(destination="10.9.0.0/16", next_hop="10.0.0.9")
    request = router_pb2.UpdateRouterRequest(router=router_pb2.Router(name=made.uid, routes=[route]))
    with pytest.raises(InvalidArgument, match="update_mask"):
        await world.member.call(world.first.routers.UpdateRouter, request)
    request.update_mask.paths.append("project_id")
    with pytest.raises(InvalidArgument, match="'project_id' can't be changed"):
        await world.member.call(world.first.routers.UpdateRouter, request)
    request.update_mask.paths[:] = ["routes"]
    await world.member.call(world.first.routers.UpdateRouter, request)
    assert (await routed.load_router(made.uid)).routes == [route]
    with pytest.raises(FailedPrecondition, match=r"10\.9\.0\.0/16 leads to 10\.0\.0\.9"):
        await routed.remove(made.uid, subnet.uid)


async def test_an_interface_asked_for_twice_with_one_request_id_is_one(world: World, routed: Routed) -> None:
    _, subnet = await world.make_subnet("10.0.0.0/24")
    made = await routed.router()
    results = await world.at_once(8, lambda n: routed.add(made.uid, subnet.uid, replica=n, request_id="once"))
    assert errors(results) == [] and len({answer.position for answer in answers(results)}) == 1


async def test_the_quota_of_routers(world: World, routed: Routed) -> None:
    limits = identity.SetQuotasRequest(project=world.project_id, quotas=[identity.Quota(resource="routers", limit=2)])
    await world.admin.call(world.first.identity.SetQuotas, limits)
    results = await world.at_once(100, lambda n: routed.router())
    assert len(answers(results)) == 2
    assert all(isinstance(error, ResourceExhausted) and error.reason == "QUOTA_EXCEEDED" for error in errors(results))
