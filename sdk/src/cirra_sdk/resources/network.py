"""Networks, subnets and ports."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar

from cirra.network.v1 import network_pb2 as pb
from cirra.network.v1.network_pb2_grpc import NetworkServiceStub
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
        physical_network: str = "",
        mtu: int = 0,
        shared: bool = False,
        external: bool = False,
        request_id: str | None = None,
    ) -> pb.Network:
        """A flat network: a bridge on each host that needs it, with *physical_network*'s uplink if one is named.

        *external*: where routers have their way out, and floating IPs are taken from (administrators).
        """
        network = pb.Network(
            display_name=display_name,
            type=pb.NETWORK_TYPE_FLAT,
            mtu=mtu,
            physical_network=physical_network,
            shared=shared,
            external=external,
        )
        made: pb.Network = await self._call("CreateNetwork", network=network, request_id=request_id_or_new(request_id))
        return made


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
        dhcp_ip: str = "",
        request_id: str | None = None,
    ) -> pb.Subnet:
        """*allocation_pools*: (first, last) address of each. Raises InvalidArgument for what does not fit together."""
        subnet = pb.Subnet(
            display_name=display_name,
            network=name_of(network),
            cidr=cidr,
            gateway_ip=gateway_ip,
            no_gateway=no_gateway,
            allocation_pools=[pb.AllocationPool(start=start, end=end) for start, end in allocation_pools],
            dns_nameservers=list(dns_nameservers),
            dhcp_ip=dhcp_ip,
        )
        made: pb.Subnet = await self._call("CreateSubnet", subnet=subnet, request_id=request_id_or_new(request_id))
        return made


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
        request_id: str | None = None,
    ) -> pb.Port:
        """With addresses and a MAC of the cloud's choice where none is given. Raises ResourceExhausted."""
        port = pb.Port(
            display_name=display_name, network=name_of(network), fixed_ips=fixed_ips, mac_address=mac_address
        )
        made: pb.Port = await self._call("CreatePort", port=port, request_id=request_id_or_new(request_id))
        return made
