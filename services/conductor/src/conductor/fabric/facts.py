"""What the derivation knows: tables of facts, filled from the log's events.

To add an area: dataclasses and tables here, a `Source` that fills them, a `Kind` per kind of object (`registry`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import asyncpg

from cirra.agent.v1 import desired_pb2 as agent
from cirra.agent.v1 import fabric_pb2 as fabric
from conductor.fabric.table import Table
from conductor.fabric.writing import Change
from conductor.network.network import Network


@dataclass(frozen=True, slots=True)
class HostFacts:
    """`tunnel_address`: where it takes in tunnels; empty: nowhere. `accepted_epoch`: up to which it may act."""

    host: str
    tunnel_address: str = ""
    down: bool = False
    accepted_epoch: int = 0


@dataclass(frozen=True, slots=True)
class Binding:
    """A port on a host, where it shall be. `port`: as the host was told, without its network. `position`: of the event
    that told. `active`: the guest runs there."""

    port_id: str
    host: str
    network_id: str
    active: bool
    position: int
    port: agent.PortSpec


@dataclass(frozen=True, slots=True)
class NetworkEvent:
    """One event of a network that is not deleted: the aggregate is made of them."""

    network_id: str
    version: int
    type: str
    schema_version: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a host has a network. `because`: "port/<id>", "router/<id>", …; each area keeps its own."""

    host: str
    network_id: str
    because: str


@dataclass(frozen=True, slots=True)
class RouterFacts:
    """`routes`: destination and next hop, with a space between. `gateway`: the external network; empty: none."""

    router_id: str
    gateway: str = ""
    enable_snat: bool = False
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InterfaceFacts:
    """`position`: of the event that added it. `address`: with prefix length."""

    router_id: str
    subnet_id: str
    network_id: str
    address: str
    mac_address: str
    position: int


@dataclass(frozen=True, slots=True)
class FloatingIpFacts:
    """One that leads to a port. `network_id`: the external one. `orphaned`: the port was deleted."""

    floating_ip_id: str
    address: str
    network_id: str
    port_id: str = ""
    fixed_ip_address: str = ""
    router_id: str = ""
    orphaned: bool = False


@dataclass(frozen=True, slots=True)
class WayOut:
    """A host has a router that leads to an external network. `snat`: one that translates."""

    host: str
    network_id: str
    snat: bool


@dataclass(frozen=True, slots=True)
class HostGatewayFacts:
    """What a host is on an external network. `address`: with prefix length; empty: it has none."""

    host: str
    network_id: str
    mac_address: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class GroupRule:
    """A rule of a security group, as hosts are told of it. `position`, `number`: where it stands among the group's.

    `remote_group_id`: the group that is the other end; empty: none is.
    """

    rule_id: str
    group_id: str
    remote_group_id: str
    position: int
    number: int
    rule: fabric.SecurityGroupRuleSpec


@dataclass(frozen=True, slots=True)
class Membership:
    """A port that is bound on a host is in a group."""

    port_id: str
    host: str
    group_id: str


@dataclass(frozen=True, slots=True)
class PortFacts:
    """A port, bound or not. `subnet_ids`: of its addresses."""

    port_id: str
    network_id: str
    subnet_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LackingAddress:
    """A port should have an address of a subnet, and has none."""

    port_id: str
    subnet_id: str
    network_id: str


class Facts:
    """All tables, and the questions that several kinds ask. Begins empty."""

    def __init__(self) -> None:
        self.hosts: Table[HostFacts] = Table("fabric_hosts", HostFacts, "host")
        self.network_events: Table[NetworkEvent] = Table("fabric_network_events", NetworkEvent, "network_id", "version")
        self.events_of_network = self.network_events.index("network_id")
        self.bindings: Table[Binding] = Table("fabric_bindings", Binding, "port_id", "host")
        self.bindings_of_port = self.bindings.index("port_id")
        self.bindings_on_host = self.bindings.index("host")
        self.bindings_on_network = self.bindings.index("network_id")
        self.reasons: Table[Reason] = Table("fabric_reasons", Reason, "host", "network_id", "because")
        self.reasons_of_network = self.reasons.index("network_id")
        self.reasons_of_host = self.reasons.index("host")
        self.reasons_for_both = self.reasons.index("host", "network_id")
        self.reasons_because = self.reasons.index("because")
        self.reasons_for_cause = self.reasons.index("host", "because")
        self.routers: Table[RouterFacts] = Table("fabric_routers", RouterFacts, "router_id")
        self.routers_with_gateway = self.routers.index("gateway")
        self.interfaces: Table[InterfaceFacts] = Table("fabric_interfaces", InterfaceFacts, "router_id", "subnet_id")
        self.interfaces_of_router = self.interfaces.index("router_id")
        self.interfaces_on_network = self.interfaces.index("network_id")
        self.floating_ips: Table[FloatingIpFacts] = Table("fabric_floating_ips", FloatingIpFacts, "floating_ip_id")
        self.floating_ips_of_port = self.floating_ips.index("port_id")
        self.ways_out: Table[WayOut] = Table("fabric_ways_out", WayOut, "host", "network_id")
        self.ways_out_of_host = self.ways_out.index("host")
        self.host_gateways: Table[HostGatewayFacts] = Table(
            "fabric_host_gateways", HostGatewayFacts, "host", "network_id"
        )
        self.group_rules: Table[GroupRule] = Table("fabric_group_rules", GroupRule, "rule_id")
        self.rules_of_group = self.group_rules.index("group_id")
        self.rules_naming = self.group_rules.index("remote_group_id")
        self.memberships: Table[Membership] = Table("fabric_memberships", Membership, "port_id", "host", "group_id")
        self.members_of_group = self.memberships.index("group_id")
        self.members_on_host = self.memberships.index("group_id", "host")
        self.ports: Table[PortFacts] = Table("fabric_ports", PortFacts, "port_id")
        self.ports_on_network = self.ports.index("network_id")
        self.lacking: Table[LackingAddress] = Table("fabric_lacking_addresses", LackingAddress, "port_id", "subnet_id")
        self.lacking_of_port = self.lacking.index("port_id")
        self.lacking_on_network = self.lacking.index("network_id")
        self.hosts_of_group = self.memberships.values_of("host", "group_id")
        # Networks as their events have made them; of this process.
        self.networks: dict[str, Network] = {}
        self.tables: tuple[Table[Any], ...] = tuple(it for it in vars(self).values() if isinstance(it, Table))

    @property
    def ddl(self) -> str:
        return "\n".join(table.ddl for table in self.tables)

    async def load(self, connection: asyncpg.Connection) -> None:
        self.networks.clear()
        for table in self.tables:
            await table.load(connection)

    def unsaved(self) -> Iterator[Change]:
        """As the tables'."""
        return chain.from_iterable(table.unsaved() for table in self.tables)

    def begin_event(self) -> None:
        """The journals of all tables are empty: an event is about to be taken in."""
        for table in self.tables:
            table.changes.clear()

    # --- who has what

    def has(self, host: str, network_id: str) -> bool:
        """Whether a host has a network."""
        return bool(self.reasons_for_both.get(host, network_id))

    def hosts_with(self, network_id: str) -> set[str]:
        """Every host that has a network."""
        return {reason.host for reason in self.reasons_of_network.get(network_id)}

    def presence_changes(self) -> Iterator[tuple[str, str]]:
        """Hosts and networks that came together, or apart, with this event."""
        return self.reasons_for_both.came_or_went(self.reasons)

    def group_presence_changes(self) -> Iterator[tuple[str, str]]:
        """Security groups and hosts of which this event has made the first member, or unmade the last."""
        return self.members_on_host.came_or_went(self.memberships)

    def active_binding(self, port_id: str) -> Binding | None:
        """Where the port's guest runs. While it moves, the port is bound on two hosts: the active one; of two, the one
        that was told last."""
        active = [binding for binding in self.bindings_of_port.get(port_id) if binding.active]
        return max(active, key=lambda binding: binding.position, default=None)

    def tunnel_address(self, host: str) -> str:
        """Where a host takes in tunnels; empty: nowhere."""
        known = self.hosts.get(host)
        return "" if known is None else known.tunnel_address
