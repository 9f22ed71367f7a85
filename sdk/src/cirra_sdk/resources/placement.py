"""Hosts, the services that run the cloud, and the tokens with which hosts join. For administrators."""

from __future__ import annotations

import builtins
from types import ModuleType
from typing import Any, ClassVar

from google.protobuf.field_mask_pb2 import FieldMask

from cirra.placement.v1 import differences_pb2 as differences_pb
from cirra.placement.v1 import placement_pb2 as pb
from cirra.placement.v1.placement_pb2_grpc import HostServiceStub
from cirra_sdk.resources.collection import Readable, name_of, request_id_or_new
from cirra_sdk.transport import Transport


class Hosts(Readable[pb.Host]):
    """Machines that run guests."""

    messages: ClassVar[ModuleType] = pb
    stub_class = HostServiceStub
    kind = "Host"

    async def enable(self, name: pb.Host | str, *, request_id: str | None = None) -> pb.Host:
        """It takes new guests again."""
        changed: pb.Host = await self._call("EnableHost", name=name_of(name), request_id=request_id_or_new(request_id))
        return changed

    async def disable(self, name: pb.Host | str, reason: str, *, request_id: str | None = None) -> pb.Host:
        """It takes no new guests; those that it has go on."""
        changed: pb.Host = await self._call(
            "DisableHost", name=name_of(name), reason=reason, request_id=request_id_or_new(request_id)
        )
        return changed

    async def differences(self, name: pb.Host | str) -> differences_pb.HostDifferences:
        """What it has against what the log says of it, after a restore. Nothing while it is not observe-only."""
        request = differences_pb.ListHostDifferencesRequest(name=name_of(name))
        listed: differences_pb.HostDifferences = await self._transport.unary(self._stub.ListHostDifferences, request)
        return listed

    async def accept(self, name: pb.Host | str, etag: str, *, request_id: str | None = None) -> pb.Host:
        """The differences listed with this *etag*: from here on the host does what the log says."""
        request = differences_pb.AcceptHostDifferencesRequest(
            name=name_of(name), etag=etag, request_id=request_id_or_new(request_id)
        )
        changed: pb.Host = await self._transport.unary(self._stub.AcceptHostDifferences, request)
        return changed

    async def update(
        self,
        name: pb.Host | str,
        *,
        cpu_allocation_ratio: float | None = None,
        ram_allocation_ratio: float | None = None,
        disk_allocation_ratio: float | None = None,
        reserved_vcpus: int | None = None,
        reserved_memory_mib: int | None = None,
        reserved_disk_gib: int | None = None,
        request_id: str | None = None,
    ) -> pb.Host:
        """Sets what is named. A ratio of 0: that of its aggregates, else the cloud's."""
        told = {
            "vcpu_allocation_ratio": cpu_allocation_ratio,
            "memory_allocation_ratio": ram_allocation_ratio,
            "disk_allocation_ratio": disk_allocation_ratio,
            "reserved_vcpus": reserved_vcpus,
            "reserved_memory_mib": reserved_memory_mib,
            "reserved_disk_gib": reserved_disk_gib,
        }
        wanted: dict[str, Any] = {field: value for field, value in told.items() if value is not None}
        changed: pb.Host = await self._call(
            "UpdateHost",
            host=pb.Host(name=name_of(name), inventory=pb.Inventory(**wanted)),
            update_mask=FieldMask(paths=[f"inventory.{field}" for field in wanted]),
            request_id=request_id_or_new(request_id),
        )
        return changed

    async def approve_evacuation(self, name: pb.Host | str, reason: str, *, request_id: str | None = None) -> pb.Host:
        """A host whose evacuation is held is dead, as somebody has made sure. *reason*: how."""
        changed: pb.Host = await self._call(
            "ApproveEvacuation", name=name_of(name), reason=reason, request_id=request_id_or_new(request_id)
        )
        return changed


class Services:
    """Every agent and replica that was ever heard and has not left in order."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = HostServiceStub(transport.channel)

    async def list(self) -> builtins.list[pb.ServiceStatus]:
        """With the present state of each."""
        answer: pb.ListServicesResponse = await self._transport.unary(self._stub.ListServices, pb.ListServicesRequest())
        return [*answer.services]


class EnrolmentTokens:
    """Each lets one host join, once."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = HostServiceStub(transport.channel)

    async def create(
        self, host: str, *, availability_zone: str = "", ttl_seconds: int = 0, request_id: str | None = None
    ) -> pb.EnrolmentToken:
        """*host*: the name that it shall have. Good for an hour unless *ttl_seconds* says otherwise."""
        request = pb.CreateEnrolmentTokenRequest(
            host=host,
            availability_zone=availability_zone,
            ttl_seconds=ttl_seconds,
            request_id=request_id_or_new(request_id),
        )
        token: pb.EnrolmentToken = await self._transport.unary(self._stub.CreateEnrolmentToken, request)
        return token
