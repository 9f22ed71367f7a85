"""Addresses that guests make themselves, of their MAC addresses (RFC 4862, section 5.5.3; EUI-64: RFC 4291)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

from cirra.network.v1 import network_pb2 as public
from conductor.network.addresses import Address
from conductor.network.network import Network
from conductor.network.port import Port
from conductor.network.port_terms import PortTerms
from conductor.network.subnet import Subnet
from core import eui64


def slaac_address(subnet: Subnet, mac_address: str) -> Address:
    """The one that a guest with this MAC address makes in a subnet with SLAAC."""
    assert isinstance(subnet.cidr, IPv6Network)
    return eui64.address_of_mac(subnet.cidr, mac_address)


def with_self_made(port: Port, network: Network) -> PortTerms:
    """The port's terms with an address of each of its network's subnets with SLAAC."""
    had = {fixed.subnet for fixed in port.fixed_ips}
    lacking = [
        public.FixedIp(subnet=subnet.id, ip_address=str(slaac_address(subnet, port.mac_address)))
        for subnet in network.subnets.values()
        if subnet.slaac and subnet.id not in had
    ]
    return replace(port.terms, fixed_ips=(*port.terms.fixed_ips, *lacking))
