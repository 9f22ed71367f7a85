"""What a host is told of networks, checked and typed: a module for each kind of desired object.

Here and nowhere else a message from the wire becomes something to act on. Values end up in file formats that are lines
(dnsmasq's), in device names and in rules, so nothing passes that could be read there as something else.
"""

from __future__ import annotations

from net_agent.model.checker import IpAddress, IpInterface, IpNetwork
from net_agent.model.floating_ip import FloatingIp
from net_agent.model.kinds import Derived, Key, Model, from_spec, key_of, to_spec
from net_agent.model.network import (
    DEFAULT_DNS_DOMAIN,
    DEFAULT_MTU,
    METADATA_ADDRESS,
    METADATA_ADDRESS_IPV6,
    Network,
    NetworkKind,
    Route,
    Subnet,
    network_from_spec,
    network_to_spec,
)
from net_agent.model.peer import Peer
from net_agent.model.port import AllowedPair, Bandwidth, Port, port_from_spec, port_to_spec
from net_agent.model.router import ExternalGateway, Router, RouterInterface
from net_agent.model.security_group import GroupMember, SecurityGroup, SecurityGroupRule

__all__ = [
    "DEFAULT_DNS_DOMAIN",
    "DEFAULT_MTU",
    "METADATA_ADDRESS",
    "METADATA_ADDRESS_IPV6",
    "AllowedPair",
    "Bandwidth",
    "Derived",
    "ExternalGateway",
    "FloatingIp",
    "GroupMember",
    "IpAddress",
    "IpInterface",
    "IpNetwork",
    "Key",
    "Model",
    "Network",
    "NetworkKind",
    "Peer",
    "Port",
    "Route",
    "Router",
    "RouterInterface",
    "SecurityGroup",
    "SecurityGroupRule",
    "Subnet",
    "from_spec",
    "key_of",
    "network_from_spec",
    "network_to_spec",
    "port_from_spec",
    "port_to_spec",
    "to_spec",
]
