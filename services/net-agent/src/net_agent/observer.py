"""Facts from the guest's side: DHCP gave it a lease, its address answers. Each is said once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import AddressSeen, LeaseSeen
from net_agent.drivers.base import Lease, Neighbour, NetworkDriver, NetworkFault
from net_agent.model import IpAddress, Port

_log = structlog.get_logger(__name__)
# After a restart everything is said anew.
_AT_ONCE = 32


class Report(Protocol):
    """`core.agent.reporter.Reporter.report`."""

    async def __call__(self, kind: str, object_id: str, facts: Message) -> object: ...


class GuestObserver:
    """Looks at leases and neighbours; a restarted one says everything once more, which the cloud ignores.

    Looked at is only where something is still to be seen: a host whose guests have all been seen does nothing here.
    """

    def __init__(self, driver: NetworkDriver, report: Report, *, interval_s: float = 1.0) -> None:
        self._driver = driver
        self._report = report
        self._interval_s = interval_s
        self._leased = _Memory(_leasable)
        self._seen = _Memory(lambda port: port.addresses)

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except (NetworkFault, OSError) as error:
                # A namespace that goes away while it is read; the next look tells.
                _log.warning("guests could not be observed", error=str(error))
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """One look; what is new is reported. Raises what kept a part of it from being told, after the rest was."""
        ports = await self._driver.active_ports()
        self._forget_others(ports)
        news: dict[tuple[str, str], _Sights] = {}
        if lacking := self._leased.networks_lacking(ports):
            for lease in await self._driver.leases(lacking):
                if not self._leased.has(lease):
                    news[lease.port_id, lease.ip_address] = _Sights(lease, None)
        if lacking := self._seen.networks_lacking(ports):
            for seen in await self._driver.neighbours(lacking):
                if not self._seen.has(seen):
                    known = news.get((seen.port_id, seen.ip_address))
                    news[seen.port_id, seen.ip_address] = _Sights(known.lease if known else None, seen)
        unsaid = list(news.items())
        for start in range(0, len(unsaid), _AT_ONCE):
            told = (self._say(*place, sights) for place, sights in unsaid[start : start + _AT_ONCE])
            for failure in await asyncio.gather(*told, return_exceptions=True):
                if failure is not None:
                    raise failure

    async def _say(self, port_id: str, ip_address: str, sights: _Sights) -> None:
        await self._report("port", port_id, sights.facts())
        if sights.lease is not None:
            self._leased.note(sights.lease)
        if sights.neighbour is not None:
            self._seen.note(sights.neighbour)
        leased, answers = sights.lease is not None, sights.neighbour is not None
        _log.info("guest seen", port_id=port_id, ip_address=ip_address, leased=leased, answers=answers)

    def _forget_others(self, ports: Sequence[Port]) -> None:
        """A port that comes back, here as elsewhere, is observed anew; so is an address that a port has again."""
        for memory in (self._leased, self._seen):
            memory.keep(ports)


@dataclass(frozen=True, slots=True)
class _Sights:
    """What one look has shown of an address, at least one of the two: they are said together."""

    lease: Lease | None
    neighbour: Neighbour | None

    def facts(self) -> Message:
        if self.neighbour is None:
            assert self.lease is not None
            return _lease_seen(self.lease)
        return AddressSeen(
            mac_address=self.neighbour.mac_address,
            ip_address=self.neighbour.ip_address,
            lease=_lease_seen(self.lease) if self.lease is not None else None,
        )


def _lease_seen(lease: Lease) -> LeaseSeen:
    return LeaseSeen(mac_address=lease.mac_address, ip_address=lease.ip_address, client_hostname=lease.client_hostname)


def _leasable(port: Port) -> list[IpAddress]:
    """What DHCP gives it: guests make IPv6 addresses themselves."""
    subnets = port.network.dhcp_subnets
    return [address for address in port.addresses if any(address in subnet.cidr for subnet in subnets)]


class _Memory:
    """Which addresses of which ports were told of. expected: of a port, those that something will be told of."""

    def __init__(self, expected: Callable[[Port], Iterable[IpAddress]]) -> None:
        self._expected = expected
        self._addresses: dict[str, set[str]] = {}
        # Ports all of whose addresses were: that is most of them, and each is asked about at each look.
        self._complete: dict[str, Port] = {}
        # Ports as they were at the last look.
        self._last: dict[str, Port] = {}

    def has(self, sight: Lease | Neighbour) -> bool:
        return sight.ip_address in self._addresses.get(sight.port_id, ())

    def note(self, sight: Lease | Neighbour) -> None:
        self._addresses.setdefault(sight.port_id, set()).add(sight.ip_address)

    def networks_lacking(self, ports: Sequence[Port]) -> frozenset[str]:
        """Those with a port that has an address still to be told of."""
        lacking = (port for port in ports if _differs(self._complete.get(port.port_id), port))
        return frozenset(port.network.network_id for port in lacking if not self._completes(port))

    def _completes(self, port: Port) -> bool:
        told = self._addresses.get(port.port_id, set())
        if not told.issuperset(str(address) for address in self._expected(port)):
            return False
        self._complete[port.port_id] = port
        return True

    def keep(self, ports: Sequence[Port]) -> None:
        """Forgets all others. What a port has just got is told of also if it was before; what it has lost is not: its
        guest may use it for a while yet."""
        now = {port.port_id: port for port in ports}
        memory: dict[str, Any]
        for memory in (self._addresses, self._complete, self._last):
            for port_id in memory.keys() - now.keys():
                del memory[port_id]
        for port_id, port in now.items():
            before = self._last.get(port_id)
            if before is not None and _differs(before, port) and port_id in self._addresses:
                got = {*self._expected(port)} - {*self._expected(before)}
                self._addresses[port_id] -= {str(address) for address in got}
        self._last = now


def _differs(before: Port | None, port: Port) -> bool:
    """Most ports are the very same from one look to the next."""
    return before is not port and before != port
