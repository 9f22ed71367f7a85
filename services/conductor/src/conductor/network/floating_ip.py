"""The floating IP: an address of an external network that leads to a port, through a router."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import network_pb2 as public
from conductor import quotas, references
from conductor.network.network import address_scope
from conductor.network.router import through
from conductor.requests import require_live
from core.aggregate import Aggregate, applies, constrains
from core.errors import FailedPrecondition
from core.eventlog.types import Constraint, CounterAdd, UniqueClaim, UniqueRelease

TARGETS = "floating-ip-target"
"""Unique scope: port/address/external network → owner: the floating IP that leads there."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where it leads. `subnet_id`: of the fixed address."""

    port_id: str
    fixed_ip_address: str
    subnet_id: str
    router_id: str


class FloatingIp(Aggregate, kind="floating_ip"):
    """`network_id`: the external network; `subnet_id`: the subnet of `address` there."""

    project_id: str = ""
    network_id: str = ""
    subnet_id: str = ""
    address: str = ""
    target: Target | None = None
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"projects/{self.project_id}/floatingIps/{self.id}"

    # --- decisions

    @classmethod
    def create(
        cls, floating_ip_id: UUID, *, project_id: str, network_id: str, subnet_id: str, address: str
    ) -> FloatingIp:
        floating_ip = cls.new(floating_ip_id)
        floating_ip.record(
            pb.FloatingIpCreated(
                project_id=project_id, network_id=network_id, subnet_id=subnet_id, floating_ip_address=address
            )
        )
        return floating_ip

    def associate(self, target: Target, *, move: bool = False) -> None:
        """It leads there now. What is so already is no event.

        Raises FailedPrecondition when it leads elsewhere, unless it is to move.
        """
        require_live(self)
        present = self.target
        if present is not None:
            if (present.port_id, present.fixed_ip_address) == (target.port_id, target.fixed_ip_address):
                return
            if not move:
                raise FailedPrecondition(
                    f"port: {self.address} leads to {present.fixed_ip_address} of port {present.port_id} already",
                    reason="FLOATING_IP_IN_USE",
                    remedy="disassociate it first, or move it (`move`, --move): connections through it end",
                    metadata={"field": "port", "port": present.port_id},
                )
            self.disassociate()
        self.record(
            pb.FloatingIpAssociated(
                port_id=target.port_id,
                fixed_ip_address=target.fixed_ip_address,
                subnet_id=target.subnet_id,
                router_id=target.router_id,
                network_id=self.network_id,
            )
        )

    def disassociate(self) -> None:
        """It leads nowhere. What is so already is no event."""
        target = require_live(self).target
        if target is not None:
            self.record(
                pb.FloatingIpDisassociated(
                    port_id=target.port_id,
                    fixed_ip_address=target.fixed_ip_address,
                    subnet_id=target.subnet_id,
                    router_id=target.router_id,
                    network_id=self.network_id,
                )
            )

    def delete(self) -> None:
        """Its address is given back. Raises NotFound when deleted."""
        self.disassociate()
        self.record(
            pb.FloatingIpDeleted(project_id=self.project_id, subnet_id=self.subnet_id, floating_ip_address=self.address)
        )

    def as_of_port(self) -> public.PortFloatingIp:
        """As the port tells of it that it leads to."""
        assert self.target is not None
        return public.PortFloatingIp(
            floating_ip=str(self.id),
            floating_ip_address=self.address,
            fixed_ip_address=self.target.fixed_ip_address,
        )

    # --- what happened

    @applies(pb.FloatingIpCreated)
    def _created(self, event: pb.FloatingIpCreated) -> None:
        self.project_id, self.network_id = event.project_id, event.network_id
        self.subnet_id, self.address = event.subnet_id, event.floating_ip_address

    @applies(pb.FloatingIpAssociated)
    def _associated(self, event: pb.FloatingIpAssociated) -> None:
        self.target = Target(event.port_id, event.fixed_ip_address, event.subnet_id, event.router_id)

    @applies(pb.FloatingIpDisassociated)
    def _disassociated(self, event: pb.FloatingIpDisassociated) -> None:
        self.target = None

    @applies(pb.FloatingIpDeleted)
    def _deleted(self, event: pb.FloatingIpDeleted) -> None:
        self.deleted = True


@constrains(pb.FloatingIpCreated)
def _begins(floating_ip_id: UUID, event: pb.FloatingIpCreated) -> Iterator[Constraint]:
    yield quotas.usage("floating_ips", event.project_id, 1)
    yield references.used(references.SUBNET_FLOATING_IPS, event.subnet_id)
    yield UniqueClaim(address_scope(event.subnet_id), event.floating_ip_address, str(floating_ip_id))


@constrains(pb.FloatingIpDeleted)
def _ends(floating_ip_id: UUID, event: pb.FloatingIpDeleted) -> Iterator[Constraint]:
    yield quotas.usage("floating_ips", event.project_id, -1)
    yield references.given_up(references.SUBNET_FLOATING_IPS, event.subnet_id)
    yield UniqueRelease(address_scope(event.subnet_id), event.floating_ip_address, str(floating_ip_id))


@constrains(pb.FloatingIpAssociated)
def _leads(floating_ip_id: UUID, event: pb.FloatingIpAssociated) -> Iterator[Constraint]:
    yield UniqueClaim(TARGETS, _target_key(event), str(floating_ip_id))
    yield from _ways(event, references.used)


@constrains(pb.FloatingIpDisassociated)
def _leads_no_more(floating_ip_id: UUID, event: pb.FloatingIpDisassociated) -> Iterator[Constraint]:
    yield UniqueRelease(TARGETS, _target_key(event), str(floating_ip_id))
    yield from _ways(event, references.given_up)


def _target_key(event: pb.FloatingIpAssociated | pb.FloatingIpDisassociated) -> str:
    return f"{event.port_id}/{event.fixed_ip_address}/{event.network_id}"


def _ways(
    event: pb.FloatingIpAssociated | pb.FloatingIpDisassociated, count: Callable[[str, str], CounterAdd]
) -> Iterator[CounterAdd]:
    """In by the external network, out by the subnet: neither goes from under it."""
    for way in (event.network_id, event.subnet_id):
        yield count(references.FLOATING_IPS_THROUGH, through(event.router_id, way))
