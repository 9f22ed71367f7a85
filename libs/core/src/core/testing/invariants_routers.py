"""What routers, floating IPs and gateways of hosts hold, recomputed from the events of the public contract alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from uuid import UUID

from cirra.network.v1 import events_pb2 as network
from core.eventlog.types import RecordedEvent
from core.testing.invariants_violation import Invariant, Violation

Place = tuple[str, str]
"""Scope and key of a unique row."""


class RoutedHoldings:
    """After some events. `owners`: of each address and MAC, those who hold it: more than one is a violation.

    `counted`: what counts for a quota: its id → the resource and the project. `leading`: port → the floating IPs that
    lead to it by their own events; `told`: by the port's.
    """

    def __init__(self) -> None:
        self.owners: defaultdict[Place, set[str]] = defaultdict(set)
        self.counted: dict[UUID, tuple[str, str]] = {}
        self.leading: defaultdict[str, set[str]] = defaultdict(set)
        self.told: defaultdict[str, set[str]] = defaultdict(set)

    def apply(self, event: RecordedEvent) -> None:
        """Events of other aggregates change nothing."""
        match event.aggregate_type:
            case "router":
                self._router(event)
            case "floating_ip":
                self._floating_ip(event)
            case "host_gateway":
                self._host_gateway(event)
            case "port":
                self._port(event)

    def _router(self, event: RecordedEvent) -> None:
        match event.type.rpartition(".")[2]:
            case "RouterCreated":
                project = network.RouterCreated.FromString(event.data).project_id
                self.counted[event.aggregate_id] = ("routers", project)
            case "RouterInterfaceAdded":
                added = network.RouterInterfaceAdded.FromString(event.data)
                self._take(event, f"address/{added.subnet_id}", added.ip_address)
                self._take(event, f"mac/{added.network_id}", added.mac_address)
            case "RouterInterfaceRemoved":
                removed = network.RouterInterfaceRemoved.FromString(event.data)
                self._give_back(event, f"address/{removed.subnet_id}", removed.ip_address)
                self._give_back(event, f"mac/{removed.network_id}", removed.mac_address)
            case "RouterDeleted":
                del self.counted[event.aggregate_id]

    def _floating_ip(self, event: RecordedEvent) -> None:
        match event.type.rpartition(".")[2]:
            case "FloatingIpCreated":
                created = network.FloatingIpCreated.FromString(event.data)
                self._take(event, f"address/{created.subnet_id}", created.floating_ip_address)
                self.counted[event.aggregate_id] = ("floating_ips", created.project_id)
            case "FloatingIpAssociated":
                associated = network.FloatingIpAssociated.FromString(event.data)
                self.leading[associated.port_id].add(str(event.aggregate_id))
            case "FloatingIpDisassociated":
                left = network.FloatingIpDisassociated.FromString(event.data)
                self.leading[left.port_id].discard(str(event.aggregate_id))
            case "FloatingIpDeleted":
                deleted = network.FloatingIpDeleted.FromString(event.data)
                self._give_back(event, f"address/{deleted.subnet_id}", deleted.floating_ip_address)
                del self.counted[event.aggregate_id]

    def _host_gateway(self, event: RecordedEvent) -> None:
        match event.type.rpartition(".")[2]:
            case "HostGatewayOpened":
                opened = network.HostGatewayOpened.FromString(event.data)
                self._take(event, f"mac/{opened.network_id}", opened.mac_address)
            case "HostGatewayAddressAllocated":
                allocated = network.HostGatewayAddressAllocated.FromString(event.data)
                self._take(event, f"address/{allocated.subnet_id}", allocated.ip_address)
            case "HostGatewayAddressReleased":
                released = network.HostGatewayAddressReleased.FromString(event.data)
                self._give_back(event, f"address/{released.subnet_id}", released.ip_address)
            case "HostGatewayClosed":
                closed = network.HostGatewayClosed.FromString(event.data)
                self._give_back(event, f"mac/{closed.network_id}", closed.mac_address)

    def _port(self, event: RecordedEvent) -> None:
        port_id = str(event.aggregate_id)
        match event.type.rpartition(".")[2]:
            case "PortFloatingIpAdded":
                added = network.PortFloatingIpAdded.FromString(event.data)
                self.told[port_id].add(added.floating_ip.floating_ip)
            case "PortFloatingIpRemoved":
                removed = network.PortFloatingIpRemoved.FromString(event.data)
                self.told[port_id].discard(removed.floating_ip_id)

    def _take(self, event: RecordedEvent, scope: str, key: str) -> None:
        self.owners[scope, key].add(str(event.aggregate_id))

    def _give_back(self, event: RecordedEvent, scope: str, key: str) -> None:
        self.owners[scope, key].discard(str(event.aggregate_id))

    def claims(self) -> Iterator[tuple[Place, str]]:
        """Each address and MAC with each of its holders."""
        for place, owners in self.owners.items():
            for owner in owners:
                yield place, owner


def floating_ip_violations(routed: RoutedHoldings, ports: Mapping[UUID, object]) -> Iterator[Violation]:
    """Of what ports tell of floating IPs. *ports*: those that live; of others, floating IPs are about to be freed."""
    for port_id in map(str, ports):
        told, leading = routed.told.get(port_id, set()), routed.leading.get(port_id, set())
        if told != leading:
            text = f"tells of floating IPs {sorted(told)}, and {sorted(leading)} lead to it"
            yield Violation(Invariant.PORT, f"port {port_id}", text)
