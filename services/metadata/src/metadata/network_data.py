"""network_data.json: a guest's interfaces, networks and name servers, in the schema that Nova publishes. Pure.

As Nova has it, a NIC is told of by its first address.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any

from core.ids import tap_device
from metadata.guest import FixedIp, Guest, Nic, Subnet


def network_data(guest: Guest) -> dict[str, Any]:
    addressed = [nic for nic in guest.nics if nic.fixed_ips]
    servers = dict.fromkeys(server for nic in addressed for server in nic.fixed_ips[0].subnet.nameservers)
    return {
        "links": [_link(nic) for nic in addressed],
        "networks": [_network(number, nic, nic.fixed_ips[0]) for number, nic in enumerate(addressed)],
        "services": list(map(_dns, servers)),
    }


def _link(nic: Nic) -> dict[str, Any]:
    return {
        "id": tap_device(nic.port_id),
        "vif_id": nic.port_id,
        "type": "bridge",
        "mtu": nic.mtu,
        "ethernet_mac_address": nic.mac_address,
    }


def _network(number: int, nic: Nic, fixed: FixedIp) -> dict[str, Any]:
    """By DHCP, which tells the rest; or all of it, where there is no DHCP."""
    network = {"id": f"network{number}", "link": tap_device(nic.port_id), "network_id": nic.network_id}
    subnet = fixed.subnet
    if subnet.dhcp:
        return network | {"type": "ipv4_dhcp"}
    return network | {
        "type": "ipv4",
        "ip_address": fixed.address,
        "netmask": str(IPv4Network(subnet.cidr).netmask),
        "routes": list(_default_route(subnet)),
        "services": list(map(_dns, subnet.nameservers)),
    }


def _default_route(subnet: Subnet) -> Iterator[dict[str, str]]:
    if subnet.gateway:
        yield {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": subnet.gateway}


def _dns(server: str) -> dict[str, str]:
    return {"type": "dns", "address": server}
