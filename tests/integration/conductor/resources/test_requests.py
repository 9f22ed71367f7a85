"""A request id is used once: the same answer, whenever and wherever it is asked for again."""

from __future__ import annotations

from uuid import UUID

import pytest

from cirra.compute.v1 import compute_pb2 as compute
from cirra.network.v1 import network_pb2 as network
from conductor.compute.flavor import Flavor
from core.errors import InvalidArgument, NotFound
from core.eventlog.rebuild import recompute_constraints
from core.repository import RecordedConstraints
from tests.integration.conductor.resources.world import World, answers


async def count(world: World, kind: str) -> int:
    return len(await world.log.list_events(aggregate_type=kind))


async def test_asked_twice_answered_alike(world: World) -> None:
    first = await world.make_flavor(request_id="r1")
    again = await world.make_flavor(request_id="r1", replica=1)
    assert again == first
    assert first.name == f"flavors/{first.uid}"
    assert first.position == (await world.log.head()).position
    assert await count(world, "flavor") == 1


async def test_asked_often_at_once_done_once(world: World) -> None:
    results = await world.at_once(16, lambda n: world.make_flavor(request_id="r1", replica=n))
    assert len(answers(results)) == 16
    assert len({answer.SerializeToString() for answer in answers(results)}) == 1
    assert await count(world, "flavor") == 1


async def test_without_an_id_every_call_counts(world: World) -> None:
    made = [await world.make_flavor(f"flavor-{number}") for number in range(2)]
    assert made[0].uid != made[1].uid


async def test_ids_are_the_caller_s_and_the_method_s_own(world: World) -> None:
    made = await world.make_flavor(request_id="r1")
    _, subnet = await world.make_subnet("10.0.0.0/24")
    request = network.CreateNetworkRequest(network=network.Network(display_name="x"), request_id="r1")
    by_admin = await world.admin.call(world.first.network.CreateNetwork, request)
    by_member = await world.member.call(world.first.network.CreateNetwork, request)
    assert len({made.uid, subnet.uid, by_admin.uid, by_member.uid}) == 4


async def test_a_change_of_what_exists_is_made_once(world: World) -> None:
    made = await world.make_flavor()
    request = compute.DeleteFlavorRequest(name=made.name, request_id="d1")
    results = await world.at_once(8, lambda n: world.admin.call(world.replica(n).catalog.DeleteFlavor, request))
    assert len(answers(results)) == 8
    assert len({answer.position for answer in answers(results)}) == 1
    assert await count(world, "flavor") == 2
    with pytest.raises(NotFound):
        await world.admin.call(world.first.catalog.DeleteFlavor, compute.DeleteFlavorRequest(name=made.name))


async def test_the_answer_about_a_part_stays_that_of_the_part(world: World) -> None:
    made, _ = await world.make_subnet("10.0.0.0/24")
    request = network.CreateSubnetRequest(subnet=network.Subnet(network=made.uid, cidr="10.0.1.0/24"), request_id="s1")
    results = await world.at_once(8, lambda n: world.member.call(world.replica(n).network.CreateSubnet, request))
    assert len({answer.SerializeToString() for answer in answers(results)}) == 1
    [answer] = {answer.uid: answer for answer in answers(results)}.values()
    assert answer.name == f"projects/{world.project_id}/subnets/{answer.uid}"
    deletion = network.DeleteSubnetRequest(name=answer.name, request_id="s1")
    first = await world.member.call(world.first.network.DeleteSubnet, deletion)
    assert first.uid == answer.uid
    assert await world.member.call(world.second.network.DeleteSubnet, deletion) == first


async def test_a_refused_request_may_be_repaired_and_sent_again(world: World) -> None:
    bad = compute.CreateFlavorRequest(flavor=compute.Flavor(display_name="x"), request_id="r1")
    with pytest.raises(InvalidArgument):
        await world.admin.call(world.first.catalog.CreateFlavor, bad)
    assert (await world.make_flavor(request_id="r1")).uid


@pytest.mark.parametrize("request_id", ["with space", "x" * 129, "ä", "a/b"])
async def test_ids_that_are_none_are_refused(world: World, request_id: str) -> None:
    with pytest.raises(InvalidArgument, match="request_id"):
        await world.make_flavor(request_id=request_id)


async def test_every_constraint_row_follows_from_the_log(world: World) -> None:
    """Requests, names, quotas, addresses, what is in use and what is gone: a rebuild finds the same."""
    flavor = await world.make_flavor(request_id="r1")
    made, subnet = await world.make_subnet("10.0.0.0/24")
    port = await world.make_port(made.uid, request_id="p1")
    await world.make_port(made.uid)
    await world.delete_port(port.name, request_id="p2")
    await world.make_subnet("10.0.0.0/24", network_name="other")
    gone, _ = await world.make_subnet("10.0.0.0/24", network_name="third")
    deletion = network.DeleteNetworkRequest(name=gone.name, request_id="n1")
    await world.member.call(world.first.network.DeleteNetwork, deletion)
    await world.repository.change(Flavor, UUID(flavor.uid), Flavor.delete)
    assert await world.log.unique_owner("subnet", subnet.uid) == made.uid
    assert await recompute_constraints(world.log, RecordedConstraints()) == []
