"""Flavors, key pairs and instances."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from types import ModuleType
from typing import Any, ClassVar

from google.protobuf.field_mask_pb2 import FieldMask

from cirra.compute.v1 import compute_pb2 as pb
from cirra.compute.v1.compute_pb2_grpc import ComputeServiceStub
from cirra.compute.v1.server_group_pb2 import ServerGroup
from cirra.image.v1.image_pb2 import Image
from cirra.network.v1.network_pb2 import Network, Port
from cirra.network.v1.security_group_pb2 import SecurityGroup
from cirra.operations.v1.operations_pb2 import Operation
from cirra_sdk.errors import NotFound
from cirra_sdk.resources.collection import Collection, Readable, name_of, request_id_or_new


class Flavors(Collection[pb.Flavor]):
    """Sizes of instances; an administrator makes them."""

    messages: ClassVar[ModuleType] = pb
    stub_class = ComputeServiceStub
    kind = "Flavor"

    async def create(
        self,
        display_name: str,
        *,
        vcpus: int,
        memory_mib: int,
        disk_gib: int,
        extra_specs: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> pb.Flavor:
        """A new size. Raises AlreadyExists."""
        flavor = pb.Flavor(
            display_name=display_name,
            vcpus=vcpus,
            memory_mib=memory_mib,
            disk_gib=disk_gib,
            extra_specs=dict(extra_specs or {}),
        )
        made: pb.Flavor = await self._call("CreateFlavor", flavor=flavor, request_id=request_id_or_new(request_id))
        return made


class KeyPairs(Collection[pb.KeyPair]):
    """Public ssh keys that guests are given."""

    messages: ClassVar[ModuleType] = pb
    stub_class = ComputeServiceStub
    kind = "KeyPair"

    async def create(self, display_name: str, public_key: str, *, request_id: str | None = None) -> pb.KeyPair:
        """*public_key* as in an OpenSSH `.pub` file. Raises AlreadyExists."""
        key_pair = pb.KeyPair(display_name=display_name, public_key=public_key.strip())
        made: pb.KeyPair = await self._call(
            "CreateKeyPair", key_pair=key_pair, request_id=request_id_or_new(request_id)
        )
        return made


class Instances(Readable[pb.Instance]):
    """Virtual machines."""

    messages: ClassVar[ModuleType] = pb
    stub_class = ComputeServiceStub
    kind = "Instance"

    async def create(
        self,
        display_name: str,
        *,
        flavor: pb.Flavor | str,
        image: Image | str,
        networks: Iterable[Network | str] = (),
        nics: Iterable[pb.InstanceNic] = (),
        key_pair: pb.KeyPair | str = "",
        user_data: bytes | str = b"",
        metadata: Mapping[str, str] | None = None,
        tags: Iterable[str] = (),
        availability_zone: str = "",
        security_groups: Iterable[SecurityGroup | str] = (),
        server_group: ServerGroup | str = "",
        hints: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Operation:
        """Begins to build one; the operation's `target` is its name. One NIC for each of *nics*, then *networks*.

        *user_data*: what cloud-init shall run. *availability_zone*: also "zone:host", for an administrator. *hints*: to
        the scheduler, as nova calls them; *server_group* is one of them. Raises NotFound, InvalidArgument,
        ResourceExhausted for a quota; that no host has room is told by the operation.
        """
        wanted = _wanted(
            display_name,
            flavor=flavor,
            image=image,
            networks=networks,
            nics=nics,
            key_pair=key_pair,
            user_data=user_data,
            metadata=metadata,
            tags=tags,
            availability_zone=availability_zone,
            security_groups=security_groups,
            server_group=server_group,
            hints=hints,
        )
        operation: Operation = await self._call("CreateInstance", **wanted, request_id=request_id_or_new(request_id))
        return operation

    async def create_many(
        self,
        display_name: str,
        *,
        max_count: int,
        min_count: int = 1,
        request_id: str | None = None,
        **wanted: Any,
    ) -> list[Operation]:
        """Begins to build *max_count* alike, or as many as quotas and addresses allow: *display_name*-1, -2, …; one
        operation for each. *wanted*: as for `create`, without ports and addresses. Raises ResourceExhausted where that
        is fewer than *min_count*: then there is none."""
        made: pb.CreateInstancesResponse = await self._call(
            "CreateInstances",
            **_wanted(display_name, **wanted),
            min_count=min_count,
            max_count=max_count,
            request_id=request_id_or_new(request_id),
        )
        return list(made.operations)

    async def get(self, name: pb.Instance | str, *, as_of: datetime | None = None) -> pb.Instance:
        """What is true now or, told by the log, what was true at *as_of*. Raises NotFound."""
        request = pb.GetInstanceRequest(name=name_of(name))
        if as_of is not None:
            request.as_of.FromDatetime(as_of)
        found: pb.Instance = await self._transport.unary(self._stub.GetInstance, request)
        return found

    async def delete(self, name: pb.Instance | str, *, request_id: str | None = None) -> Operation:
        """Begins to delete it, whatever its status. Raises NotFound, also when it is deleted already."""
        operation: Operation = await self._call(
            "DeleteInstance", name=name_of(name), request_id=request_id_or_new(request_id)
        )
        return operation

    async def update(
        self,
        name: pb.Instance | str,
        *,
        display_name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        without: Iterable[str] = (),
        tags: Iterable[str] | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> pb.Instance:
        """Sets what is given. *metadata*: keys to set, others stay; *without*: keys to remove; *tags*: all that it
        shall have. *etag*: of the instance as it was read; raises Conflict if it has changed since."""
        paths = [] if display_name is None else ["display_name"]
        paths += [f"metadata.{key}" for key in (*(metadata or {}), *without)]
        paths += [] if tags is None else ["tags"]
        instance = pb.Instance(
            name=name_of(name), display_name=display_name or "", metadata=dict(metadata or {}), tags=tags or ()
        )
        changed: pb.Instance = await self._call(
            "UpdateInstance",
            instance=instance,
            update_mask=FieldMask(paths=paths),
            etag=etag,
            request_id=request_id_or_new(request_id),
        )
        return changed

    async def lock(self, name: pb.Instance | str, reason: str = "", *, request_id: str | None = None) -> pb.Instance:
        """Until it is unlocked, only administrators act on it."""
        locked: pb.Instance = await self._call(
            "LockInstance", name=name_of(name), reason=reason, request_id=request_id_or_new(request_id)
        )
        return locked

    async def unlock(self, name: pb.Instance | str, *, request_id: str | None = None) -> pb.Instance:
        """Raises PermissionDenied for what an administrator has locked."""
        unlocked: pb.Instance = await self._call(
            "UnlockInstance", name=name_of(name), request_id=request_id_or_new(request_id)
        )
        return unlocked

    async def start(self, name: pb.Instance | str, *, request_id: str | None = None) -> Operation:
        """Begins to start one that is SHUTOFF. Raises FailedPrecondition in other states."""
        return await self._begin("StartInstance", name, request_id)

    async def stop(self, name: pb.Instance | str, *, request_id: str | None = None) -> Operation:
        """Begins to shut an ACTIVE one down: by ACPI, or by force after a while. Raises FailedPrecondition."""
        return await self._begin("StopInstance", name, request_id)

    async def reboot(self, name: pb.Instance | str, *, hard: bool = False, request_id: str | None = None) -> Operation:
        """Begins to boot it anew. *hard*: without asking the guest, and defined anew. Raises FailedPrecondition."""
        kind = pb.REBOOT_TYPE_HARD if hard else pb.REBOOT_TYPE_SOFT
        return await self._begin("RebootInstance", name, request_id, type=kind)

    async def attach_interface(
        self,
        name: pb.Instance | str,
        *,
        network: Network | str = "",
        port: Port | str = "",
        fixed_ip: str = "",
        request_id: str | None = None,
    ) -> Operation:
        """Begins to give it one NIC more: with *port*, or a new one on *network*. Raises FailedPrecondition."""
        nic = pb.InstanceNic(network=name_of(network), port=name_of(port), fixed_ip=fixed_ip)
        return await self._begin("AttachInterface", name, request_id, nic=nic)

    async def detach_interface(
        self, name: pb.Instance | str, port: Port | str, *, request_id: str | None = None
    ) -> Operation:
        """Begins to take a NIC from it; a port that was made for it goes with that. Raises FailedPrecondition."""
        return await self._begin("DetachInterface", name, request_id, port=name_of(port))

    async def _begin(self, rpc: str, name: pb.Instance | str, request_id: str | None, **fields: Any) -> Operation:
        operation: Operation = await self._call(
            rpc, name=name_of(name), request_id=request_id_or_new(request_id), **fields
        )
        return operation

    async def console_output(self, name: pb.Instance | str, *, lines: int = 0) -> pb.ConsoleOutput:
        """The end of what its guest wrote to the serial console: the last *lines*, or all that there is. Raises
        FailedPrecondition while it is on no host, Unavailable while that does not answer."""
        answer: pb.ConsoleOutput = await self._call("GetConsoleOutput", name=name_of(name), lines=lines)
        return answer

    async def password(self, name: pb.Instance | str) -> pb.InstancePassword:
        """What the guest posted as its administrator's password, by custom encrypted. Raises NotFound if it didn't."""
        answer: pb.InstancePassword = await self._call("GetInstancePassword", name=name_of(name))
        return answer

    async def watch(self, name: pb.Instance | str = "") -> AsyncGenerator[pb.WatchInstancesResponse, None]:
        """The present state of one instance, or of all of the project, then each change; goes on through restarts.

        Ends when the one instance is gone (`deleted` of the last answer). Raises NotFound.
        """
        request = pb.WatchInstancesRequest(name=name_of(name))
        seen: dict[str, pb.Instance] = {}
        last: pb.WatchInstancesResponse | None = None
        try:
            async for last in self._transport.resumed(
                lambda: self._transport.stream(self._stub.WatchInstances, request)
            ):
                self._transport.memory.saw(last.position)
                # After an interruption the present state comes again.
                if last.deleted or seen.get(last.instance.uid) != last.instance:
                    seen[last.instance.uid] = last.instance
                    yield last
                if last.deleted and request.name:
                    return
        except NotFound:
            if last is None:
                raise
            yield pb.WatchInstancesResponse(instance=last.instance, position=last.position, deleted=True)


def _wanted(
    display_name: str,
    *,
    flavor: pb.Flavor | str,
    image: Image | str,
    networks: Iterable[Network | str] = (),
    nics: Iterable[pb.InstanceNic] = (),
    key_pair: pb.KeyPair | str = "",
    user_data: bytes | str = b"",
    metadata: Mapping[str, str] | None = None,
    tags: Iterable[str] = (),
    availability_zone: str = "",
    security_groups: Iterable[SecurityGroup | str] = (),
    server_group: ServerGroup | str = "",
    hints: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What a request to create says."""
    instance = pb.Instance(
        display_name=display_name,
        flavor=name_of(flavor),
        image=name_of(image),
        key_pair=name_of(key_pair),
        nics=[*nics, *(pb.InstanceNic(network=name_of(network)) for network in networks)],
        user_data=user_data.encode() if isinstance(user_data, str) else user_data,
        metadata=dict(metadata or {}),
        tags=tags,
        availability_zone=availability_zone,
        security_groups=[name_of(group) for group in security_groups],
    )
    scheduler_hints = dict(hints or {})
    if server_group:
        scheduler_hints["group"] = name_of(server_group)
    return {"instance": instance, "scheduler_hints": scheduler_hints}
