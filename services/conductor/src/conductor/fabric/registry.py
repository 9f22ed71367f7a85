"""All areas of the fabric. Sources conclude in this order: a later one may rest on what an earlier one concluded."""

from __future__ import annotations

from conductor.fabric.bindings import BINDINGS
from conductor.fabric.floating_ips import FLOATING_IPS, FloatingIpKind
from conductor.fabric.hosts import HOSTS
from conductor.fabric.kind import Kind
from conductor.fabric.networks import NETWORKS, NetworkKind
from conductor.fabric.peers import PeerKind
from conductor.fabric.router_kind import RouterKind
from conductor.fabric.routers import ROUTERS
from conductor.fabric.security_groups import GROUPS, GroupMemberKind, SecurityGroupKind
from conductor.fabric.slaac import SLAAC
from conductor.fabric.source import Source

SOURCES: tuple[Source, ...] = (HOSTS, NETWORKS, BINDINGS, ROUTERS, FLOATING_IPS, GROUPS, SLAAC)


def kinds() -> tuple[Kind, ...]:
    """One of each, with a memory of its own."""
    return (NetworkKind(), PeerKind(), RouterKind(), FloatingIpKind(), SecurityGroupKind(), GroupMemberKind())
