"""Segments of networks: chosen free, given by an administrator, and each one network's."""

from __future__ import annotations

from uuid import UUID

import pytest

from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.network.v1 import network_pb2 as pb
from conductor.network.commands import NetworkCommands
from conductor.network.network import Network
from conductor.network.segments import VLAN, VXLAN, Segments
from core.errors import AlreadyExists, PermissionDenied, ResourceExhausted
from tests.integration.conductor.resources.world import User, World, answers, errors

SEGMENTS = Segments(
    tenant_type=VXLAN, vnis=(range(1, 9),), vlans={"physnet1": (range(100, 102),), "physnet2": (range(7, 8),)}
)


async def make(world: World, caller: User, number: int = 0, **fields: object) -> Accepted:
    replica = world.replica(number)
    commands = NetworkCommands(replica.repository, segments=SEGMENTS, tell=replica.tell)
    wanted = pb.Network(display_name="net", **fields)  # type: ignore[arg-type]
    return await caller.call(commands.CreateNetwork, pb.CreateNetworkRequest(network=wanted))


async def loaded(world: World, accepted: Accepted) -> Network:
    return await world.repository.load(Network, UUID(accepted.uid))


async def test_networks_made_at_once_get_each_its_own_number_until_none_is_free(world: World) -> None:
    results = await world.at_once(8, lambda n: make(world, world.member, n))
    made = [await loaded(world, accepted) for accepted in answers(results)]
    assert not errors(results)
    assert {(network.type, network.segmentation_id) for network in made} == {(VXLAN, n) for n in range(1, 9)}
    with pytest.raises(ResourceExhausted) as caught:
        await make(world, world.member)
    assert caught.value.reason == "SEGMENTS_EXHAUSTED" and "segmentation_id" in caught.value.remedy
    request = pb.DeleteNetworkRequest(name=made[3].resource_name)
    await world.member.call(world.first.network.DeleteNetwork, request)
    again = await loaded(world, await make(world, world.member))
    assert again.segmentation_id == made[3].segmentation_id, "what was given back is free"


async def test_vlans_are_of_the_provider_s_segments(world: World) -> None:
    made = [await loaded(world, await make(world, world.admin, type=VLAN)) for _ in range(3)]
    assert {(it.physical_network, it.segmentation_id) for it in made} == {
        ("physnet1", 100),
        ("physnet1", 101),
        ("physnet2", 7),
    }
    with pytest.raises(ResourceExhausted):
        await make(world, world.admin, type=VLAN, physical_network="physnet1")
    given = await make(world, world.admin, type=VLAN, physical_network="physnet1", segmentation_id=4000)
    assert (await loaded(world, given)).segmentation_id == 4000, "an administrator may give any"


async def test_a_number_that_is_another_network_s_is_refused(world: World) -> None:
    await make(world, world.admin, type=VXLAN, segmentation_id=5000)
    with pytest.raises(AlreadyExists) as caught:
        await make(world, world.admin, type=VXLAN, segmentation_id=5000)
    assert caught.value.reason == "SEGMENT_IN_USE"
    assert caught.value.metadata["field"] == "network.segmentation_id"
    await make(world, world.admin, type=VLAN, physical_network="physnet2", segmentation_id=500)
    await make(world, world.admin, type=VLAN, physical_network="physnet1", segmentation_id=500)
    with pytest.raises(AlreadyExists, match="VLAN 500 on physnet1"):
        await make(world, world.admin, type=VLAN, physical_network="physnet1", segmentation_id=500)


@pytest.mark.parametrize(
    "fields", [{"type": VLAN}, {"segmentation_id": 7}, {"physical_network": "physnet1"}, {"external": True}]
)
async def test_what_is_the_provider_s_is_for_administrators(world: World, fields: dict[str, object]) -> None:
    with pytest.raises(PermissionDenied, match="only an administrator"):
        await make(world, world.member, **fields)  # type: ignore[arg-type]
