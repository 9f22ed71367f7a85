"""A network and its ports, with ids that read well."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from core.ids import bridge_device, tap_device
from net_agent.model import Network, Port, Subnet

SUBNET = Subnet(
    subnet_id="01920000-0000-7000-8000-00000000bb01",
    cidr=IPv4Network("10.0.0.0/24"),
    gateway_ip=IPv4Address("10.0.0.1"),
    dhcp_ip=IPv4Address("10.0.0.2"),
)
NETWORK_ID = "01920000-0000-7000-8000-00000000aa01"
NETWORK = Network(
    network_id=NETWORK_ID,
    generation=1,
    bridge=bridge_device(NETWORK_ID),
    mtu=1450,
    physical_network="",
    dns_domain="novalocal",
    subnets=(SUBNET,),
)


def make_port(number: int, **changes: Any) -> Port:
    """Number 11 has the address .11, the MAC address …:0b and the name guest-11."""
    port_id = f"01920000-0000-7000-8000-0000000000{number:02x}"
    port = Port(
        port_id=port_id,
        mac_address=f"fa:16:3e:00:00:{number:02x}",
        device=tap_device(port_id),
        hostname=f"guest-{number}",
        addresses=(IPv4Address("10.0.0.0") + number,),
        network=NETWORK,
        active=True,
    )
    return replace(port, **changes)
