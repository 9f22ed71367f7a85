"""Networks, subnets and ports."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar

from google.protobuf.field_mask_pb2 import FieldMask

from cirra.network.v1 import network_pb2 as pb
from cirra.network.v1.network_pb2_grpc import NetworkServiceStub
from cirra.network.v1.security_group_pb2 import SecurityGroup
from cirra_sdk.resources.collection import Collection, name_of, request_id_or_new


class Networks(Collection[pb.Network]):
    """Segments that instances are plugged into."""

    messages: ClassVar[ModuleType] = pb
    stub_class = NetworkServiceStub
    kind = "Network"

    async def create(
        self,
        display_name: str,
        *,
        type: pb.NetworkType.ValueType = pb.NETWORK_TYPE_UNSPECIFIED,
        physical_network: str = "",
        segmentation_id: int = 0,
        mtu: int = 0,
        shared: bool = False,
        external: bool = False,
        request_id: str | None = None,
    ) -> pb.Network:
        """A network, of the type that the cloud has for tenants unless told.

        Administrators may tell which *physical_network* a flat or VLAN network is on, the *segmentation_id* of the VLAN
        or VXLAN (a free one is chosen else), and that it is *shared* or *external*: where routers have their way out,
        and floating IPs are taken from.
        """
        network = pb.Network(
            display_name=display_name,
            type=type,
            mtu=mtu,
            physical_network=physical_network,
            segmentation_id=segmentation_id,
            shared=shared,
            external=external,
        )
        made: pb.Network = await self._call("CreateNetwork", network=network, request_id=request_id_or_new(request_id))
        return made

    async def update(
        self,
        name: pb.Network | str,
        *,
        display_name: str | None = None,
        mtu: int | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> pb.Network:
        """Sets what is given. *etag*: of the network as it was read; raises Conflict if it has changed since."""
        told = {"display_name": display_name, "mtu": mtu}
        changed: pb.Network = await self._call(
            "UpdateNetwork",
            network=pb.Network(name=name_of(name), display_name=display_name or "", mtu=mtu or 0),
            update_mask=FieldMask(paths=[field for field, value in told.items() if value is not None]),
            etag=etag,
            request_id=request_id_or_new(request_id),
        )
        return changed


class Subnets(Collection[pb.Subnet]):
    """Ranges of addresses of networks. `list` takes `network=`."""

    messages: ClassVar[ModuleType] = pb
    stub_class = NetworkServiceStub
    kind = "Subnet"

    async def create(
        self,
        display_name: str,
        *,
        network: pb.Network | str,
        cidr: str,
        gateway_ip: str = "",
        no_gateway: bool = False,
        allocation_pools: Iterable[tuple[str, str]] = (),
        dns_nameservers: Iterable[str] = (),
        host_routes: Iterable[tuple[str, str]] = (),
        dhcp_ip: str = "",
        no_dhcp: bool = False,
        request_id: str | None = None,
    ) -> pb.Subnet:
        """*cidr*: IPv4, or IPv6, where guests make their addresses themselves (SLAAC). *allocation_pools*: the first
        and the last of each; *host_routes*: (destination, next hop). Raises InvalidArgument."""
        subnet = pb.Subnet(
            display_name=display_name,
            network=name_of(network),
            cidr=cidr,
            gateway_ip=gateway_ip,
            no_gateway=no_gateway,
            allocation_pools=_pools(allocation_pools),
            dns_nameservers=list(dns_nameservers),
            host_routes=_routes(host_routes),
            dhcp_ip=dhcp_ip,
            no_dhcp=no_dhcp,
        )
        made: pb.Subnet = await self._call("CreateSubnet", subnet=subnet, request_id=request_id_or_new(request_id))
        return made

    async def update(
        self,
        name: pb.Subnet | str,
        *,
        display_name: str | None = None,
        allocation_pools: Iterable[tuple[str, str]] | None = None,
        dns_nameservers: Iterable[str] | None = None,
        host_routes: Iterable[tuple[str, str]] | None = None,
        no_dhcp: bool | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> pb.Subnet:
        """Sets what is given: lists are all that there shall be; no pool: all host addresses. *etag*: of the subnet as
        it was read; raises Conflict if it has changed since. Guests learn of it when they renew their leases."""
        told = {
            "display_name": display_name,
            "allocation_pools": allocation_pools,
            "dns_nameservers": dns_nameservers,
            "host_routes": host_routes,
            "no_dhcp": no_dhcp,
        }
        subnet = pb.Subnet(
            name=name_of(name),
            display_name=display_name or "",
            allocation_pools=_pools(allocation_pools or ()),
            dns_nameservers=list(dns_nameservers or ()),
            host_routes=_routes(host_routes or ()),
            no_dhcp=bool(no_dhcp),
        )
        changed: pb.Subnet = await self._call(
            "UpdateSubnet",
            subnet=subnet,
            update_mask=FieldMask(paths=[field for field, value in told.items() if value is not None]),
            etag=etag,
            request_id=request_id_or_new(request_id),
        )
        return changed


def _pools(pools: Iterable[tuple[str, str]]) -> list[pb.AllocationPool]:
    return [pb.AllocationPool(start=start, end=end) for start, end in pools]


def _routes(routes: Iterable[tuple[str, str]]) -> list[pb.HostRoute]:
    return [pb.HostRoute(destination=destination, next_hop=next_hop) for destination, next_hop in routes]


class Ports(Collection[pb.Port]):
    """Addresses on networks, each for one NIC. `list` takes `network=` and `device_id=`."""

    messages: ClassVar[ModuleType] = pb
    stub_class = NetworkServiceStub
    kind = "Port"

    async def create(
        self,
        *,
        network: pb.Network | str,
        display_name: str = "",
        fixed_ips: Iterable[pb.FixedIp] = (),
        mac_address: str = "",
        security_groups: Iterable[SecurityGroup | str] | None = None,
        allowed_address_pairs: Iterable[pb.AddressPair] = (),
        port_security_enabled: bool | None = None,
        qos: pb.BandwidthLimits | None = None,
        request_id: str | None = None,
    ) -> pb.Port:
        """With addresses and a MAC of the cloud's choice where none is given. *security_groups*: None: the project's
        default group; empty: none at all. Raises ResourceExhausted."""
        groups = None if security_groups is None else [name_of(group) for group in security_groups]
        port = pb.Port(
            display_name=display_name,
            network=name_of(network),
            fixed_ips=fixed_ips,
            mac_address=mac_address,
            security_groups=groups or (),
            no_security_groups=groups is not None and not groups,
            allowed_address_pairs=allowed_address_pairs,
            port_security_enabled=port_security_enabled,
            qos=qos,
        )
        made: pb.Port = await self._call("CreatePort", port=port, request_id=request_id_or_new(request_id))
        return made

    async def update(
        self,
        name: pb.Port | str,
        *,
        display_name: str | None = None,
        fixed_ips: Iterable[pb.FixedIp] | None = None,
        security_groups: Iterable[SecurityGroup | str] | None = None,
        allowed_address_pairs: Iterable[pb.AddressPair] | None = None,
        port_security_enabled: bool | None = None,
        qos: pb.BandwidthLimits | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> pb.Port:
        """Sets what is given, in effect within a second where it is bound; the guest learns of its addresses when it
        asks DHCP anew. Fixed IPs, groups and pairs: all that it shall have. *qos*: none of its limits set: unlimited.
        *etag*: of the port as it was read; raises Conflict if it has changed since."""
        given = {
            "display_name": display_name,
            "fixed_ips": fixed_ips,
            "qos": qos,
            "security_groups": security_groups,
            "allowed_address_pairs": allowed_address_pairs,
            "port_security_enabled": port_security_enabled,
        }
        port = pb.Port(
            name=name_of(name),
            display_name=display_name or "",
            fixed_ips=fixed_ips or (),
            qos=qos,
            security_groups=[name_of(group) for group in security_groups or ()],
            allowed_address_pairs=allowed_address_pairs or (),
            port_security_enabled=port_security_enabled,
        )
        changed: pb.Port = await self._call(
            "UpdatePort",
            port=port,
            update_mask=FieldMask(paths=[path for path, value in given.items() if value is not None]),
            etag=etag,
            request_id=request_id_or_new(request_id),
        )
        return changed
