"""The constraint rows of ports: addresses and MAC addresses are unique, networks, subnets and groups in use. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import network_pb2 as public
from conductor import quotas, references
from conductor.network.network import address_scope
from core.aggregate import constrains
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease


def mac_scope(network_id: str) -> str:
    """The unique scope whose keys are the MAC addresses in use on a network."""
    return f"mac/{network_id}"


@constrains(pb.PortCreated)
def _begins(port_id: UUID, event: pb.PortCreated) -> Iterator[Constraint]:
    yield quotas.usage("ports", event.project_id, 1)
    yield references.used(references.NETWORK_PORTS, event.network_id)
    yield UniqueClaim(mac_scope(event.network_id), event.mac_address, str(port_id))
    yield from _claimed(port_id, event.fixed_ips)
    for group_id in event.security_group_ids:
        yield references.used(references.SECURITY_GROUP_PORTS, group_id)


@constrains(pb.PortUpdated)
def _updated(port_id: UUID, event: pb.PortUpdated) -> Iterator[Constraint]:
    yield from _claimed(port_id, event.claimed_fixed_ips)
    yield from _released(port_id, event.released_fixed_ips)
    for group_id in event.joined_group_ids:
        yield references.used(references.SECURITY_GROUP_PORTS, group_id)
    for group_id in event.left_group_ids:
        yield references.given_up(references.SECURITY_GROUP_PORTS, group_id)


@constrains(pb.PortDeleted)
def _ends(port_id: UUID, event: pb.PortDeleted) -> Iterator[Constraint]:
    yield quotas.usage("ports", event.project_id, -1)
    yield references.given_up(references.NETWORK_PORTS, event.network_id)
    yield UniqueRelease(mac_scope(event.network_id), event.mac_address, str(port_id))
    yield from _released(port_id, event.fixed_ips)
    for group_id in event.security_group_ids:
        yield references.given_up(references.SECURITY_GROUP_PORTS, group_id)


def _claimed(port_id: UUID, addresses: Iterable[public.FixedIp]) -> Iterator[Constraint]:
    for fixed in addresses:
        yield references.used(references.SUBNET_PORTS, fixed.subnet)
        yield UniqueClaim(address_scope(fixed.subnet), fixed.ip_address, str(port_id))


def _released(port_id: UUID, addresses: Iterable[public.FixedIp]) -> Iterator[Constraint]:
    for fixed in addresses:
        yield references.given_up(references.SUBNET_PORTS, fixed.subnet)
        yield UniqueRelease(address_scope(fixed.subnet), fixed.ip_address, str(port_id))
