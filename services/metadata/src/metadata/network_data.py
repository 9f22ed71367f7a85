"""network_data.json: a guest's interfaces, networks and name servers, in the schema that Nova publishes. Pure.

As Nova has it, a NIC is told of by its first address of each family.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from core.ids import tap_device
from metadata.guest import FixedIp, Guest, Nic, Subnet


def network_data(guest: Guest) -> dict[str, Any]:
    addressed = [nic for nic in guest.nics if nic.fixed_ips]
    told = [(nic, fixed) for nic in addressed for fixed in _first_of_each_family(nic)]
    servers = dict.fromkeys(server for _, fixed in told for server in fixed.subnet.nameservers)
    return {
        "links": [_link(nic) for nic in addressed],
        "networks": [_network(number, nic, fixed) for number, (nic, fixed) in enumerate(told)],
        "services": list(map(_dns, servers)),
    }


def _first_of_each_family(nic: Nic) -> list[FixedIp]:
    families: dict[bool, FixedIp] = {}
    for fixed in nic.fixed_ips:
        families.setdefault(fixed.is_ipv6, fixed)
    return list(families.values())


def _link(nic: Nic) -> dict[str, Any]:
    return {
        "id": tap_device(nic.port_id),
        "vif_id": nic.port_id,
        "type": "bridge",
        "mtu": nic.mtu,
        "ethernet_mac_address": nic.mac_address,
    }


def _network(number: int, nic: Nic, fixed: FixedIp) -> dict[str, Any]:
    """By DHCP or router advertisements, which tell the rest; or all of it, where there is neither."""
    network = {"id": f"network{number}", "link": tap_device(nic.port_id), "network_id": nic.network_id}
    subnet = fixed.subnet
    if subnet.dhcp:
        return network | {"type": "ipv6_slaac" if fixed.is_ipv6 else "ipv4_dhcp"}
    return network | {
        "type": "ipv6" if fixed.is_ipv6 else "ipv4",
        "ip_address": fixed.address,
        "netmask": str(ip_network(subnet.cidr).netmask),
        "routes": list(_default_route(subnet)),
        "services": list(map(_dns, subnet.nameservers)),
    }


def _default_route(subnet: Subnet) -> Iterator[dict[str, str]]:
    if subnet.gateway:
        anywhere = "::" if ":" in subnet.gateway else "0.0.0.0"
        yield {"network": anywhere, "netmask": anywhere, "gateway": subnet.gateway}


def _dns(server: str) -> dict[str, str]:
    return {"type": "dns", "address": server}
