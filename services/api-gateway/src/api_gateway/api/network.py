"""NetworkService: networks, subnets, ports."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from api_gateway.api.call import Call, Servicer
from api_gateway.api.fields import Fields
from api_gateway.api.forward import forwarded, named, nothing, the, updated
from api_gateway.api.read import getter, lister
from api_gateway.api.security_group import prepare_groups
from api_gateway.views.instance import INSTANCE
from api_gateway.views.network import NETWORK, PORT, SUBNET
from cirra.network.v1 import network_pb2 as pb
from cirra.network.v1 import network_pb2_grpc

# RFC 791 lets a host refuse larger datagrams than 576 octets; beyond 9216 no common switch carries frames.
MIN_MTU, MAX_MTU = 576, 9216
# VNIs have 24 bits (RFC 7348, section 5).
MAX_SEGMENTATION_ID = 2**24 - 1
MAX_FIXED_IPS = 8


async def _prepare_network(command: pb.CreateNetworkRequest, call: Call) -> None:
    network, fields = command.network, Fields("network.")
    fields.title("display_name", network.display_name)
    if network.type not in pb.NetworkType.values():
        fields.refuse("type", f"{network.type} is unknown: give one of {', '.join(pb.NetworkType.keys()[1:])}")
    if network.segmentation_id:
        fields.between("segmentation_id", network.segmentation_id, 1, MAX_SEGMENTATION_ID)
    if network.mtu:
        fields.between("mtu", network.mtu, MIN_MTU, MAX_MTU, "octets")
    fields.title("physical_network", network.physical_network, required=False)
    fields.check()


async def _prepare_subnet(command: pb.CreateSubnetRequest, call: Call) -> None:
    subnet, fields = command.subnet, Fields("subnet.")
    fields.title("display_name", subnet.display_name, required=False)
    network = await fields.reference(call.reader, NETWORK, "network", subnet.network)
    subnet.network = network.uid if network else ""
    cidr = fields.cidr("cidr", subnet.cidr)
    if subnet.gateway_ip and subnet.no_gateway:
        fields.refuse("gateway_ip", "no_gateway is set: leave one of them out")
    fields.address("gateway_ip", subnet.gateway_ip, cidr)
    fields.address("dhcp_ip", subnet.dhcp_ip, cidr)
    for index, nameserver in enumerate(subnet.dns_nameservers):
        fields.address(f"dns_nameservers[{index}]", nameserver)
    for index, route in enumerate(subnet.host_routes):
        fields.cidr(f"host_routes[{index}].destination", route.destination)
        fields.address(f"host_routes[{index}].next_hop", route.next_hop, cidr)
    for index, pool in enumerate(subnet.allocation_pools):
        field = f"allocation_pools[{index}]"
        if not pool.start or not pool.end:
            fields.refuse(field, "give its start and its end")
        fields.address(f"{field}.start", pool.start, cidr)
        fields.address(f"{field}.end", pool.end, cidr)
        if _is_backwards(pool):
            fields.refuse(field, f"{pool.start} is after {pool.end}: exchange them")
    fields.check()


def _is_backwards(pool: pb.AllocationPool) -> bool:
    try:
        return int(ip_address(pool.start)) > int(ip_address(pool.end))
    except ValueError:
        return False


async def _prepare_port(command: pb.CreatePortRequest, call: Call) -> None:
    port, fields = command.port, Fields("port.")
    fields.title("display_name", port.display_name, required=False)
    fields.mac_address("mac_address", port.mac_address)
    network = await fields.reference(call.reader, NETWORK, "network", port.network)
    port.network = network.uid if network else ""
    await _prepare_fixed_ips(port, fields, call)
    port.security_groups[:] = await prepare_groups(fields, list(port.security_groups), call)
    fields.check()


async def _prepare_fixed_ips(port: pb.Port, fields: Fields, call: Call) -> None:
    if len(port.fixed_ips) > MAX_FIXED_IPS:
        fields.refuse("fixed_ips", f"give at most {MAX_FIXED_IPS}")
    for index, fixed in enumerate(port.fixed_ips[:MAX_FIXED_IPS]):
        field = f"fixed_ips[{index}]"
        fields.address(f"{field}.ip_address", fixed.ip_address)
        if not fixed.subnet and not fixed.ip_address:
            fields.refuse(field, "give a subnet, an address or both")
        if fixed.subnet:
            subnet = await fields.reference(call.reader, SUBNET, f"{field}.subnet", fixed.subnet)
            fixed.subnet = subnet.uid if subnet else ""


_updated_port = updated(PORT, "port")


async def _prepare_port_update(command: pb.UpdatePortRequest, call: Call) -> None:
    await _updated_port(command, call)
    port, fields = command.port, Fields("port.")
    fields.title("display_name", port.display_name, required=False)
    await _prepare_fixed_ips(port, fields, call)
    port.security_groups[:] = await prepare_groups(fields, list(port.security_groups), call)
    fields.check()


async def _subnet_filters(request: pb.ListSubnetsRequest, call: Call) -> Mapping[str, str]:
    return await _of_network(request.network, call)


async def _port_filters(request: pb.ListPortsRequest, call: Call) -> Mapping[str, str]:
    filters = dict(await _of_network(request.network, call))
    if request.device_id:
        filters["about"] = (await call.reader.find(INSTANCE, request.device_id, field="device_id")).uid
    return filters


async def _of_network(network: str, call: Call) -> Mapping[str, str]:
    if not network:
        return {}
    return {"parent": (await call.reader.find(NETWORK, network, field="network")).uid}


class NetworkService(Servicer, network_pb2_grpc.NetworkServiceServicer):
    CreateNetwork = forwarded(lambda conductor: conductor.network.CreateNetwork, _prepare_network, the(NETWORK))
    GetNetwork = getter(NETWORK)
    ListNetworks = lister(NETWORK, pb.ListNetworksResponse)
    UpdateNetwork = forwarded(
        lambda conductor: conductor.network.UpdateNetwork, updated(NETWORK, "network"), the(NETWORK)
    )
    DeleteNetwork = forwarded(
        lambda conductor: conductor.network.DeleteNetwork, named(NETWORK), nothing(pb.DeleteNetworkResponse)
    )

    CreateSubnet = forwarded(lambda conductor: conductor.network.CreateSubnet, _prepare_subnet, the(SUBNET))
    GetSubnet = getter(SUBNET)
    ListSubnets = lister(SUBNET, pb.ListSubnetsResponse, _subnet_filters)
    UpdateSubnet = forwarded(lambda conductor: conductor.network.UpdateSubnet, updated(SUBNET, "subnet"), the(SUBNET))
    DeleteSubnet = forwarded(
        lambda conductor: conductor.network.DeleteSubnet, named(SUBNET), nothing(pb.DeleteSubnetResponse)
    )

    CreatePort = forwarded(lambda conductor: conductor.network.CreatePort, _prepare_port, the(PORT))
    GetPort = getter(PORT)
    ListPorts = lister(PORT, pb.ListPortsResponse, _port_filters)
    UpdatePort = forwarded(lambda conductor: conductor.network.UpdatePort, _prepare_port_update, the(PORT))
    DeletePort = forwarded(lambda conductor: conductor.network.DeletePort, named(PORT), nothing(pb.DeletePortResponse))
