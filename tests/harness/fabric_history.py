"""What concerns the fabric: scripts of events, a log of them in memory, and the rows that they lead to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid5

from google.protobuf.message import Message

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as network
from cirra.network.v1 import network_pb2 as public
from cirra.placement.v1 import events_pb2 as placement
from cirra.placement.v1.placement_pb2 import Inventory
from conductor.fabric import rows
from conductor.fabric.derivation import Derivation, Key
from core.eventlog.types import RecordedEvent
from core.ids import host_aggregate_id

FLAT, VXLAN = public.NETWORK_TYPE_FLAT, public.NETWORK_TYPE_VXLAN
ACTIVE, INACTIVE = public.PORT_BINDING_STATE_ACTIVE, public.PORT_BINDING_STATE_INACTIVE
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_NAMES = UUID("00000000-0000-0000-0000-00000000cafe")


def uid(name: str) -> str:
    """Of a network, subnet or port that a test calls by a name."""
    return str(uuid5(_NAMES, name))


@dataclass(frozen=True, slots=True)
class Happening:
    aggregate_type: str
    aggregate_id: UUID
    version: int
    message: Message


class Script:
    """Events in the words of a test, noted to be played."""

    def __init__(self) -> None:
        self._versions: dict[UUID, int] = defaultdict(int)
        self._noted: list[Happening] = []

    def take(self) -> list[Happening]:
        """What was noted since it was taken last."""
        noted, self._noted = self._noted, []
        return noted

    def happens(self, aggregate_type: str, aggregate_id: UUID, message: Message) -> None:
        """Any event."""
        self._versions[aggregate_id] += 1
        self.noted(Happening(aggregate_type, aggregate_id, self._versions[aggregate_id], message))

    def noted(self, happening: Happening) -> None:
        self._noted.append(happening)

    def host(self, name: str, tunnel_address: str = "") -> None:
        self.happens("host", host_aggregate_id(name), placement.HostEnrolled(host=name))
        self.tunnel(name, tunnel_address)

    def tunnel(self, host: str, address: str) -> None:
        inventory = Inventory(vcpus=8, tunnel_address=address)
        message = placement.HostInventoryChanged(host=host, inventory=inventory)
        self.happens("host", host_aggregate_id(host), message)

    def down(self, host: str) -> None:
        self.happens("host", host_aggregate_id(host), placement.HostDown(host=host))

    def up(self, host: str) -> None:
        self.happens("host", host_aggregate_id(host), placement.HostUp(host=host))

    def accepted(self, host: str, epoch: int) -> None:
        message = placement.HostDifferencesAccepted(host=host, epoch=epoch)
        self.happens("host", host_aggregate_id(host), message)

    def network(self, name: str, kind: public.NetworkType.ValueType = FLAT) -> None:
        self.happens("network", UUID(uid(name)), network.NetworkCreated(project_id="p", type=kind, mtu=1500))

    def subnet(self, name: str, of: str, cidr: str = "10.0.0.0/24") -> None:
        message = network.SubnetCreated(
            network_id=uid(of), subnet_id=uid(name), cidr=cidr, gateway_ip="10.0.0.1", dhcp_ip="10.0.0.2"
        )
        self.happens("network", UUID(uid(of)), message)

    def bind(
        self,
        port: str,
        host: str,
        on: str,
        state: public.PortBindingState.ValueType = ACTIVE,
        address: str = "10.0.0.9",
    ) -> None:
        spec = agent.PortSpec(
            port_id=uid(port),
            mac_address="fa:16:3e:00:00:01",
            hostname=port,
            network=agent.NetworkSpec(network_id=uid(on)),
            addresses=[agent.PortAddress(subnet_id=uid("s"), ip_address=address)],
        )
        wish = agent.DesiredObject(host=host, agent="net", kind="port", object_id=uid(port), port=spec)
        self.happens("port", UUID(uid(port)), network.PortBindingDesired(host=host, state=state, desired=wish))

    def unbind(self, port: str, host: str) -> None:
        wish = agent.DesiredObject(host=host, agent="net", kind="port", object_id=uid(port), absent=True)
        self.happens("port", UUID(uid(port)), network.PortBindingDesired(host=host, desired=wish))

    def no_port(self, port: str) -> None:
        self.happens("port", UUID(uid(port)), network.PortDeleted(project_id="p"))


class History(Script):
    """Events taken in as they happen. `touched`: the rows that the last one has written; `looked`: how many it looked
    at."""

    def __init__(self) -> None:
        super().__init__()
        self.derivation = Derivation()
        self.events: list[RecordedEvent] = []
        self.rows: dict[Key, rows.Row] = {}
        self.touched: set[Key] = set()
        self.looked = 0

    @property
    def position(self) -> int:
        """Of the last event."""
        return self.events[-1].position if self.events else 0

    def noted(self, happening: Happening) -> None:
        self.take_in(_recorded(happening, self.position + 1))

    def replayed(self) -> History:
        """The same events from the first on, with nothing known before."""
        again = History()
        for event in self.events:
            again.take_in(event)
        return again

    def take_in(self, event: RecordedEvent) -> None:
        self.events.append(event)
        looks = list(self.derivation.take_in(event)) if self.derivation.concerns(event) else []
        self.looked = len(looks)
        self.touched = set()
        for look in looks:
            row = rows.after(self.rows.get(look.key), [look])
            if row is not None and row != self.rows.get(look.key):
                self.rows[look.key] = row
                self.touched.add(look.key)

    def present(self) -> dict[Key, bytes]:
        return {key: row.spec for key, row in self.rows.items() if row.spec is not None}

    def derived_afresh(self) -> dict[Key, bytes]:
        """By the facts as they are now, whatever happened before."""
        return {look.key: look.spec for look in self.derivation.everything() if look.spec is not None}

    def object(self, host: str, kind: str, name: str) -> agent.DesiredObject | None:
        """As the host is told; None when it never had it."""
        key = (host, kind, uid(name))
        return rows.desired_object(key, self.rows[key]) if key in self.rows else None

    def has(self, host: str, kind: str, name: str) -> bool:
        found = self.object(host, kind, name)
        return found is not None and not found.absent


def _recorded(happening: Happening, position: int) -> RecordedEvent:
    return RecordedEvent(
        position=position,
        epoch=1,
        event_id=uuid5(_NAMES, str(position)),
        aggregate_type=happening.aggregate_type,
        aggregate_id=happening.aggregate_id,
        version=happening.version,
        type=happening.message.DESCRIPTOR.full_name,
        schema_version=1,
        data=happening.message.SerializeToString(deterministic=True),
        recorded_at=BEGIN,
        actor="",
        request_id="",
        causation_id="",
        correlation_id="",
        traceparent="",
    )
