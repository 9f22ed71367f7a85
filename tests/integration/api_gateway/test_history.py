"""What the log tells beside the present state: as of earlier, timelines, watching, listings of events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.events.v1 import events_pb2 as events
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, CreateTokenRequest
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import events_pb2 as network_events
from cirra.network.v1 import network_pb2 as network
from cirra.operations.v1 import events_pb2 as saga
from cirra.operations.v1 import operations_pb2 as operations
from cirra.placement.v1 import events_pb2 as placement_events
from core.errors import NotFound
from core.eventlog.types import RecordedEvent
from core.ids import claim_aggregate_id
from core.sealing import REDACTED
from tests.integration.api_gateway.world import Client, Gateway, World, new_project

TIMEOUT_S = 60.0


class Guest:
    """An instance of the client's project, and what happens to it."""

    def __init__(self, world: World, operation: operations.Operation) -> None:
        self._world = world
        self.operation = operation
        self.uid = UUID(operation.target.rpartition("/")[2])
        self.saga_id = UUID(operation.uid)
        self.port_id = uuid5(self.uid, "port")

    async def happens(self, *messages: Any) -> RecordedEvent:
        """To the instance; the last event as recorded."""
        return await self._append(*(("instance", self.uid, message) for message in messages))

    async def happens_to_port(self, message: Any) -> RecordedEvent:
        return await self._append(("port", self.port_id, message))

    async def saga_goes_on(self, *messages: Any) -> RecordedEvent:
        return await self._append(*(("saga", self.saga_id, message) for message in messages))

    async def claims(self, host: str) -> None:
        made = placement_events.ClaimMade(host=host, virt_type="qemu", attempt=1)
        await self._append(("claim", claim_aggregate_id(self.uid), made))

    async def _append(self, *changes: Any) -> RecordedEvent:
        position = await self._world.journal.append(*changes)
        [event] = await self._world.log.read(after=position - 1, limit=1)
        return event


async def _boot(world: World, client: Client) -> Guest:
    """An accepted instance: flavor, image and network are made by an administrator."""
    world.user("root", new_project(), ROLE_ADMIN)
    root = Client(client.channel, (await _login(client, "root")))
    flavor = compute.Flavor(display_name="m1", vcpus=1, memory_mib=512, disk_gib=5)
    await root.call(root.compute.CreateFlavor, compute.CreateFlavorRequest(flavor=flavor))
    public = image.Image(
        display_name="img", disk_format=image.DISK_FORMAT_RAW, visibility=image.IMAGE_VISIBILITY_PUBLIC
    )
    await root.call(root.image.CreateImage, image.CreateImageRequest(image=public))
    net = network.Network(display_name="net", shared=True)
    await root.call(root.network.CreateNetwork, network.CreateNetworkRequest(network=net))
    client.position = root.position
    wanted = compute.Instance(
        display_name="web", flavor="m1", image="img", nics=[compute.InstanceNic(network="net")], user_data=b"secret"
    )
    request = compute.CreateInstanceRequest(instance=wanted, request_id=str(uuid4()))
    return Guest(world, await client.call(client.compute.CreateInstance, request))


async def _login(client: Client, name: str) -> str:
    answer = await client.identity.CreateToken(CreateTokenRequest(user=name, password=name))
    token: str = answer.access_token
    return token


@pytest.fixture
async def alice(world: World, gateway: Gateway) -> Client:
    world.user("alice", new_project(), ROLE_MEMBER)
    return await gateway.login("alice")


async def _get(client: Client, name: str, **others: Any) -> compute.Instance:
    request = compute.GetInstanceRequest(name=name, **others)
    instance: compute.Instance = await client.call(client.compute.GetInstance, request)
    return instance


async def test_an_instance_joins_what_its_port_knows(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    assert guest.operation.kind == "instance-create"
    assert guest.operation.state == operations.OPERATION_STATE_RUNNING
    instance = await _get(alice, "web")
    assert (instance.status, instance.task_state) == (compute.INSTANCE_STATUS_BUILD, "instance-create")
    assert not instance.user_data
    before = instance.etag
    await guest.happens(compute_events.InstanceHostAssigned(host="host-1", virt_type="qemu"))
    await guest.happens_to_port(network_events.PortLeaseSeen(host="host-1", ip_address="192.168.1.10"))
    seen = await guest.happens_to_port(network_events.PortAddressSeen(host="host-1", ip_address="192.168.1.11"))
    alice.position = seen.position
    instance = await _get(alice, instance.name)
    [nic] = instance.nics
    assert (nic.fixed_ip, nic.leased_ip, nic.seen_ip) == ("192.168.1.10", "192.168.1.10", "192.168.1.11")
    assert nic.mac_address == "fa:16:3e:00:00:01"
    assert instance.etag != before
    assert not instance.host, "where a guest runs is the operators' matter"
    root = Client(alice.channel, await _login(alice, "root"))
    root.position = alice.position
    assert (await _get(root, instance.uid)).host == "host-1"


async def test_as_of_is_folded_from_the_log(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    created = (await world.log.read_aggregate(guest.uid))[0]
    leased = await guest.happens_to_port(network_events.PortLeaseSeen(ip_address="192.168.1.10"))
    activated = await guest.happens(
        compute_events.InstanceActivated(), compute_events.InstanceTaskEnded(task_id=str(guest.saga_id))
    )
    deleted = await guest.happens(compute_events.InstanceDeleted())
    alice.position = deleted.position
    with pytest.raises(NotFound):
        await _get(alice, str(guest.uid))
    name = f"projects/{guest.operation.project_id}/instances/{guest.uid}"

    async def as_of(moment: Any) -> compute.Instance:
        request = compute.GetInstanceRequest(name=name)
        request.as_of.FromDatetime(moment)
        instance: compute.Instance = await alice.call(alice.compute.GetInstance, request)
        return instance

    at_first = await as_of(created.recorded_at)
    assert at_first.status == compute.INSTANCE_STATUS_BUILD and not at_first.nics[0].leased_ip
    assert at_first.nics[0].fixed_ip == "192.168.1.10"
    assert (await as_of(leased.recorded_at)).nics[0].leased_ip == "192.168.1.10"
    active = await as_of(activated.recorded_at)
    assert (active.status, active.task_state) == (compute.INSTANCE_STATUS_ACTIVE, "")
    for moment in (deleted.recorded_at, created.recorded_at - timedelta(seconds=1)):
        with pytest.raises(NotFound):
            await as_of(moment)


async def test_watching_instances_shows_the_present_state_and_each_change(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    stream = alice.stream(alice.compute.WatchInstances, compute.WatchInstancesRequest(name="web"))
    async with asyncio.timeout(TIMEOUT_S), aclosing(aiter(stream)) as responses:
        first = await anext(responses)
        assert first.instance.status == compute.INSTANCE_STATUS_BUILD
        await guest.happens(compute_events.InstanceActivated())
        await guest.happens_to_port(network_events.PortLeaseSeen(ip_address="192.168.1.10"))
        gone = await guest.happens(compute_events.InstanceDeleted())
        rest = [response async for response in responses]
    assert [response.instance.status for response in rest] == [
        compute.INSTANCE_STATUS_ACTIVE,
        compute.INSTANCE_STATUS_ACTIVE,
        compute.INSTANCE_STATUS_DELETED,
    ]
    assert rest[1].instance.nics[0].leased_ip == "192.168.1.10"
    assert [response.deleted for response in rest] == [False, False, True]
    assert rest[-1].position == gone.position


async def test_watching_all_instances_shows_new_ones_of_the_project_only(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    world.user("bob", new_project())
    bob = Client(alice.channel, await _login(alice, "bob"))
    theirs = bob.stream(bob.compute.WatchInstances, compute.WatchInstancesRequest())
    ours = alice.stream(alice.compute.WatchInstances, compute.WatchInstancesRequest())
    async with asyncio.timeout(TIMEOUT_S), aclosing(aiter(ours)) as mine, aclosing(aiter(theirs)) as others:
        assert (await anext(mine)).instance.uid == str(guest.uid)
        first_of_others = asyncio.ensure_future(anext(others))
        await guest.happens(compute_events.InstanceActivated())
        assert (await anext(mine)).instance.status == compute.INSTANCE_STATUS_ACTIVE
        created = compute_events.InstanceCreated(
            project_id=world.conductor.principals["bob"].project_id, display_name="bobs"
        )
        await world.journal.append(("instance", uuid4(), created))
        assert (await first_of_others).instance.display_name == "bobs"


async def test_watching_an_operation_ends_with_it(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    request = operations.WatchOperationRequest(name=guest.operation.name)
    async with asyncio.timeout(TIMEOUT_S):
        stream = alice.stream(alice.operations.WatchOperation, request)
        seen: list[operations.Operation] = []
        async for operation in stream:
            seen.append(operation)
            if len(seen) == 1:
                await guest.saga_goes_on(
                    saga.StepStarted(step="claim_host", attempt=1),
                    saga.StepSucceeded(step="claim_host", attempt=1, detail="on host-1"),
                    saga.SagaCompleted(),
                )
    *before, last = [operation.state for operation in seen]  # changes that come together are one
    assert last == operations.OPERATION_STATE_SUCCEEDED
    assert 1 <= len(before) <= 3 and set(before) == {operations.OPERATION_STATE_RUNNING}
    assert seen[-1].done and seen[-1].steps[0].detail == "on host-1"
    listed = await alice.call(
        alice.operations.ListOperations, operations.ListOperationsRequest(target=guest.operation.target)
    )
    assert [operation.name for operation in listed.operations] == [guest.operation.name]


async def test_who_watches_for_the_outcome_alone_is_told_once_when_it_settles(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)

    async def told() -> list[operations.Operation]:
        request = operations.WatchOperationRequest(name=guest.operation.name, settled_only=True)
        return [operation async for operation in alice.stream(alice.operations.WatchOperation, request)]

    async with asyncio.timeout(TIMEOUT_S):
        outcome = asyncio.create_task(told())
        everything = alice.stream(
            alice.operations.WatchOperation, operations.WatchOperationRequest(name=guest.operation.name)
        )
        async with aclosing(aiter(everything)) as changes:
            await anext(changes)
            await guest.saga_goes_on(saga.StepStarted(step="claim_host", attempt=1))
            await anext(changes)
            assert not outcome.done()
            await guest.saga_goes_on(
                saga.SagaStuck(step="claim_host", error=operations.OperationError(reason="HOST_GONE"))
            )
            stuck = await anext(changes)
            assert await outcome == await told() == [stuck]
            assert (stuck.state, stuck.done) == (operations.OPERATION_STATE_STUCK, False)
            alice.position = (await guest.saga_goes_on(saga.SagaRetried())).position
            await alice.call(alice.operations.GetOperation, operations.GetOperationRequest(name=guest.operation.name))
            outcome = asyncio.create_task(told())
            await guest.saga_goes_on(saga.StepSucceeded(step="claim_host", attempt=1), saga.SagaCompleted())
            *_, done = [change async for change in changes]
        assert await outcome == await told() == [done]
    assert done.state == operations.OPERATION_STATE_SUCCEEDED and done.steps[0].HasField("end_time")


async def test_a_timeline_tells_the_whole_story_in_order(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    await guest.saga_goes_on(saga.StepStarted(step="claim_host", attempt=1))
    await guest.claims("host-1")
    await guest.saga_goes_on(saga.StepSucceeded(step="claim_host", attempt=1, detail="on host-1"))
    await guest.saga_goes_on(saga.StepStarted(step="spawn", attempt=1))
    failure = agent.Failure(reason="IMAGE_DOWNLOAD_FAILED", message="no route")
    await guest.happens(compute_events.InstanceDomainObserved(host="host-1", failure=failure))
    last = await guest.saga_goes_on(
        saga.StepFailed(step="spawn", attempt=1, error=operations.OperationError(reason="IMAGE_DOWNLOAD_FAILED"))
    )
    await guest.happens_to_port(network_events.PortLeaseSeen(host="host-1", ip_address="192.168.1.10"))
    alice.position = last.position + 1
    timeline = await alice.call(alice.events.GetTimeline, events.GetTimelineRequest(resource=str(guest.uid)))
    told = [(entry.title, entry.source, entry.failed) for entry in timeline.entries]
    assert told == [
        ("InstanceCreated", "conductor", False),
        ("PortCreated", "conductor", False),
        ("instance-create", "conductor", False),
        ("claim_host", "conductor", False),
        ("ClaimMade", "placement", False),
        ("spawn", "conductor", True),
        ("InstanceDomainObserved", "compute-agent@host-1", True),
        ("PortLeaseSeen", "net-agent@host-1", False),
    ]
    claim = timeline.entries[3]
    assert claim.detail == "on host-1" and claim.duration_ms >= 0
    assert len(timeline.trace_id) == 32
    assert timeline.entries[-1].offset_ms >= timeline.entries[0].offset_ms == 0


async def test_events_are_listed_for_their_project_with_secrets_redacted(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    listed = await alice.call(alice.events.ListEvents, events.ListEventsRequest(resource=str(guest.uid), page_size=10))
    [event] = listed.events
    created = compute_events.InstanceCreated()
    assert event.data.Unpack(created)
    assert (created.display_name, created.user_data) == ("web", REDACTED)
    assert event.actor == world.conductor.principals["alice"].user_id
    everything = await alice.call(alice.events.ListEvents, events.ListEventsRequest(page_size=2))
    assert [it.type.rpartition(".")[2] for it in everything.events] == ["InstanceCreated", "PortCreated"]
    rest = await alice.call(
        alice.events.ListEvents,
        events.ListEventsRequest(page_size=2, page_token=everything.next_page_token),
    )
    assert [it.type.rpartition(".")[2] for it in rest.events] == ["SagaStarted"]
    world.user("bob", new_project())
    bob = Client(alice.channel, await _login(alice, "bob"))
    assert not (await bob.call(bob.events.ListEvents, events.ListEventsRequest())).events
    for request in (
        events.GetTimelineRequest(resource=str(guest.uid)),
        events.GetTimelineRequest(resource=guest.operation.target),
    ):
        with pytest.raises(NotFound):
            await bob.call(bob.events.GetTimeline, request)
    root = Client(alice.channel, await _login(alice, "root"))
    assert len((await root.call(root.events.ListEvents, events.ListEventsRequest())).events) >= 6


async def test_events_are_watched_from_a_position_on(world: World, alice: Client) -> None:
    guest = await _boot(world, alice)
    request = events.WatchEventsRequest(resource=str(guest.uid), after_position=1)
    async with asyncio.timeout(TIMEOUT_S), aclosing(aiter(alice.stream(alice.events.WatchEvents, request))) as stream:
        assert (await anext(stream)).type == "cirra.compute.v1.InstanceCreated"
        await guest.happens(compute_events.InstanceActivated())
        assert (await anext(stream)).type == "cirra.compute.v1.InstanceActivated"
