"""What a host is on an external network: a MAC address, and the address that guests without a floating IP go out with.

It is nobody's resource: there is one where the host has a router that leads there (`keeper`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from cirra.agent.v1.desired_pb2 import Failure
from cirra.network.v1 import events_pb2 as pb
from conductor import references
from conductor.network.network import address_scope
from conductor.network.port import mac_scope
from core.aggregate import Aggregate, applies, constrains
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease
from core.ids import host_gateway_aggregate_id


@dataclass(frozen=True, slots=True)
class HostAddress:
    """An address of an external subnet."""

    subnet_id: str
    ip_address: str
    prefix_length: int


class HostGateway(Aggregate, kind="host_gateway"):
    """`mac_address`: empty when it is closed. `refusal`: why it has no address, the reason of the failure."""

    host: str = ""
    network_id: str = ""
    mac_address: str = ""
    address: HostAddress | None = None
    refusal: str = ""

    @classmethod
    def of(cls, host: str, network_id: str) -> HostGateway:
        """Nothing has happened to it yet."""
        gateway = cls.new(host_gateway_aggregate_id(host, network_id))
        gateway.host, gateway.network_id = host, network_id
        return gateway

    # --- decisions; what is so already is no event

    def open(self, mac_address: str) -> None:
        """The host has come to lead there."""
        if not self.mac_address:
            self.record(pb.HostGatewayOpened(host=self.host, network_id=self.network_id, mac_address=mac_address))

    def allocate(self, address: HostAddress) -> None:
        """It has an address."""
        if self.address is None:
            self.record(
                pb.HostGatewayAddressAllocated(
                    host=self.host,
                    network_id=self.network_id,
                    subnet_id=address.subnet_id,
                    ip_address=address.ip_address,
                    prefix_length=address.prefix_length,
                )
            )

    def refuse(self, failure: Failure) -> None:
        """None is free: visible, and tried again."""
        if self.address is None and self.refusal != failure.reason:
            self.record(pb.HostGatewayAddressRefused(host=self.host, network_id=self.network_id, failure=failure))

    def release(self) -> None:
        """No router of the host that leads there translates any more: it needs no address, nor misses one."""
        if self.address is not None or self.refusal:
            held = self.address or HostAddress("", "", 0)
            self.record(
                pb.HostGatewayAddressReleased(
                    host=self.host,
                    network_id=self.network_id,
                    subnet_id=held.subnet_id,
                    ip_address=held.ip_address,
                )
            )

    def close(self) -> None:
        """No router of the host leads there any more."""
        self.release()
        if self.mac_address:
            self.record(pb.HostGatewayClosed(host=self.host, network_id=self.network_id, mac_address=self.mac_address))

    # --- what happened

    @applies(pb.HostGatewayOpened)
    def _opened(self, event: pb.HostGatewayOpened) -> None:
        self.host, self.network_id, self.mac_address = event.host, event.network_id, event.mac_address

    @applies(pb.HostGatewayAddressAllocated)
    def _allocated(self, event: pb.HostGatewayAddressAllocated) -> None:
        self.address = HostAddress(event.subnet_id, event.ip_address, event.prefix_length)
        self.refusal = ""

    @applies(pb.HostGatewayAddressRefused)
    def _refused(self, event: pb.HostGatewayAddressRefused) -> None:
        self.refusal = event.failure.reason

    @applies(pb.HostGatewayAddressReleased)
    def _released(self, event: pb.HostGatewayAddressReleased) -> None:
        self.address, self.refusal = None, ""

    @applies(pb.HostGatewayClosed)
    def _closed(self, event: pb.HostGatewayClosed) -> None:
        self.mac_address = ""


@constrains(pb.HostGatewayOpened)
def _begins(gateway_id: UUID, event: pb.HostGatewayOpened) -> Iterator[Constraint]:
    yield references.used(references.NETWORK_HOST_GATEWAYS, event.network_id)
    yield UniqueClaim(mac_scope(event.network_id), event.mac_address, str(gateway_id))


@constrains(pb.HostGatewayClosed)
def _ends(gateway_id: UUID, event: pb.HostGatewayClosed) -> Iterator[Constraint]:
    yield references.given_up(references.NETWORK_HOST_GATEWAYS, event.network_id)
    yield UniqueRelease(mac_scope(event.network_id), event.mac_address, str(gateway_id))


@constrains(pb.HostGatewayAddressAllocated)
def _address_taken(gateway_id: UUID, event: pb.HostGatewayAddressAllocated) -> Iterator[Constraint]:
    yield references.used(references.SUBNET_HOST_ADDRESSES, event.subnet_id)
    yield UniqueClaim(address_scope(event.subnet_id), event.ip_address, str(gateway_id))


@constrains(pb.HostGatewayAddressReleased)
def _address_given_back(gateway_id: UUID, event: pb.HostGatewayAddressReleased) -> Iterator[Constraint]:
    if event.ip_address:
        yield references.given_up(references.SUBNET_HOST_ADDRESSES, event.subnet_id)
        yield UniqueRelease(address_scope(event.subnet_id), event.ip_address, str(gateway_id))
