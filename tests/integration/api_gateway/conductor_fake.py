"""A conductor for tests of the gateway: it checks nothing, and appends real events to the real log."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from google.protobuf.message import Message

from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.conductor.v1 import commands_pb2, commands_pb2_grpc
from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.identity.v1 import events_pb2 as identity_events
from cirra.identity.v1 import identity_pb2 as identity
from cirra.image.v1 import events_pb2 as image_events
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import events_pb2 as network_events
from cirra.network.v1 import network_pb2 as network
from cirra.operations.v1 import events_pb2 as saga_events
from core.errors import Unauthenticated
from core.eventlog.log import EventLog
from core.eventlog.types import Append, Context, NewEvent
from core.ids import last_segment, uuid7
from core.rpc.context import require_principal
from core.telemetry import correlation_id, traceparent

_REQUESTS = UUID("0a0a0a0a-0000-4000-8000-000000000000")


class Journal:
    """Appends events to whatever aggregate, at its next version."""

    def __init__(self, log: EventLog) -> None:
        self.log = log

    async def append(self, *changes: tuple[str, UUID, Message], actor: str = "") -> int:
        """(aggregate type, aggregate id, event), all in one append; the position of the last."""
        versions: dict[UUID, int] = {}
        events = []
        for aggregate_type, aggregate_id, message in changes:
            if aggregate_id not in versions:
                versions[aggregate_id] = len(await self.log.read_aggregate(aggregate_id))
            versions[aggregate_id] += 1
            events.append(
                NewEvent(
                    aggregate_type=aggregate_type,
                    aggregate_id=aggregate_id,
                    version=versions[aggregate_id],
                    type=message.DESCRIPTOR.full_name,
                    data=message.SerializeToString(),
                    event_id=uuid7(),
                )
            )
        context = Context(actor=actor, correlation_id=correlation_id(), traceparent=traceparent())
        return (await self.log.append(Append(events=tuple(events), context=context))).last_position


class FakeConductor(
    commands_pb2_grpc.IdentityCommandsServicer,
    commands_pb2_grpc.ComputeCommandsServicer,
    commands_pb2_grpc.ImageCommandsServicer,
    commands_pb2_grpc.NetworkCommandsServicer,
    commands_pb2_grpc.HostCommandsServicer,
):
    """`principals`: who may log in, by user name; the password is the user name. `requests`: what arrived."""

    def __init__(self, log: EventLog) -> None:
        self.journal = Journal(log)
        self.principals: dict[str, identity.Principal] = {}
        self.requests: list[tuple[str, Message, identity.Principal]] = []

    async def VerifyPassword(self, request: commands_pb2.VerifyPasswordRequest, context: Any) -> identity.Principal:
        if request.user not in self.principals or request.password != request.user:
            raise Unauthenticated("wrong user name or password", reason="WRONG_CREDENTIALS")
        return self.principals[request.user]

    async def RevokeToken(self, request: commands_pb2.RevokeTokenCommand, context: Any) -> Accepted:
        event = identity_events.TokenRevoked(user_id=require_principal().user_id)
        event.expire_time.FromSeconds(request.expires_at_unix)
        return await self._accept(request, "token", UUID(request.token_id), event)

    async def CreateFlavor(self, request: compute.CreateFlavorRequest, context: Any) -> Accepted:
        flavor = request.flavor
        event = compute_events.FlavorCreated(
            display_name=flavor.display_name,
            vcpus=flavor.vcpus,
            memory_mib=flavor.memory_mib,
            disk_gib=flavor.disk_gib,
        )
        return await self._accept(request, "flavor", uuid7(), event)

    async def DeleteFlavor(self, request: compute.DeleteFlavorRequest, context: Any) -> Accepted:
        return await self._accept(request, "flavor", _uid(request.name), compute_events.FlavorDeleted())

    async def CreateImage(self, request: image.CreateImageRequest, context: Any) -> Accepted:
        wanted = request.image
        event = image_events.ImageCreated(
            project_id=require_principal().project_id,
            display_name=wanted.display_name,
            disk_format=wanted.disk_format,
            visibility=wanted.visibility or image.IMAGE_VISIBILITY_PRIVATE,
        )
        return await self._accept(request, "image", uuid7(), event)

    async def ActivateImage(self, request: commands_pb2.ActivateImageCommand, context: Any) -> Accepted:
        event = image_events.ImageActivated(
            sha256=request.sha256, size_bytes=request.size_bytes, virtual_size_bytes=request.virtual_size_bytes
        )
        return await self._accept(request, "image", UUID(request.image_id), event)

    async def RejectImage(self, request: commands_pb2.RejectImageCommand, context: Any) -> Accepted:
        event = image_events.ImageRejected(reason=request.reason, message=request.message)
        return await self._accept(request, "image", UUID(request.image_id), event)

    async def CreateNetwork(self, request: network.CreateNetworkRequest, context: Any) -> Accepted:
        event = network_events.NetworkCreated(
            project_id=require_principal().project_id,
            display_name=request.network.display_name,
            type=network.NETWORK_TYPE_FLAT,
            mtu=1500,
            shared=request.network.shared,
        )
        return await self._accept(request, "network", uuid7(), event)

    async def CreateSubnet(self, request: network.CreateSubnetRequest, context: Any) -> Accepted:
        subnet_id, wanted = str(uuid7()), request.subnet
        event = network_events.SubnetCreated(
            project_id=require_principal().project_id,
            network_id=wanted.network,
            subnet_id=subnet_id,
            display_name=wanted.display_name,
            cidr=wanted.cidr,
        )
        accepted = await self._accept(request, "network", UUID(wanted.network), event)
        accepted.uid = subnet_id
        return accepted

    async def CreateInstance(self, request: compute.CreateInstanceRequest, context: Any) -> Accepted:
        """Accepts the instance with its port and its saga, in one append; nothing of it is carried out."""
        principal = require_principal()
        # The same request id: the same instance.
        instance_id = uuid5(_REQUESTS, request.request_id)
        port_id, saga_id = uuid5(instance_id, "port"), uuid5(instance_id, "saga")
        accepted = Accepted(uid=str(instance_id), operation_id=str(saga_id))
        known = await self.journal.log.read_aggregate(instance_id)
        if known:
            accepted.position = known[0].position
            return accepted
        self.requests.append(("CreateInstance", request, principal))
        wanted, project_id = request.instance, principal.project_id
        port = network_events.PortCreated(
            project_id=project_id,
            network_id=wanted.nics[0].network,
            mac_address="fa:16:3e:00:00:01",
            fixed_ips=[network.FixedIp(ip_address="192.168.1.10")],
            device_id=str(instance_id),
            owned_by_device=True,
        )
        created = compute_events.InstanceCreated(
            project_id=project_id,
            user_id=principal.user_id,
            display_name=wanted.display_name,
            hostname=wanted.display_name,
            flavor_id=wanted.flavor,
            image_id=wanted.image,
            key_pair_id=wanted.key_pair,
            user_data=b"sealed",
            nics=[compute.InstanceNic(network=wanted.nics[0].network, port=str(port_id))],
            task_id=str(saga_id),
        )
        started = saga_events.SagaStarted(
            saga="instance-create",
            target=f"projects/{project_id}/instances/{instance_id}",
            project_id=project_id,
            runner="fake",
        )
        accepted.position = await self.journal.append(
            ("instance", instance_id, created),
            ("port", port_id, port),
            ("saga", saga_id, started),
            actor=principal.user_id,
        )
        return accepted

    async def _accept(self, request: Message, aggregate_type: str, uid: UUID, event: Message) -> Accepted:
        principal = require_principal()
        self.requests.append((type(request).__name__, request, principal))
        position = await self.journal.append((aggregate_type, uid, event), actor=principal.user_id)
        return Accepted(uid=str(uid), position=position)


def _uid(name: str) -> UUID:
    return UUID(last_segment(name))
