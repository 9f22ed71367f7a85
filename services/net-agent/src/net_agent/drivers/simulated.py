"""A driver without a host: for tests of scale and of faults. Its inventory says that it is simulated.

What is plugged is in files, since a kernel keeps taps whatever becomes of the agent, and forgets them at a boot.

<folder>/boot_id           of the boot that the rest is of
<folder>/<port id>.port    a plugged port: its `PortSpec` (protobuf)
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cirra.agent.v1.desired_pb2 import PortSpec
from net_agent.drivers.base import ABSENT, DriverInfo, Lease, Neighbour, NetworkFault, PortState
from net_agent.model import Network, Port, port_from_spec, port_to_spec

Operation = Literal["plug", "unplug", "observe"]


@dataclass(slots=True)
class Behaviour:
    """What the simulated host is like; may be changed while it runs.

    latency_s: how long a plug or an unplug takes.
    lease_delay_s: from the plug of an active port until its guest has its lease, and its address is seen.
    fault: asked before each operation; what it returns is raised.
    """

    latency_s: float = 0.0
    lease_delay_s: float = 0.0
    fault: Callable[[Operation, str], NetworkFault | None] = field(default=lambda operation, port_id: None)


@dataclass(frozen=True, slots=True)
class _Plugged:
    port: Port
    active_since: float | None


class SimulatedDriver:
    """Keeps the promises of `NetworkDriver` in *folder*. `calls` counts what was asked, for tests."""

    def __init__(
        self,
        folder: Path,
        behaviour: Behaviour | None = None,
        *,
        boot_id: str = "",
        physical_networks: Sequence[str] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.calls: Counter[str] = Counter()
        self._folder = folder
        self._physical_networks = tuple(physical_networks)
        self._monotonic = monotonic
        self._ports: dict[str, _Plugged] = {}
        self._networks: dict[str, Network] = {}
        _forget_other_boots(folder, boot_id)
        for port in _kept_in(folder):
            self._plugged(port)

    @property
    def info(self) -> DriverInfo:
        return DriverInfo(name="simulated", simulated=True, physical_networks=self._physical_networks)

    async def plug(self, port: Port) -> None:
        await self._act("plug", port.port_id)
        known = self._ports.get(port.port_id)
        if known is not None and known.port.network.network_id != port.network.network_id:
            raise NetworkFault("the port is on another network here", reason="PORT_MOVED", retryable=False)
        if port.network.physical_network and port.network.physical_network not in self._physical_networks:
            raise NetworkFault(
                f"this host has no interface for {port.network.physical_network}",
                reason="PHYSICAL_NETWORK_UNKNOWN",
                reschedule=True,
            )
        if known is None or known.port != port:
            _keep(self._folder, port)
        self._plugged(port)

    async def unplug(self, port_id: str) -> None:
        await self._act("unplug", port_id)
        _file(self._folder, port_id).unlink(missing_ok=True)
        gone = self._ports.pop(port_id, None)
        if gone is not None and not any(
            other.port.network.network_id == gone.port.network.network_id for other in self._ports.values()
        ):
            del self._networks[gone.port.network.network_id]

    async def observe(self, port_id: str) -> PortState:
        self._raise_fault("observe", port_id)
        if port_id not in self._ports:
            return ABSENT
        return replace(ABSENT, present=True, plugged=True, guarded=True, dhcp=True, metadata=True)

    async def known_ports(self) -> frozenset[str]:
        return frozenset(self._ports)

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
        return [plugged.port for plugged in self._ports.values() if plugged.active_since is not None]

    async def close(self) -> None:
        """There is nothing to free."""

    def _plugged(self, port: Port) -> None:
        network = self._networks.get(port.network.network_id)
        if network is None or port.network.generation >= network.generation:
            self._networks[port.network.network_id] = port.network
        known = self._ports.get(port.port_id)
        same_guest = known is not None and known.port.active and known.port.addresses == port.addresses
        since = known.active_since if known is not None and same_guest else self._monotonic()
        self._ports[port.port_id] = _Plugged(port, since if port.active else None)

    def _booted(self) -> list[Port]:
        """The ports whose guests have got so far as to ask for an address."""
        latest = self._monotonic() - self.behaviour.lease_delay_s
        return [
            plugged.port
            for plugged in self._ports.values()
            if plugged.active_since is not None and plugged.active_since <= latest
        ]

    async def _act(self, operation: Operation, port_id: str) -> None:
        self._raise_fault(operation, port_id)
        await asyncio.sleep(self.behaviour.latency_s)

    def _raise_fault(self, operation: Operation, port_id: str) -> None:
        self.calls[operation] += 1
        fault = self.behaviour.fault(operation, port_id)
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


def _kept_in(folder: Path) -> list[Port]:
    return [port_from_spec(PortSpec.FromString(path.read_bytes())) for path in sorted(folder.glob("*.port"))]


def _keep(folder: Path, port: Port) -> None:
    """Whole or not at all. Not synced: it need not survive the machine."""
    draft = folder / f"{port.port_id}.new"
    draft.write_bytes(port_to_spec(port).SerializeToString())
    draft.rename(_file(folder, port.port_id))


def _file(folder: Path, port_id: str) -> Path:
    return folder / f"{port_id}.port"
