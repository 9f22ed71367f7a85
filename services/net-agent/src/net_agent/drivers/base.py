"""What a network driver must do; `tests/contract/network` holds every driver to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.errors import CirraError
from net_agent.model import Port


class NetworkFault(CirraError):
    """A port can't be wired as it is described, or not now. `reschedule`: another host may do better."""

    reason = "NETWORK_FAULT"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        remedy: str = "",
        retryable: bool = True,
        reschedule: bool = False,
    ) -> None:
        super().__init__(message, reason=reason, remedy=remedy, retryable=retryable)
        self.reschedule = reschedule


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """`simulated`: nothing is really wired; the inventory says so."""

    name: str
    simulated: bool
    physical_networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PortState:
    """What was seen of one port on this host, each part by observation, not by memory.

    present: anything of the port is left on the host.
    plugged: its tap is up and on its network's bridge.
    guarded: the rules against spoofing are in force for it.
    dhcp: DHCP and DNS of its network answer and have loaded what they shall know (so: the port, if it is active).
    metadata: the metadata proxy of its network listens.
    """

    present: bool
    plugged: bool
    guarded: bool
    dhcp: bool
    metadata: bool

    @property
    def wired(self) -> bool:
        return self.plugged and self.guarded and self.dhcp and self.metadata

    def missing(self) -> tuple[str, ...]:
        """The parts that aren't as they should be, for a person to read."""
        parts = {
            "the tap is not up on its bridge": self.plugged,
            "the rules against spoofing are not in force": self.guarded,
            "DHCP does not answer": self.dhcp,
            "the metadata proxy does not listen": self.metadata,
        }
        return tuple(text for text, right in parts.items() if not right)


ABSENT = PortState(present=False, plugged=False, guarded=False, dhcp=False, metadata=False)


@dataclass(frozen=True, slots=True)
class Lease:
    """DHCP gave the port this address. `client_hostname`: as the client sent it; may be empty."""

    port_id: str
    mac_address: str
    ip_address: str
    client_hostname: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The port's MAC address has confirmed by ARP, or by a connection, that it uses this address."""

    port_id: str
    mac_address: str
    ip_address: str


class NetworkDriver(Protocol):
    """Wires ports. Every method is idempotent; calls for different ports may run at the same time."""

    @property
    def info(self) -> DriverInfo: ...

    async def plug(self, port: Port) -> None:
        """Afterwards `observe` says wired; DHCP gives the port's addresses to its MAC address iff it is active.

        What is already right isn't touched: same interface index, same processes, no rule replaced. An address that
        a dead port's lease still holds is free again. Of a network's descriptions the highest generation holds.
        A host that already knows the port as part of another network: NetworkFault. Cancelled or failed half-way:
        `plug` again completes it, `unplug` removes it.
        """

    async def unplug(self, port_id: str) -> None:
        """Afterwards `observe` says absent, and no lease of the port lives. Absent is success.

        With the last port of a network on this host go its bridge, namespace and processes. An uplink is given back
        as it was found. Nothing that Cirra didn't make is touched.
        """

    async def observe(self, port_id: str) -> PortState:
        """Reads the host; `ABSENT` when nothing of the port is here."""

    async def known_ports(self) -> frozenset[str]:
        """Ids of all ports of which something is here, also those that no record tells of."""

    async def portless_networks(self) -> Mapping[str, Sequence[str]]:
        """Networks of which something is here although none of their ports is: id → what ("bridge brq…", "dnsmasq")."""

    async def leases(self, network_ids: frozenset[str] | None = None) -> Sequence[Lease]:
        """The living leases of active ports of this host (of these networks, or of all)."""

    async def neighbours(self, network_ids: frozenset[str] | None = None) -> Sequence[Neighbour]:
        """The confirmed neighbours among this host's active ports (of these networks, or of all)."""

    async def active_ports(self) -> Sequence[Port]:
        """The ports whose guests run here, as last plugged."""

    async def close(self) -> None:
        """Frees what the driver itself holds; what is wired stays wired."""
