"""What a network driver must do; `tests/contract/network` holds every driver to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.errors import CirraError
from net_agent.model import Derived, Key, Port


class NetworkFault(CirraError):
    """Something can't be made as it is described, or not now. `reschedule`: another host may do better."""

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


# Of which object, and why it isn't as it shall be.
Faults = Mapping[Key, NetworkFault]


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """`simulated`: nothing is really wired; the inventory says so. `tunnel_address`: empty when it takes in none."""

    name: str
    simulated: bool
    physical_networks: tuple[str, ...]
    tunnel_address: str = ""


@dataclass(frozen=True, slots=True)
class PortState:
    """What was seen of one port on this host, by observation, not by memory.

    present: anything of the port is left on the host. lacking: what isn't in place, for a person to read.
    """

    present: bool
    lacking: tuple[str, ...] = ()

    @property
    def wired(self) -> bool:
        return self.present and not self.lacking


ABSENT = PortState(present=False)


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
    """Wires ports, and makes of this host what derived objects say. Every method is idempotent; calls for different
    objects may run at the same time, and in any order: a peer may come before its network."""

    @property
    def info(self) -> DriverInfo: ...

    async def plug(self, port: Port) -> PortState:
        """The port as it was observed afterwards; DHCP gives its addresses to its MAC address iff it is active.

        What is already right isn't touched: same interface index, same processes, no rule replaced. An address that
        a dead port's lease still holds is free again. Of a network's descriptions the highest generation holds.
        A host that already knows the port as part of another network: NetworkFault. Cancelled or failed half-way:
        `plug` again completes it, `unplug` removes it.
        """

    async def unplug(self, port_id: str) -> None:
        """Afterwards `observe` says absent, and no lease of the port lives. Absent is success.

        With the last port of a network on this host go its namespace and processes, and its bridge too unless the
        network is an object of its own here. An uplink is given back as it was found. Nothing that Cirra didn't make
        is touched.
        """

    async def observe(self, port_id: str) -> PortState:
        """Reads the host; `ABSENT` when nothing of the port is here."""

    async def keep(self, wanted: Derived) -> None:
        """The object is known here, also after a crash, and the host is as it wants it, as far as it can be now.

        Raises NetworkFault for what can't; it is kept nevertheless, and `heal` tries again. What needs something that
        isn't here (a peer's network) is no fault: it is made when that comes.
        """

    async def drop(self, kind: str, object_id: str) -> None:
        """The object is not known any more, and nothing that followed from it is left. Absent is success."""

    async def kept(self, kind: str) -> frozenset[str]:
        """The ids of the known objects of one kind of derived objects."""

    async def heal(self) -> Faults:
        """One look at the whole host; what differs from what is known is made right, and nothing else is touched.

        Returns what could not be made so, of all objects, ports among them.
        """

    async def conditions(self) -> Faults:
        """What keeps objects from working though all that can be seen of them is right, found by probes: an uplink that
        drops foreign MAC addresses. Takes seconds, and changes nothing."""

    async def known_ports(self) -> frozenset[str]:
        """Ids of all ports of which something is here, also those that no record tells of."""

    async def portless_networks(self) -> Mapping[str, Sequence[str]]:
        """Networks of which something is here although nothing says so: id → what ("bridge brq…", "dnsmasq")."""

    async def leases(self, network_ids: frozenset[str] | None = None) -> Sequence[Lease]:
        """The living leases of active ports of this host (of these networks, or of all)."""

    async def neighbours(self, network_ids: frozenset[str] | None = None) -> Sequence[Neighbour]:
        """The confirmed neighbours among this host's active ports (of these networks, or of all)."""

    async def active_ports(self) -> Sequence[Port]:
        """The ports whose guests run here, as last plugged."""

    async def close(self) -> None:
        """Frees what the driver itself holds; what is wired stays wired."""
