"""Every kind of desired object that this agent has: its name, its message, its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from cirra.agent.v1 import desired_pb2, fabric_pb2
from net_agent.model import floating_ip, network, peer, port, router, security_group

Derived = (
    network.Network
    | peer.Peer
    | router.Router
    | floating_ip.FloatingIp
    | security_group.SecurityGroup
    | security_group.GroupMember
)
Model = port.Port | Derived
# (kind, object id), as in `DesiredObject`.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """`identify`: the field with the object's id. `message`: of the oneof `DesiredObject.spec`."""

    name: str
    message: type[Message]
    parse: Callable[[Any], Model]
    write: Callable[[Any], Message]
    identify: str


KINDS: Mapping[type[Model], Kind] = {
    port.Port: Kind("port", desired_pb2.PortSpec, port.port_from_spec, port.port_to_spec, "port_id"),
    network.Network: Kind(
        "network", desired_pb2.NetworkSpec, network.network_from_spec, network.network_to_spec, "network_id"
    ),
    peer.Peer: Kind("peer", fabric_pb2.PeerSpec, peer.peer_from_spec, peer.peer_to_spec, "port_id"),
    router.Router: Kind("router", fabric_pb2.RouterSpec, router.router_from_spec, router.router_to_spec, "router_id"),
    floating_ip.FloatingIp: Kind(
        "floating-ip",
        fabric_pb2.FloatingIpSpec,
        floating_ip.floating_ip_from_spec,
        floating_ip.floating_ip_to_spec,
        "floating_ip_id",
    ),
    security_group.SecurityGroup: Kind(
        "security-group",
        fabric_pb2.SecurityGroupSpec,
        security_group.security_group_from_spec,
        security_group.security_group_to_spec,
        "group_id",
    ),
    security_group.GroupMember: Kind(
        "group-member",
        fabric_pb2.GroupMemberSpec,
        security_group.group_member_from_spec,
        security_group.group_member_to_spec,
        "port_id",
    ),
}
BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in KINDS.values()}
DERIVED_KINDS: tuple[str, ...] = tuple(name for name in BY_NAME if name != "port")


def key_of(model: Model) -> Key:
    kind = KINDS[type(model)]
    return kind.name, getattr(model, kind.identify)


def from_spec(kind: str, spec: Message) -> Model:
    """Raises InvalidArgument, naming each bad field."""
    return BY_NAME[kind].parse(spec)


def to_spec(model: Model) -> Message:
    return KINDS[type(model)].write(model)
