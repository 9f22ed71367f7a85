"""The log asked as an auditor does: who did what where since when, and how any resource was at a position."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.events.v1 import events_pb2 as events
from cirra.identity.v1 import events_pb2 as identity_events
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER
from cirra.network.v1 import events_pb2 as network_events
from cirra.network.v1 import network_pb2 as network
from core.errors import CirraError, InvalidArgument, NotFound
from tests.integration.api_gateway.test_history import _boot, _login
from tests.integration.api_gateway.world import Client, Gateway, World, new_project


@pytest.fixture
async def alice(world: World, gateway: Gateway) -> Client:
    world.user("alice", new_project(), ROLE_MEMBER)
    return await gateway.login("alice")


async def _list(client: Client, **wanted: Any) -> list[events.Event]:
    """All pages."""
    request, found = events.ListEventsRequest(page_size=2, **wanted), []
    while True:
        page = await client.call(client.events.ListEvents, request)
        found += page.events
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _as_of(client: Client, resource: str, **when: Any) -> events.ResourceAsOf:
    request = events.GetResourceAsOfRequest(resource=resource, **when)
    answer: events.ResourceAsOf = await client.call(client.events.GetResourceAsOf, request)
    return answer


async def test_what_one_actor_did(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    last = await guest.happens(compute_events.InstanceActivated())
    root = Client(alice.channel, await _login(alice, "root"))
    root.position = last.position
    ids = {name: world.conductor.principals[name].user_id for name in ("alice", "root")}
    whole = await _list(root)
    for name, uid in ids.items():
        found = await _list(root, actor=uid)
        assert found == [event for event in whole if event.actor == uid] != [], name
    assert await _list(root, actor="nobody") == []
    asked = await _list(root, requests_only=True)
    assert asked == [event for event in whole if event.actor in ids.values()] != whole


async def test_what_was_done_since(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    before = (await world.log.read_aggregate(guest.uid))[-1].recorded_at
    alice.position = (await guest.happens(compute_events.InstanceActivated())).position
    found = await _list(alice, since=before)
    assert found and found == [event for event in await _list(alice) if event.time.ToDatetime() > _naive(before)]
    assert found[-1].type == "cirra.compute.v1.InstanceActivated"
    assert await _list(alice, since=before + timedelta(hours=1)) == []


async def test_what_was_done_in_a_project(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    project = guest.operation.project_id
    created = identity_events.ProjectCreated(display_name="demo")
    alice.position = await world.journal.append(("project", UUID(project), created))
    root = Client(alice.channel, await _login(alice, "root"))
    root.position = alice.position
    mine = await _list(alice)
    assert len(await _list(root)) > len(mine) > 0, "the administrator sees other projects too"
    assert await _list(root, project=project) == await _list(alice, project=project) == mine
    world.user("bob", new_project())
    bob = Client(alice.channel, await _login(alice, "bob"))
    with pytest.raises(NotFound):
        await _list(bob, project=project)


async def test_any_resource_at_a_position(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    port, server = network.Port(), compute.Instance()
    leased = await guest.happens_to_port(network_events.PortLeaseSeen(host="host-1", ip_address="192.168.1.10"))
    moved = await guest.happens_to_port(network_events.PortAddressSeen(host="host-1", ip_address="192.168.1.11"))
    alice.position = moved.position
    assert (await _as_of(alice, str(guest.port_id), position=leased.position)).data.Unpack(port)
    assert (port.leased_ip, port.seen_ip) == ("192.168.1.10", "192.168.1.10") or port.seen_ip == ""
    assert not port.bindings, "where a guest runs is the operators' matter"
    present = await _as_of(alice, str(guest.port_id))
    assert present.data.Unpack(port) and port.seen_ip == "192.168.1.11" and present.position >= moved.position
    assert (await _as_of(alice, str(guest.uid), position=leased.position)).data.Unpack(server)
    assert (server.nics[0].leased_ip, server.nics[0].seen_ip) != ("192.168.1.10", "192.168.1.11")
    assert (await _as_of(alice, str(guest.uid), as_of=moved.recorded_at)).data.Unpack(server)
    assert server.nics[0].seen_ip == "192.168.1.11"
    operation = await _as_of(alice, guest.operation.uid)
    assert operation.data.TypeName() == "cirra.operations.v1.Operation"


async def test_a_past_that_is_not_there(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    refusals: list[tuple[dict[str, Any], type[CirraError]]] = [
        ({"position": 1}, NotFound),
        ({"position": -1}, InvalidArgument),
        ({"position": 10**9}, InvalidArgument),
    ]
    for when, refusal in refusals:
        with pytest.raises(refusal):
            await _as_of(alice, str(guest.uid), **when)
    world.user("bob", new_project())
    bob = Client(alice.channel, await _login(alice, "bob"))
    with pytest.raises(NotFound):
        await _as_of(bob, str(guest.uid))
    gone = await guest.happens(compute_events.InstanceDeleted())
    alice.position = gone.position
    assert (await _as_of(alice, str(guest.uid), position=gone.position - 1)).data.TypeName() == (
        "cirra.compute.v1.Instance"
    )
    with pytest.raises(NotFound):
        await _as_of(alice, str(guest.uid), position=gone.position)


def _naive(moment: Any) -> Any:
    return moment.replace(tzinfo=None)
