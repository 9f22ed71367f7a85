"""ComputeService: flavors, key pairs, instances."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC
from typing import Any

from api_gateway.api.call import Call, Servicer, served
from api_gateway.api.fields import Fields
from api_gateway.api.forward import forwarded, named, nothing, the, the_operation, the_operations, updated
from api_gateway.api.past import instance_as_of
from api_gateway.api.present import presented
from api_gateway.api.read import getter, lister
from api_gateway.api.security_group import prepare_groups
from api_gateway.api.watch import watch_instances
from api_gateway.api.zones import check_zone
from api_gateway.views.catalog import FLAVOR, KEY_PAIR
from api_gateway.views.image import IMAGE
from api_gateway.views.instance import INSTANCE
from api_gateway.views.network import NETWORK, PORT
from api_gateway.views.security_group import SECURITY_GROUP
from api_gateway.views.server_group import SERVER_GROUP
from api_gateway.views.view import View
from cirra.compute.v1 import compute_pb2 as pb
from cirra.compute.v1 import compute_pb2_grpc
from core.errors import FieldViolation, InvalidArgument, PermissionDenied

MAX_VCPUS = 512
MAX_MEMORY_MIB = 16 * 1024 * 1024
MAX_DISK_GIB = 64 * 1024
MAX_NICS = 16
MAX_USER_DATA_BYTES = 64 * 1024
MAX_PUBLIC_KEY_CHARS = 16 * 1024


async def _prepare_flavor(command: pb.CreateFlavorRequest, call: Call) -> None:
    flavor, fields = command.flavor, Fields("flavor.")
    fields.name("display_name", flavor.display_name)
    fields.between("vcpus", flavor.vcpus, 1, MAX_VCPUS)
    fields.between("memory_mib", flavor.memory_mib, 1, MAX_MEMORY_MIB, "MiB")
    fields.between("disk_gib", flavor.disk_gib, 1, MAX_DISK_GIB, "GiB")
    fields.texts("extra_specs", flavor.extra_specs)
    fields.check()


async def _prepare_key_pair(command: pb.CreateKeyPairRequest, call: Call) -> None:
    key_pair, fields = command.key_pair, Fields("key_pair.")
    fields.name("display_name", key_pair.display_name)
    key = key_pair.public_key.strip()
    if len(key.split()) < 2 or "\n" in key or len(key) > MAX_PUBLIC_KEY_CHARS:
        fields.refuse("public_key", "give one line in OpenSSH's format, such as the content of id_ed25519.pub")
    fields.check()


async def _prepare_instance(command: pb.CreateInstanceRequest | pb.CreateInstancesRequest, call: Call) -> None:
    instance, fields = command.instance, Fields("instance.")
    fields.title("display_name", instance.display_name)
    fields.texts("metadata", instance.metadata)
    fields.tags("tags", instance.tags)
    if len(instance.user_data) > MAX_USER_DATA_BYTES:
        fields.refuse("user_data", f"{len(instance.user_data)} bytes: give at most {MAX_USER_DATA_BYTES}")
    await call.reader.read_ahead(_names(command))
    await _prepare_placing(command, fields, call)
    for field, view in (("flavor", FLAVOR), ("image", IMAGE)):
        row: Any = await fields.reference(call.reader, view, field, getattr(instance, field))
        setattr(instance, field, row.uid if row else "")
    if instance.key_pair:
        key_pair = await fields.reference(call.reader, KEY_PAIR, "key_pair", instance.key_pair)
        instance.key_pair = key_pair.uid if key_pair else ""
    if not 1 <= len(instance.nics) <= MAX_NICS:
        fields.refuse("nics", f"{len(instance.nics)} given: give 1 to {MAX_NICS}, each with a network or a port")
    for index, nic in enumerate(instance.nics[:MAX_NICS]):
        await _prepare_nic(fields, f"nics[{index}]", nic, call)
    instance.security_groups[:] = await prepare_groups(fields, list(instance.security_groups), call)
    fields.check()


def _names(command: pb.CreateInstanceRequest | pb.CreateInstancesRequest) -> Iterator[tuple[View[Any], str]]:
    """What an instance is to be made of."""
    instance = command.instance
    yield FLAVOR, instance.flavor
    yield IMAGE, instance.image
    yield KEY_PAIR, instance.key_pair
    yield SERVER_GROUP, command.scheduler_hints.get("group", "")
    for nic in instance.nics[:MAX_NICS]:
        yield NETWORK, nic.network
        yield PORT, nic.port
    for group in instance.security_groups:
        yield SECURITY_GROUP, group


async def _prepare_placing(
    command: pb.CreateInstanceRequest | pb.CreateInstancesRequest, fields: Fields, call: Call
) -> None:
    """Zone and hints; the server group's name becomes its uid."""
    if command.instance.availability_zone:
        await check_zone(fields, call, command.instance.availability_zone)
    hints = Fields()
    for hint, value in sorted(command.scheduler_hints.items()):
        if hint != "group":
            hints.refuse(f"scheduler_hints[{hint}]", "it is unknown: give group")
            continue
        group = await hints.reference(call.reader, SERVER_GROUP, "scheduler_hints[group]", value)
        command.scheduler_hints[hint] = group.uid if group else ""
    hints.check()


async def _prepare_nic(fields: Fields, field: str, nic: pb.InstanceNic, call: Call) -> None:
    fields.address(f"{field}.fixed_ip", nic.fixed_ip)
    if bool(nic.network) == bool(nic.port):
        fields.refuse(field, "give a network or a port, one of them")
    elif nic.port:
        port = await fields.reference(call.reader, PORT, f"{field}.port", nic.port)
        nic.port = port.uid if port else ""
        if nic.fixed_ip:
            fields.refuse(f"{field}.fixed_ip", "the port has its addresses already: leave it out")
    else:
        network = await fields.reference(call.reader, NETWORK, f"{field}.network", nic.network)
        nic.network = network.uid if network else ""


async def _prepare_attach(command: pb.AttachInterfaceRequest, call: Call) -> None:
    await named(INSTANCE)(command, call)
    fields = Fields()
    await _prepare_nic(fields, "nic", command.nic, call)
    fields.check()


async def _prepare_detach(command: pb.DetachInterfaceRequest, call: Call) -> None:
    await named(INSTANCE)(command, call)
    if call.missing is None:
        await named(PORT, "port")(command, call)


async def _instance_filters(request: pb.ListInstancesRequest, call: Call) -> Mapping[str, str]:
    admin = call.reader.is_admin
    for field in ("all_projects", "host"):
        if getattr(request, field) and not admin:
            raise PermissionDenied(f"{field}: only an administrator may ask for it", remedy="leave it out")
    filters = {"display_name": request.display_name, "host": request.host}
    if not request.all_projects:
        filters["project_id"] = call.reader.principal.project_id
    if request.status:
        if request.status not in pb.InstanceStatus.values():
            raise InvalidArgument(FieldViolation("status", f"{request.status} is no status of an instance"))
        filters["state"] = pb.InstanceStatus.Name(request.status)
    return {column: value for column, value in filters.items() if value}


class ComputeService(Servicer, compute_pb2_grpc.ComputeServiceServicer):
    CreateFlavor = forwarded(lambda conductor: conductor.compute.CreateFlavor, _prepare_flavor, the(FLAVOR))
    GetFlavor = getter(FLAVOR)
    ListFlavors = lister(FLAVOR, pb.ListFlavorsResponse)
    DeleteFlavor = forwarded(
        lambda conductor: conductor.compute.DeleteFlavor, named(FLAVOR), nothing(pb.DeleteFlavorResponse)
    )

    CreateKeyPair = forwarded(lambda conductor: conductor.compute.CreateKeyPair, _prepare_key_pair, the(KEY_PAIR))
    GetKeyPair = getter(KEY_PAIR)
    ListKeyPairs = lister(KEY_PAIR, pb.ListKeyPairsResponse)
    DeleteKeyPair = forwarded(
        lambda conductor: conductor.compute.DeleteKeyPair, named(KEY_PAIR), nothing(pb.DeleteKeyPairResponse)
    )

    CreateInstance = forwarded(lambda conductor: conductor.compute.CreateInstance, _prepare_instance, the_operation)
    CreateInstances = forwarded(
        lambda conductor: conductor.compute.CreateInstances,
        _prepare_instance,
        the_operations(pb.CreateInstancesResponse),
    )
    ListInstances = lister(INSTANCE, pb.ListInstancesResponse, _instance_filters)
    UpdateInstance = forwarded(
        lambda conductor: conductor.compute.UpdateInstance, updated(INSTANCE, "instance"), the(INSTANCE)
    )
    LockInstance = forwarded(lambda conductor: conductor.compute.LockInstance, named(INSTANCE), the(INSTANCE))
    UnlockInstance = forwarded(lambda conductor: conductor.compute.UnlockInstance, named(INSTANCE), the(INSTANCE))
    StartInstance = forwarded(lambda conductor: conductor.compute.StartInstance, named(INSTANCE), the_operation)
    StopInstance = forwarded(lambda conductor: conductor.compute.StopInstance, named(INSTANCE), the_operation)
    RebootInstance = forwarded(lambda conductor: conductor.compute.RebootInstance, named(INSTANCE), the_operation)
    AttachInterface = forwarded(lambda conductor: conductor.compute.AttachInterface, _prepare_attach, the_operation)
    DetachInterface = forwarded(lambda conductor: conductor.compute.DetachInterface, _prepare_detach, the_operation)
    DeleteInstance = forwarded(lambda conductor: conductor.compute.DeleteInstance, named(INSTANCE), the_operation)

    @served
    async def GetInstance(self, request: pb.GetInstanceRequest, call: Call) -> pb.Instance:
        """With `as_of`: as it was then, also when it is deleted now."""
        past = request.HasField("as_of")
        row = await call.reader.find(INSTANCE, request.name, deleted_too=past)
        if past:
            return await instance_as_of(call, row, request.as_of.ToDatetime(UTC))
        [instance] = await presented(call.reader, INSTANCE, [row])
        return instance

    @served
    async def GetConsoleOutput(self, request: pb.GetConsoleOutputRequest, call: Call) -> pb.ConsoleOutput:
        """Asked of the conductor, which asks the host."""
        row = await call.reader.find(INSTANCE, request.name)
        conductor = self.parts.conductor
        answer: pb.ConsoleOutput = await conductor.ask(
            conductor.compute.GetConsoleOutput,
            pb.GetConsoleOutputRequest(name=row.resource.name, lines=request.lines),
        )
        return answer

    @served
    async def GetInstancePassword(self, request: pb.GetInstancePasswordRequest, call: Call) -> pb.InstancePassword:
        """Asked of the conductor: secrets are in no read model."""
        row = await call.reader.find(INSTANCE, request.name)
        conductor = self.parts.conductor
        answer: pb.InstancePassword = await conductor.ask(
            conductor.compute.GetInstancePassword, pb.GetInstancePasswordRequest(name=row.resource.name)
        )
        return answer

    async def WatchInstances(
        self, request: pb.WatchInstancesRequest, context: Any
    ) -> AsyncIterator[pb.WatchInstancesResponse]:
        call = await self.enter(context)
        async for response in watch_instances(call, request.name):
            yield response
