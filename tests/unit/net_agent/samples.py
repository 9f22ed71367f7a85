"""A network and its ports, with ids that read well."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface, ip_network
from typing import Any

from core.ids import bridge_device, tap_device
from net_agent.model import (
    AllowedPair,
    Bandwidth,
    Derived,
    ExternalGateway,
    FloatingIp,
    GroupMember,
    Network,
    NetworkKind,
    Peer,
    Port,
    Route,
    Router,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)

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


def sample_id(number: int) -> str:
    return f"01920000-0000-7000-8000-00000000{number:04x}"


PEER = Peer(
    port_id=sample_id(0xEE01),
    network_id=NETWORK_ID,
    mac_address="fa:16:3e:00:00:21",
    addresses=(ip_address("10.0.0.33"), ip_address("fd00::21")),
    hostname="guest-33",
    host="host-2",
    tunnel_address=ip_address("192.0.2.2"),
)
# Every field of every kind has a value that is not its default.
FULL_PORT = make_port(
    99,
    instance_id=sample_id(0xF001),
    unguarded=True,
    security_group_ids=(sample_id(0xD001),),
    allowed_pairs=(AllowedPair(ip_network("10.0.0.192/28"), "fa:16:3e:00:00:77"),),
    bandwidth=Bandwidth(1, 2, 3, 4),
)
DERIVED: tuple[Derived, ...] = (
    replace(
        NETWORK,
        network_id=sample_id(0xAA02),
        bridge=bridge_device(sample_id(0xAA02)),
        physical_network="physnet1",
        kind=NetworkKind.VLAN,
        segmentation_id=7,
        external=True,
        subnets=(
            replace(
                SUBNET,
                dns_nameservers=(IPv4Address("192.0.2.53"),),
                host_routes=(Route(ip_network("10.9.0.0/16"), ip_address("10.0.0.9")),),
                no_dhcp=True,
            ),
        ),
    ),
    PEER,
    Router(
        router_id=sample_id(0xCC01),
        interfaces=(
            RouterInterface(
                network_id=NETWORK_ID,
                subnet_id=SUBNET.subnet_id,
                mac_address="0e:00:00:00:00:01",
                address=ip_interface("10.0.0.1/24"),
                bridge=NETWORK.bridge,
                mtu=1450,
            ),
        ),
        routes=(Route(ip_network("10.1.0.0/16"), ip_address("10.0.0.7")),),
        gateway=ExternalGateway(
            network_id=sample_id(0xAA02),
            bridge=bridge_device(sample_id(0xAA02)),
            mtu=1500,
            host_addresses=(ip_interface("203.0.113.10/24"),),
            host_mac_address="0e:00:00:00:00:02",
            next_hops=(ip_address("203.0.113.1"), ip_address("2001:db8::1")),
            snat=True,
        ),
    ),
    FloatingIp(
        floating_ip_id=sample_id(0xCC02),
        floating_address=ip_address("203.0.113.77"),
        fixed_address=ip_address("10.0.0.11"),
        port_id=make_port(11).port_id,
        router_id=sample_id(0xCC01),
        external_network_id=sample_id(0xAA02),
    ),
    SecurityGroup(
        group_id=sample_id(0xD001),
        rules=(
            SecurityGroupRule(
                rule_id=sample_id(0xD101),
                egress=True,
                ip_version=4,
                protocol=6,
                ports=(80, 443),
                icmp_type=None,
                icmp_code=None,
                remote_cidr=ip_network("10.0.0.0/8"),
                remote_group_id=None,
            ),
            SecurityGroupRule(
                rule_id=sample_id(0xD102),
                egress=False,
                ip_version=6,
                protocol=58,
                ports=None,
                icmp_type=128,
                icmp_code=0,
                remote_cidr=None,
                remote_group_id=sample_id(0xD001),
            ),
        ),
    ),
    GroupMember(sample_id(0xEE01), (sample_id(0xD001),), (ip_address("10.0.0.33"),)),
)
