"""Networks and subnets: what must not overlap, what must not go, and whose they are."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER
from cirra.network.v1 import network_pb2 as network
from conductor.identity.project import Project
from conductor.network.network import Network
from core.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from core.ids import uuid7
from tests.integration.conductor.resources.world import User, World, answers, errors, user


async def make_network(world: World, caller: User, replica: int = 0, **fields: object) -> Accepted:
    wanted = network.Network(display_name="net", **fields)  # type: ignore[arg-type]
    return await caller.call(world.replica(replica).network.CreateNetwork, network.CreateNetworkRequest(network=wanted))


async def make_subnet(world: World, network_uid: str, cidr: str, replica: int = 0) -> Accepted:
    wanted = network.Subnet(network=network_uid, cidr=cidr)
    return await world.member.call(
        world.replica(replica).network.CreateSubnet, network.CreateSubnetRequest(subnet=wanted)
    )


async def test_of_overlapping_subnets_made_at_once_one_is_made(world: World) -> None:
    made = await make_network(world, world.member)
    cidrs = ["10.0.0.0/16", "10.0.0.0/24", "10.0.0.0/25", "10.0.128.0/17"]
    results = await world.at_once(16, lambda n: make_subnet(world, made.uid, cidrs[n % 4], replica=n))
    assert 1 <= len(answers(results)) <= 2, "the second and third overlap neither the fourth"
    assert all(isinstance(error, InvalidArgument) for error in errors(results))
    assert await make_subnet(world, made.uid, "10.1.0.0/16")


async def test_a_network_with_ports_stays_and_goes_with_its_subnets(world: World) -> None:
    made, subnet = await world.make_subnet("10.0.0.0/24")
    port = await world.make_port(made.uid)
    deletion = network.DeleteNetworkRequest(name=made.name)
    with pytest.raises(FailedPrecondition) as caught:
        await world.member.call(world.first.network.DeleteNetwork, deletion)
    assert caught.value.reason == "NETWORK_IN_USE"
    with pytest.raises(FailedPrecondition, match="it has 1 ports"):
        await world.member.call(world.first.network.DeleteSubnet, network.DeleteSubnetRequest(name=subnet.uid))
    await world.delete_port(port.name)
    await world.member.call(world.first.network.DeleteNetwork, deletion)
    with pytest.raises(NotFound):
        await world.make_port(made.uid)
    with pytest.raises(NotFound):
        await world.member.call(world.first.network.DeleteSubnet, network.DeleteSubnetRequest(name=subnet.uid))
    assert await world.log.unique_keys(f"address/{subnet.uid}") == {}


async def test_a_deleted_subnet_makes_room(world: World) -> None:
    made, subnet = await world.make_subnet("10.0.0.0/24")
    await world.member.call(world.first.network.DeleteSubnet, network.DeleteSubnetRequest(name=subnet.uid))
    assert await make_subnet(world, made.uid, "10.0.0.0/16")


async def test_another_project_s_network_is_not_there(world: World) -> None:
    made, subnet = await world.make_subnet("10.0.0.0/24")
    stranger = user(str(uuid7()), ROLE_MEMBER)
    with pytest.raises(NotFound):
        await stranger.call(world.first.network.DeleteNetwork, network.DeleteNetworkRequest(name=made.uid))
    with pytest.raises(NotFound):
        await stranger.call(world.first.network.DeleteSubnet, network.DeleteSubnetRequest(name=subnet.uid))
    with pytest.raises(NotFound):
        await stranger.call(
            world.first.network.CreatePort, network.CreatePortRequest(port=network.Port(network=made.uid))
        )
    assert await world.admin.call(world.first.network.DeleteNetwork, network.DeleteNetworkRequest(name=made.uid))


async def test_a_shared_network_is_used_by_all_and_deleted_by_its_owner(world: World) -> None:
    shared = await make_network(world, world.admin, shared=True)
    await make_subnet(world, shared.uid, "10.0.0.0/24")
    stranger = user(str(uuid7()), ROLE_MEMBER)
    wanted = network.CreatePortRequest(port=network.Port(network=shared.uid))
    port = await stranger.call(world.first.network.CreatePort, wanted)
    assert port.name.startswith(f"projects/{stranger.project_id}/ports/")
    with pytest.raises(PermissionDenied):
        await stranger.call(world.first.network.DeleteNetwork, network.DeleteNetworkRequest(name=shared.uid))


@pytest.mark.parametrize("fields", [{"shared": True}, {"external": True}, {"physical_network": "physnet1"}])
async def test_what_only_administrators_set(world: World, fields: dict[str, Any]) -> None:
    with pytest.raises(PermissionDenied, match="only an administrator"):
        await make_network(world, world.member, **fields)
    assert await make_network(world, world.admin, **fields)


async def test_a_segment_has_one_flat_network(world: World) -> None:
    made = await make_network(world, world.admin, physical_network="physnet1")
    with pytest.raises(AlreadyExists, match="physnet1"):
        await make_network(world, world.admin, physical_network="physnet1")
    await world.admin.call(world.first.network.DeleteNetwork, network.DeleteNetworkRequest(name=made.uid))
    assert await make_network(world, world.admin, physical_network="physnet1")


async def test_quotas_hold_whatever_happens_at_once(world: World) -> None:
    project = Project.create(uuid7(), "small", limits={"networks": 3})
    await world.repository.save(project)
    member = user(str(project.id), ROLE_MEMBER)
    results = await world.at_once(20, lambda n: make_network(world, member, replica=n))
    assert len(answers(results)) == 3
    refused = errors(results)
    assert all(isinstance(error, ResourceExhausted) for error in refused)
    assert {getattr(error, "reason", "") for error in refused} == {"QUOTA_EXCEEDED"}
    counter = await world.log.counter("quota/networks", str(project.id))
    assert (counter.used, counter.limit) == (3, 3)
    [first, *_] = answers(results)
    await member.call(world.first.network.DeleteNetwork, network.DeleteNetworkRequest(name=first.uid))
    assert await make_network(world, member)


@pytest.mark.parametrize("name", ["", "net", "projects/x/networks/net"])
async def test_references_are_uids_or_resource_names(world: World, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"port\.network"):
        await world.make_port(name)


async def test_a_subnet_is_changed_by_its_mask_while_nobody_else_did(world: World) -> None:
    made, subnet = await world.make_subnet("10.0.0.0/24")

    async def change(etag: int, *nameservers: str) -> Accepted:
        wanted = network.Subnet(name=subnet.uid, dns_nameservers=nameservers)
        request = network.UpdateSubnetRequest(subnet=wanted, etag=str(etag))
        request.update_mask.paths.append("dns_nameservers")
        return await world.member.call(world.first.network.UpdateSubnet, request)

    first = await change(subnet.position, "9.9.9.9")
    # Something else of the network is not the subnet's.
    await make_subnet(world, made.uid, "10.0.1.0/24")
    second = await change(first.position, "1.1.1.1")
    with pytest.raises(Conflict) as caught:
        await change(first.position, "8.8.8.8")
    assert caught.value.reason == "ETAG_MISMATCH"
    found = await world.repository.load(Network, UUID(made.uid))
    assert found.subnets[subnet.uid].dns_nameservers == ("1.1.1.1",)
    assert (second.uid, second.name) == (subnet.uid, subnet.name)


async def test_a_network_s_mtu_and_name_are_changed(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    request = network.UpdateNetworkRequest(network=network.Network(name=made.name, display_name="lan", mtu=1400))
    with pytest.raises(InvalidArgument, match="update_mask"):
        await world.member.call(world.first.network.UpdateNetwork, request)
    request.update_mask.paths.extend(["display_name", "mtu"])
    await world.member.call(world.first.network.UpdateNetwork, request)
    found = await world.repository.load(Network, UUID(made.uid))
    assert (found.display_name, found.mtu) == ("lan", 1400)
    stranger = user(str(uuid7()), ROLE_MEMBER)
    with pytest.raises(NotFound):
        await stranger.call(world.first.network.UpdateNetwork, request)
