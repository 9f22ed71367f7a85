"""Facts from the guest's side: DHCP gave it a lease, its address answers. Each is said once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog
from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import AddressSeen, LeaseSeen
from net_agent.drivers.base import Lease, Neighbour, NetworkDriver, NetworkFault
from net_agent.model import Port

_log = structlog.get_logger(__name__)


class Report(Protocol):
    """`core.agent.reporter.Reporter.report`."""

    async def __call__(self, kind: str, object_id: str, facts: Message) -> object: ...


class GuestObserver:
    """Looks at leases and neighbours; a restarted one says everything once more, which the cloud ignores.

    Neighbours are read only where an address is still unseen: a host whose guests have all been seen does nothing here.
    """

    def __init__(self, driver: NetworkDriver, report: Report, *, interval_s: float = 1.0) -> None:
        self._driver = driver
        self._report = report
        self._interval_s = interval_s
        # port id → addresses
        self._leased: dict[str, set[str]] = {}
        self._seen: dict[str, set[str]] = {}

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except (NetworkFault, OSError) as error:
                # A namespace that goes away while it is read; the next look tells.
                _log.warning("guests could not be observed", error=str(error))
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """One look; what is new is reported."""
        ports = await self._driver.active_ports()
        self._forget_others(ports)
        for lease in await self._driver.leases():
            await self._say_lease(lease)
        if unseen := self._networks_with_unseen(ports):
            for neighbour in await self._driver.neighbours(unseen):
                await self._say_address(neighbour)

    async def _say_lease(self, lease: Lease) -> None:
        known = self._leased.setdefault(lease.port_id, set())
        if lease.ip_address not in known:
            facts = LeaseSeen(
                mac_address=lease.mac_address, ip_address=lease.ip_address, client_hostname=lease.client_hostname
            )
            await self._report("port", lease.port_id, facts)
            known.add(lease.ip_address)
            _log.info("lease seen", port_id=lease.port_id, ip_address=lease.ip_address)

    async def _say_address(self, neighbour: Neighbour) -> None:
        known = self._seen.setdefault(neighbour.port_id, set())
        if neighbour.ip_address not in known:
            facts = AddressSeen(mac_address=neighbour.mac_address, ip_address=neighbour.ip_address)
            await self._report("port", neighbour.port_id, facts)
            known.add(neighbour.ip_address)
            _log.info("address seen", port_id=neighbour.port_id, ip_address=neighbour.ip_address)

    def _networks_with_unseen(self, ports: Sequence[Port]) -> frozenset[str]:
        return frozenset(
            port.network.network_id
            for port in ports
            if not self._seen.get(port.port_id, set()).issuperset(str(address) for address in port.addresses)
        )

    def _forget_others(self, ports: Sequence[Port]) -> None:
        """A port that comes back, here as elsewhere, is observed anew."""
        active = {port.port_id for port in ports}
        for memory in (self._leased, self._seen):
            for port_id in memory.keys() - active:
                del memory[port_id]
