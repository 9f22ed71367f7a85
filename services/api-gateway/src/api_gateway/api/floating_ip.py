"""FloatingIpService: addresses of external networks that lead to ports."""

from __future__ import annotations

from collections.abc import Mapping

from api_gateway.api.call import Call, Servicer
from api_gateway.api.fields import Fields
from api_gateway.api.forward import forwarded, named, nothing, the
from api_gateway.api.read import getter, lister
from api_gateway.views.floating_ip import FLOATING_IP
from api_gateway.views.network import NETWORK, PORT, SUBNET
from cirra.network.v1 import floating_ip_pb2 as pb
from cirra.network.v1 import floating_ip_pb2_grpc
from core.errors import FieldViolation, InvalidArgument


async def _prepare_new(command: pb.CreateFloatingIpRequest, call: Call) -> None:
    wanted, fields = command.floating_ip, Fields("floating_ip.")
    network = await fields.reference(call.reader, NETWORK, "network", wanted.network)
    wanted.network = network.uid if network else ""
    if wanted.subnet:
        subnet = await fields.reference(call.reader, SUBNET, "subnet", wanted.subnet)
        wanted.subnet = subnet.uid if subnet else ""
    if wanted.port:
        port = await fields.reference(call.reader, PORT, "port", wanted.port)
        wanted.port = port.uid if port else ""
    elif wanted.fixed_ip_address:
        fields.refuse("fixed_ip_address", "it is an address of a port: give the port too, or leave it out")
    fields.address("floating_ip_address", wanted.floating_ip_address)
    fields.address("fixed_ip_address", wanted.fixed_ip_address)
    fields.check()


async def _prepare_association(command: pb.AssociateFloatingIpRequest, call: Call) -> None:
    await named(FLOATING_IP)(command, call)
    fields = Fields()
    port = await fields.reference(call.reader, PORT, "port", command.port)
    command.port = port.uid if port else ""
    fields.address("fixed_ip_address", command.fixed_ip_address)
    fields.check()


async def _filters(request: pb.ListFloatingIpsRequest, call: Call) -> Mapping[str, str]:
    filters: dict[str, str] = {}
    if request.network:
        filters["parent"] = (await call.reader.find(NETWORK, request.network, field="network")).uid
    if request.port:
        filters["about"] = (await call.reader.find(PORT, request.port, field="port")).uid
    if request.status:
        if request.status not in pb.FloatingIpStatus.values():
            raise InvalidArgument(FieldViolation("status", f"{request.status} is no status of a floating IP"))
        filters["state"] = pb.FloatingIpStatus.Name(request.status)
    return filters


class FloatingIpService(Servicer, floating_ip_pb2_grpc.FloatingIpServiceServicer):
    CreateFloatingIp = forwarded(
        lambda conductor: conductor.floating_ips.CreateFloatingIp, _prepare_new, the(FLOATING_IP)
    )
    GetFloatingIp = getter(FLOATING_IP)
    ListFloatingIps = lister(FLOATING_IP, pb.ListFloatingIpsResponse, _filters)
    DeleteFloatingIp = forwarded(
        lambda conductor: conductor.floating_ips.DeleteFloatingIp,
        named(FLOATING_IP),
        nothing(pb.DeleteFloatingIpResponse),
    )
    AssociateFloatingIp = forwarded(
        lambda conductor: conductor.floating_ips.AssociateFloatingIp, _prepare_association, the(FLOATING_IP)
    )
    DisassociateFloatingIp = forwarded(
        lambda conductor: conductor.floating_ips.DisassociateFloatingIp, named(FLOATING_IP), the(FLOATING_IP)
    )
