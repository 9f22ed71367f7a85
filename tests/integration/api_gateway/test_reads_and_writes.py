"""Writes are read back through any replica; each project sees its own; names, pages, positions."""

from __future__ import annotations

from uuid import uuid4

import pytest

from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, ROLE_READER
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import events_pb2 as network_events
from cirra.network.v1 import network_pb2 as network
from core.errors import InvalidArgument, NotFound, PermissionDenied
from core.ids import uuid7
from core.rpc.metadata import EPOCH, MIN_POSITION, POSITION
from tests.integration.api_gateway.world import Client, Gateway, World, new_project


def _flavor(name: str) -> compute.CreateFlavorRequest:
    return compute.CreateFlavorRequest(flavor=compute.Flavor(display_name=name, vcpus=1, memory_mib=512, disk_gib=5))


async def _make_image(client: Client, name: str, visibility: image.ImageVisibility.ValueType) -> image.Image:
    request = image.CreateImageRequest(
        image=image.Image(display_name=name, disk_format=image.DISK_FORMAT_RAW, visibility=visibility)
    )
    made: image.Image = await client.call(client.image.CreateImage, request)
    return made


async def test_a_write_through_one_replica_is_read_through_another(world: World) -> None:
    world.user("root", new_project(), ROLE_ADMIN)
    async with world.gateway("g1") as first, world.gateway("g2") as second:
        writer, reader = await first.login("root"), await second.login("root")
        for number in range(5):
            made = await writer.call(writer.compute.CreateFlavor, _flavor(f"m1.{number}"))
            reader.position = writer.position
            found = await reader.call(reader.compute.GetFlavor, compute.GetFlavorRequest(name=made.name))
            assert found == made
            assert reader.position >= writer.position > 0
        assert (made.display_name, made.vcpus, made.memory_mib, made.disk_gib) == ("m1.4", 1, 512, 5)
        assert made.etag and made.HasField("create_time")
        listed = await reader.call(reader.compute.ListFlavors, compute.ListFlavorsRequest(page_size=2))
        assert [flavor.display_name for flavor in listed.flavors] == ["m1.0", "m1.1"]
        rest = await reader.call(
            reader.compute.ListFlavors,
            compute.ListFlavorsRequest(page_size=10, page_token=listed.next_page_token),
        )
        assert [flavor.display_name for flavor in rest.flavors] == ["m1.2", "m1.3", "m1.4"]
        assert not rest.next_page_token

        await writer.call(writer.compute.DeleteFlavor, compute.DeleteFlavorRequest(name="m1.4"))
        reader.position = writer.position
        with pytest.raises(NotFound):
            await reader.call(reader.compute.GetFlavor, compute.GetFlavorRequest(name=made.uid))


async def test_the_conductor_gets_names_principal_and_a_request_id(world: World, gateway: Gateway) -> None:
    root = world.user("root", new_project(), ROLE_ADMIN)
    client = await gateway.login("root")
    made = await client.call(client.compute.CreateFlavor, _flavor("tiny"))
    await client.call(client.compute.DeleteFlavor, compute.DeleteFlavorRequest(name="tiny"))
    (_, create, who), (_, delete, _) = world.conductor.requests
    assert isinstance(create, compute.CreateFlavorRequest) and isinstance(delete, compute.DeleteFlavorRequest)
    assert who == root
    assert create.request_id and delete.request_id
    assert delete.name == made.name == f"flavors/{made.uid}"


async def test_a_project_sees_its_own_and_what_is_public(world: World, gateway: Gateway) -> None:
    mine, theirs = new_project(), new_project()
    world.user("alice", mine)
    world.user("bob", theirs)
    world.user("root", new_project(), ROLE_ADMIN)
    alice, bob, root = [await gateway.login(name) for name in ("alice", "bob", "root")]
    private = await _make_image(alice, "private", image.IMAGE_VISIBILITY_PRIVATE)
    public = await _make_image(root, "public", image.IMAGE_VISIBILITY_PUBLIC)
    bob.position = root.position
    for name in (private.name, private.uid, "private"):
        with pytest.raises(NotFound):
            await bob.call(bob.image.GetImage, image.GetImageRequest(name=name))
    listed = await bob.call(bob.image.ListImages, image.ListImagesRequest())
    assert [found.uid for found in listed.images] == [public.uid]
    assert {found.uid for found in (await root.call(root.image.ListImages, image.ListImagesRequest())).images} == {
        private.uid,
        public.uid,
    }
    with pytest.raises(NotFound):
        await bob.call(bob.image.DeleteImage, image.DeleteImageRequest(name=private.name))


async def test_a_shared_network_shows_its_subnets(world: World, gateway: Gateway) -> None:
    world.user("root", new_project(), ROLE_ADMIN)
    world.user("bob", new_project())
    root, bob = await gateway.login("root"), await gateway.login("bob")
    made = []
    for name, shared in (("shared", True), ("own", False)):
        net = await root.call(
            root.network.CreateNetwork,
            network.CreateNetworkRequest(network=network.Network(display_name=name, shared=shared)),
        )
        made.append(
            await root.call(
                root.network.CreateSubnet,
                network.CreateSubnetRequest(subnet=network.Subnet(network=name, cidr="10.0.0.0/24")),
            )
        )
        assert made[-1].network == net.uid
    bob.position = root.position
    listed = await bob.call(bob.network.ListSubnets, network.ListSubnetsRequest())
    assert [subnet.uid for subnet in listed.subnets] == [made[0].uid]
    shared_network = await bob.call(bob.network.GetNetwork, network.GetNetworkRequest(name="shared"))
    assert list(shared_network.subnets) == [made[0].uid]


async def test_a_display_name_of_several_names_the_candidates(world: World, gateway: Gateway) -> None:
    world.user("alice", new_project())
    alice = await gateway.login("alice")
    twins = [await _make_image(alice, "debian", image.IMAGE_VISIBILITY_PRIVATE) for _ in range(2)]
    with pytest.raises(InvalidArgument) as raised:
        await alice.call(alice.image.GetImage, image.GetImageRequest(name="debian"))
    assert raised.value.reason == "AMBIGUOUS_NAME"
    assert all(twin.name in raised.value.message for twin in twins)


async def test_every_violation_is_named_at_once(world: World, gateway: Gateway) -> None:
    world.user("alice", new_project())
    alice = await gateway.login("alice")
    wanted = compute.Instance(flavor="none", image="none", key_pair="none", nics=[compute.InstanceNic()])
    with pytest.raises(InvalidArgument) as raised:
        await alice.call(alice.compute.CreateInstance, compute.CreateInstanceRequest(instance=wanted))
    assert {violation.field for violation in raised.value.violations} == {
        "instance.display_name",
        "instance.flavor",
        "instance.image",
        "instance.key_pair",
        "instance.nics[0]",
    }
    assert not world.conductor.requests


async def test_roles(world: World, gateway: Gateway) -> None:
    world.user("reader", new_project(), ROLE_READER)
    world.user("member", new_project(), ROLE_MEMBER)
    reader, member = await gateway.login("reader"), await gateway.login("member")
    assert not (await reader.call(reader.image.ListImages, image.ListImagesRequest())).images
    with pytest.raises(PermissionDenied):
        await _make_image(reader, "x", image.IMAGE_VISIBILITY_PRIVATE)
    with pytest.raises(PermissionDenied) as raised:
        await member.call(member.compute.CreateFlavor, _flavor("x"))
    assert raised.value.reason == "ROLE_MISSING" and raised.value.remedy
    with pytest.raises(PermissionDenied):
        await member.call(member.compute.ListInstances, compute.ListInstancesRequest(all_projects=True))


async def test_a_position_of_a_lost_history_is_not_waited_for(world: World, gateway: Gateway) -> None:
    """Beyond the log's head is only what a restore has taken away. The answer tells the epoch: so clients forget."""
    world.user("root", new_project(), ROLE_ADMIN)
    client = await gateway.login("root")
    metadata = (("authorization", f"Bearer {client.token}"), (MIN_POSITION, "1000000"))
    call = client.image.ListImages(image.ListImagesRequest(), metadata=metadata)
    await call  # one that waits for it ends with READ_MODEL_BEHIND
    told = dict(await call.trailing_metadata())
    assert int(told[POSITION]) <= (await world.log.head()).position
    assert told[EPOCH] == "1"
    raised = await world.log.raise_epoch("a test", expected=1)
    assert raised is not None
    client.position = raised.position
    await client.call(client.image.ListImages, image.ListImagesRequest())
    call = client.image.ListImages(image.ListImagesRequest(), metadata=client.metadata)
    await call
    assert dict(await call.trailing_metadata())[EPOCH] == "2"


async def test_the_same_request_id_gets_the_same_answer(world: World, gateway: Gateway) -> None:
    world.user("root", new_project(), ROLE_ADMIN)
    root = await gateway.login("root")
    await _prepare_instance_parts(root)
    request = compute.CreateInstanceRequest(
        instance=compute.Instance(
            display_name="web", flavor="m1", image="img", nics=[compute.InstanceNic(network="net")]
        ),
        request_id=str(uuid4()),
    )
    first = await root.call(root.compute.CreateInstance, request)
    again = await root.call(root.compute.CreateInstance, request)
    assert first == again
    assert len((await root.call(root.compute.ListInstances, compute.ListInstancesRequest())).instances) == 1


async def test_instances_are_listed_by_what_is_asked_for(world: World, gateway: Gateway) -> None:
    root, alice = world.user("root", new_project(), ROLE_ADMIN), world.user("alice", new_project())
    for principal, name, host, active in (
        (root, "db", "host-1", True),
        (alice, "web", "host-1", False),
        (alice, "web", "host-2", True),
        (alice, "db", "host-2", False),
    ):
        uid = uuid7()
        created = compute_events.InstanceCreated(project_id=principal.project_id, display_name=name)
        await world.journal.append(("instance", uid, created))
        await world.journal.append(("instance", uid, compute_events.InstanceHostAssigned(host=host)))
        if active:
            await world.journal.append(("instance", uid, compute_events.InstanceActivated()))
    position = (await world.log.head()).position

    async def found(who: str, **filters: object) -> list[tuple[str, str]]:
        client = await gateway.login(who)
        client.position = position
        request = compute.ListInstancesRequest(**filters)  # type: ignore[arg-type]
        listed = await client.call(client.compute.ListInstances, request)
        return [(instance.display_name, instance.host) for instance in listed.instances]

    assert await found("alice") == [("web", ""), ("web", ""), ("db", "")]
    assert await found("alice", display_name="db") == [("db", "")]
    assert len(await found("alice", status=compute.INSTANCE_STATUS_ACTIVE)) == 1
    assert await found("root") == [("db", "host-1")]
    assert await found("root", all_projects=True, host="host-2") == [("web", "host-2"), ("db", "host-2")]
    assert len(await found("root", all_projects=True)) == 4
    client = await gateway.login("root")
    client.position = position
    own = await client.call(client.compute.GetInstance, compute.GetInstanceRequest(name="db"))
    assert own.project_id == root.project_id, "a name means first what it does in the own project"


async def test_where_ports_are_bound_is_the_operators_matter(world: World, gateway: Gateway) -> None:
    alice = world.user("alice", new_project())
    world.user("root", new_project(), ROLE_ADMIN)
    uid = uuid7()
    await world.journal.append(
        ("port", uid, network_events.PortCreated(project_id=alice.project_id)),
        ("port", uid, network_events.PortBindingDesired(host="host-1")),
    )
    bindings = {}
    for name in ("alice", "root"):
        client = await gateway.login(name)
        client.position = (await world.log.head()).position
        port = await client.call(client.network.GetPort, network.GetPortRequest(name=str(uid)))
        bindings[name] = list(port.bindings)
    assert bindings == {"alice": [], "root": ["host-1"]}


async def _prepare_instance_parts(root: Client) -> None:
    await root.call(root.compute.CreateFlavor, _flavor("m1"))
    await _make_image(root, "img", image.IMAGE_VISIBILITY_PUBLIC)
    wanted = network.CreateNetworkRequest(network=network.Network(display_name="net", shared=True))
    await root.call(root.network.CreateNetwork, wanted)
