"""The gateway before the real conductor and the real placement: a tenant's day, up to where a host would be needed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cirra.compute.v1 import compute_pb2 as compute
from cirra.events.v1 import events_pb2 as events
from cirra.identity.v1 import identity_pb2 as identity
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import network_pb2 as network
from cirra.operations.v1 import operations_pb2 as operations
from cirra.placement.v1 import placement_pb2 as placement
from conductor.bootstrap import bootstrap as start_conductor
from conductor.settings import ConductorSettings
from core.agent.identity import enroll
from core.errors import AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted
from core.natsauth.keys import NatsKeys
from core.pki.identity import Identity
from core.service import Lifetime
from core.testing.invariants import Invariant
from placement.bootstrap import bootstrap as start_placement
from placement.settings import PlacementSettings
from tests.integration.api_gateway.world import Client, Gateway, World

PASSWORD = "correct horse battery staple"
TIMEOUT_S = 60.0


class _Plane:
    """Starts real services in this process, each with settings as a supervisor would give them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lifetimes: list[Lifetime] = []

    def common(self, name: str, number: int) -> dict[str, Any]:
        """The settings of the replica with this number that all services have."""
        world = self._world
        folder = world.folder / f"real-{name}-{number}"
        world.authority.issue_server(name, ["127.0.0.1"], folder)
        (folder / "master.key").write_text(base64.b64encode(b"m" * 32).decode())
        return {
            "cell": world.cell.name,
            "replica": f"{name}-{number}",
            "postgres_dsn": world.cell.dsn,
            "nats_urls": (world.cell.nats_url,),
            "nats_credentials": world.cell.credentials_of(Identity.service(name)),
            "tls_directory": folder,
            "master_key_file": folder / "master.key",
            "ready_file": folder / "ready.json",
        }

    async def start(self, bootstrap: Callable[[Lifetime, Any], Awaitable[None]], settings: Any) -> str:
        """The address of its gRPC door."""
        lifetime = Lifetime(settings.ready_file)
        self._lifetimes.append(lifetime)
        await bootstrap(lifetime, settings)
        address: str = json.loads(settings.ready_file.read_text())["grpc"]
        return address

    async def close(self) -> None:
        for lifetime in reversed(self._lifetimes):
            await lifetime.close(5.0)


@dataclass(frozen=True)
class Doors:
    """The addresses of the replicas of both services."""

    conductors: tuple[str, ...]
    placements: tuple[str, ...]


@asynccontextmanager
async def _plane(world: World, nats_keys_folder: Path) -> AsyncIterator[Doors]:
    """Two placements and two conductors, for the world's gateways to speak to."""
    plane = _Plane(world)
    metadata_key = base64.b64encode(os.urandom(32)).decode()
    try:
        placements = [
            await plane.start(start_placement, PlacementSettings(**plane.common("placement", number)))
            for number in (1, 2)
        ]
        conductors = []
        for number in (1, 2):
            common = plane.common("conductor", number)
            folder: Path = common["tls_directory"]
            (folder / "ticket.key").write_text(base64.b64encode(world.ticket_key).decode())
            (folder / "metadata.key").write_text(metadata_key)
            (folder / "password").write_text(PASSWORD)
            settings = ConductorSettings(
                **common,
                placement_addresses=tuple(placements),
                ca_directory=world.authority.folder,
                nats_keys_directory=nats_keys_folder,
                ticket_key_file=folder / "ticket.key",
                metadata_key_file=folder / "metadata.key",
                image_download_url="https://127.0.0.1:1/images",
                metadata_url="https://127.0.0.1:1",
                advertised_conductor_addresses=("127.0.0.1:1",),
                advertised_nats_urls=(world.cell.nats_url,),
                admin_password_file=folder / "password",
            )
            conductors.append(await plane.start(start_conductor, settings))
        yield Doors(tuple(conductors), tuple(placements))
    finally:
        await plane.close()


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """All: here the conductor is real."""
    return frozenset(Invariant)


@pytest.fixture
async def real(world: World, tmp_path: Path) -> AsyncIterator[Gateway]:
    NatsKeys.create(tmp_path / "nats-keys")
    async with (
        _plane(world, tmp_path / "nats-keys") as doors,
        world.gateway(conductor_addresses=doors.conductors, placement_addresses=doors.placements) as gateway,
    ):
        yield gateway


async def _login(gateway: Gateway, user: str, project: str) -> Client:
    client = gateway.anonymous()
    answer = await client.identity.CreateToken(
        identity.CreateTokenRequest(user=user, password=PASSWORD, project=project)
    )
    client.token = answer.access_token
    return client


async def _tenant(gateway: Gateway) -> tuple[Client, Client]:
    """An administrator, and a member of a new project."""
    admin = await _login(gateway, "admin", "admin")
    project = await admin.call(
        admin.identity.CreateProject, identity.CreateProjectRequest(project=identity.Project(display_name="web"))
    )
    user = identity.User(
        display_name="alice", roles=[identity.RoleBinding(project_id="web", role=identity.ROLE_MEMBER)]
    )
    made = await admin.call(
        admin.identity.CreateUser, identity.CreateUserRequest(user=user, password=PASSWORD.encode())
    )
    assert [binding.project_id for binding in made.roles] == [project.uid]
    alice = await _login(gateway, "alice", "web")
    alice.position = admin.position
    return admin, alice


async def _parts(admin: Client, alice: Client) -> None:
    """What an instance is made of."""
    flavor = compute.Flavor(display_name="m1.tiny", vcpus=1, memory_mib=256, disk_gib=1)
    await admin.call(admin.compute.CreateFlavor, compute.CreateFlavorRequest(flavor=flavor))
    alice.position = admin.position
    public_key = (
        Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    key_pair = compute.KeyPair(display_name="laptop", public_key=public_key.decode())
    made = await alice.call(alice.compute.CreateKeyPair, compute.CreateKeyPairRequest(key_pair=key_pair))
    assert made.type == "ssh-ed25519" and made.fingerprint
    await alice.call(
        alice.network.CreateNetwork, network.CreateNetworkRequest(network=network.Network(display_name="lan"))
    )
    subnet = network.Subnet(network="lan", display_name="lan4", cidr="192.168.7.0/24")
    await alice.call(alice.network.CreateSubnet, network.CreateSubnetRequest(subnet=subnet))
    wanted = image.Image(display_name="blank", disk_format=image.DISK_FORMAT_RAW)
    await alice.call(alice.image.CreateImage, image.CreateImageRequest(image=wanted))

    async def data() -> AsyncIterator[image.UploadImageDataRequest]:
        yield image.UploadImageDataRequest(header=image.UploadImageHeader(name="blank"))
        yield image.UploadImageDataRequest(chunk=b"\0" * 4096)

    active = await alice.image.UploadImageData(data(), metadata=alice.metadata)
    assert active.status == image.IMAGE_STATUS_ACTIVE


async def _done(client: Client, operation: operations.Operation) -> operations.Operation:
    """The operation when it is done; the client then reads what it did."""
    async with asyncio.timeout(TIMEOUT_S):
        stream = client.stream(client.operations.WatchOperation, operations.WatchOperationRequest(name=operation.name))
        async for operation in stream:
            last = operation
    client.position = max(client.position, (await _events_of(client, last.uid))[-1].position)
    return last


async def _events_of(client: Client, uid: str) -> list[events.Event]:
    listed = await client.call(client.events.ListEvents, events.ListEventsRequest(resource=uid, page_size=1000))
    return list(listed.events)


async def test_an_instance_without_a_host_ends_in_error_and_is_deleted(real: Gateway) -> None:
    admin, alice = await _tenant(real)
    await _parts(admin, alice)
    request = compute.CreateInstanceRequest(
        instance=compute.Instance(
            display_name="web-1",
            flavor="m1.tiny",
            image="blank",
            key_pair="laptop",
            nics=[compute.InstanceNic(network="lan", fixed_ip="192.168.7.50")],
            user_data=b"#cloud-config",
        ),
        request_id=str(uuid4()),
    )
    operation = await alice.call(alice.compute.CreateInstance, request)
    assert operation.state == operations.OPERATION_STATE_RUNNING
    assert (await alice.call(alice.compute.CreateInstance, request)).uid == operation.uid
    ended = await _done(alice, operation)
    assert ended.state == operations.OPERATION_STATE_FAILED
    assert ended.error.reason == "NO_VALID_HOST"

    instance = await alice.call(alice.compute.GetInstance, compute.GetInstanceRequest(name="web-1"))
    assert instance.status == compute.INSTANCE_STATUS_ERROR
    assert instance.fault.reason == "NO_VALID_HOST" and instance.fault.remedy
    assert instance.task_state == ""
    assert instance.flavor_summary.display_name == "m1.tiny"
    assert operation.target == instance.name

    with pytest.raises(FailedPrecondition) as raised:
        await alice.call(alice.image.DeleteImage, image.DeleteImageRequest(name="blank"))
    assert raised.value.reason == "IMAGE_IN_USE"

    deleting = await alice.call(alice.compute.DeleteInstance, compute.DeleteInstanceRequest(name="web-1"))
    assert (await _done(alice, deleting)).state == operations.OPERATION_STATE_SUCCEEDED
    with pytest.raises(NotFound):
        await alice.call(alice.compute.GetInstance, compute.GetInstanceRequest(name="web-1"))
    timeline = await alice.call(alice.events.GetTimeline, events.GetTimelineRequest(resource=instance.uid))
    titles = [entry.title for entry in timeline.entries]
    assert titles[0] == "InstanceCreated" and titles[-1] in ("SagaCompleted", "instance-delete")
    assert {"claim_host", "undo accept", "InstanceErred", "PortDeleted", "InstanceDeleted"} <= set(titles)
    assert "#cloud-config" not in str(await _events_of(alice, instance.uid))


async def test_quotas_and_names_are_the_conductors_word(real: Gateway) -> None:
    admin, alice = await _tenant(real)
    limits = identity.SetQuotasRequest(project="web", quotas=[identity.Quota(resource="networks", limit=1)])
    quotas = await admin.call(admin.identity.SetQuotas, limits)
    assert {quota.resource: quota.limit for quota in quotas.quotas}["networks"] == 1
    lan = network.CreateNetworkRequest(network=network.Network(display_name="lan"))
    await alice.call(alice.network.CreateNetwork, lan)
    with pytest.raises(ResourceExhausted) as raised:
        await alice.call(alice.network.CreateNetwork, lan)
    assert raised.value.reason == "QUOTA_EXCEEDED" and raised.value.remedy
    mine = await alice.call(alice.identity.GetQuotas, identity.GetQuotasRequest())
    assert {quota.resource: quota.usage for quota in mine.quotas}["networks"] == 1
    flavor = compute.CreateFlavorRequest(flavor=compute.Flavor(display_name="m1", vcpus=1, memory_mib=64, disk_gib=1))
    await admin.call(admin.compute.CreateFlavor, flavor)
    with pytest.raises(AlreadyExists):
        await admin.call(admin.compute.CreateFlavor, flavor)
    grant = identity.GrantRoleRequest(
        user="alice", binding=identity.RoleBinding(project_id="admin", role=identity.ROLE_READER)
    )
    assert len((await admin.call(admin.identity.GrantRole, grant)).roles) == 2


async def test_a_host_enrols_through_the_gateway(real: Gateway, tmp_path: Path) -> None:
    admin = await _login(real, "admin", "admin")
    request = placement.CreateEnrolmentTokenRequest(host="host-1", availability_zone="zone-a")
    token = await admin.call(admin.hosts.CreateEnrolmentToken, request)
    authority = tmp_path / "ca.pem"
    authority.write_bytes(real.world.authority.certificate_pem)
    await enroll(real.grpc, authority, "host-1", token.token, tmp_path / "host")
    admin.position = (await real.world.log.head()).position
    [host] = (await admin.call(admin.hosts.ListHosts, placement.ListHostsRequest())).hosts
    assert (host.name, host.availability_zone, host.enabled) == ("hosts/host-1", "zone-a", True)
    disable = placement.DisableHostRequest(name="host-1", reason="disk replaced")
    disabled = await admin.call(admin.hosts.DisableHost, disable)
    assert (disabled.enabled, disabled.disabled_reason) == (False, "disk replaced")
    enable = placement.EnableHostRequest(name="hosts/host-1")
    assert (await admin.call(admin.hosts.EnableHost, enable)).enabled
    found = await admin.call(admin.hosts.GetHost, placement.GetHostRequest(name="hosts/host-1"))
    assert found.etag != disabled.etag
