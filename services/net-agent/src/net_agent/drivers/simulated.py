"""A driver without a host: for tests of scale and of faults. Its inventory says that it is simulated.

What is plugged is on disk, since a kernel keeps taps whatever becomes of the agent, and forgets them at a boot.

<folder>/boot_id    of the boot that the rest is of
<folder>/specs.db   what is plugged and known (`net_agent.specs`)
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from net_agent.drivers.base import ABSENT, DriverInfo, Faults, Lease, Neighbour, NetworkFault, PortState
from net_agent.model import Derived, Network, Port, key_of
from net_agent.specs.specifications import Specifications

Operation = Literal["plug", "unplug", "observe", "keep", "drop"]


@dataclass(slots=True)
class Behaviour:
    """What the simulated host is like; may be changed while it runs.

    latency_s: how long a change takes.
    lease_delay_s: from the plug of an active port until its guest has its lease, and its address is seen.
    fault: asked before each operation; what it returns is raised.
    """

    latency_s: float = 0.0
    lease_delay_s: float = 0.0
    fault: Callable[[Operation, str], NetworkFault | None] = field(default=lambda operation, object_id: None)


class SimulatedDriver:
    """Keeps the promises of `NetworkDriver` in *folder*. `calls` counts what was asked, for tests."""

    def __init__(
        self,
        folder: Path,
        behaviour: Behaviour | None = None,
        *,
        boot_id: str = "",
        physical_networks: Sequence[str] = (),
        tunnel_address: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.calls: Counter[str] = Counter()
        self._physical_networks = tuple(physical_networks)
        self._tunnel_address = tunnel_address
        self._monotonic = monotonic
        _forget_other_boots(folder, boot_id)
        # It need not survive the machine.
        self._specs = Specifications(folder, synced=False)
        # Since when the guest of a port runs here, as far as anybody can see.
        self._active_since: dict[str, float] = {}
        for port in self._specs.wanted.ports.values():
            self._note(port, None)

    @property
    def info(self) -> DriverInfo:
        return DriverInfo(
            name="simulated",
            simulated=True,
            physical_networks=self._physical_networks,
            tunnel_address=self._tunnel_address,
        )

    async def plug(self, port: Port) -> PortState:
        await self._act("plug", port.port_id)
        known = self._specs.wanted.ports.get(port.port_id)
        if known is not None and known.network.network_id != port.network.network_id:
            raise NetworkFault("the port is on another network here", reason="PORT_MOVED", retryable=False)
        self._require_segment(port.network)
        await self._specs.keep(port)
        self._note(port, known)
        return PortState(present=True)

    async def unplug(self, port_id: str) -> None:
        await self._act("unplug", port_id)
        gone = self._specs.leave(("port", port_id))
        self._active_since.pop(port_id, None)
        if isinstance(gone, Port):
            await self._specs.forget(("port", port_id))
            await self._specs.forget_network(gone.network.network_id)

    async def observe(self, port_id: str) -> PortState:
        self._raise_fault("observe", port_id)
        return PortState(present=True) if port_id in self._specs.wanted.ports else ABSENT

    async def keep(self, wanted: Derived) -> None:
        await self._act("keep", key_of(wanted)[1])
        await self._specs.keep(wanted)

    async def drop(self, kind: str, object_id: str) -> None:
        await self._act("drop", object_id)
        self._specs.leave((kind, object_id))
        await self._specs.forget((kind, object_id))

    async def kept(self, kind: str) -> frozenset[str]:
        return self._specs.wanted.keys(kind)

    async def heal(self) -> Faults:
        return {}

    async def conditions(self) -> Faults:
        return {}

    async def known_ports(self) -> frozenset[str]:
        return self._specs.wanted.keys("port")

    async def portless_networks(self) -> Mapping[str, Sequence[str]]:
        return {}

    async def leases(self, network_ids: frozenset[str] | None = None) -> Sequence[Lease]:
        return [
            Lease(port.port_id, port.mac_address, str(address), port.hostname)
            for port in self._booted()
            if network_ids is None or port.network.network_id in network_ids
            for address in port.addresses
        ]

    async def neighbours(self, network_ids: frozenset[str] | None = None) -> Sequence[Neighbour]:
        return [
            Neighbour(port.port_id, port.mac_address, str(address))
            for port in self._booted()
            if network_ids is None or port.network.network_id in network_ids
            for address in port.addresses
        ]

    async def active_ports(self) -> Sequence[Port]:
        return [port for port in self._specs.wanted.ports.values() if port.active]

    async def close(self) -> None:
        await self._specs.close()

    def _require_segment(self, network: Network) -> None:
        if network.physical_network and network.physical_network not in self._physical_networks:
            raise NetworkFault(
                f"this host has no interface for {network.physical_network}",
                reason="PHYSICAL_NETWORK_UNKNOWN",
                reschedule=True,
            )

    def _note(self, port: Port, before: Port | None) -> None:
        same_guest = before is not None and before.active and before.addresses == port.addresses
        if not port.active:
            self._active_since.pop(port.port_id, None)
        elif not same_guest:
            self._active_since[port.port_id] = self._monotonic()

    def _booted(self) -> list[Port]:
        """The ports whose guests have got so far as to ask for an address."""
        latest = self._monotonic() - self.behaviour.lease_delay_s
        ports = self._specs.wanted.ports
        return [ports[port_id] for port_id, since in self._active_since.items() if since <= latest]

    async def _act(self, operation: Operation, object_id: str) -> None:
        self._raise_fault(operation, object_id)
        await asyncio.sleep(self.behaviour.latency_s)

    def _raise_fault(self, operation: Operation, object_id: str) -> None:
        self.calls[operation] += 1
        fault = self.behaviour.fault(operation, object_id)
        if fault is not None:
            raise fault


def _forget_other_boots(folder: Path, boot_id: str) -> None:
    note = folder / "boot_id"
    if note.exists() and note.read_text() == boot_id:
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    note.write_text(boot_id)
