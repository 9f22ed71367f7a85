"""Do the host's own rules eat what its bridges pass on? Looked at now and then, without anybody asking (ADR 29).

Cheap where there is nothing to find: the kernel's number of its rules says whether any have changed, and only others'
tables are read. (Those of iptables-legacy, if it is used at all, are read each time: they have no such number.) Where
some of these might reject, a probe says whether they do: one guest of each network asks for its address. A network that
is let pass is not asked again before others' rules are different ones.
"""

from __future__ import annotations

import asyncio

from net_agent.diagnosis.finding import State
from net_agent.diagnosis.hops.host_filter import suspects
from net_agent.diagnosis.legacy import list_legacy
from net_agent.diagnosis.nft import Listing, list_foreign
from net_agent.diagnosis.reader import PathReader
from net_agent.diagnosis.table import HOST_FILTER
from net_agent.drivers.base import Faults, NetworkFault
from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.driver import LinuxDriver
from net_agent.model import Port

# Networks that are asked at the same time.
_AT_ONCE = 8
# On a busy host an answer may come too late: who is not heard is asked again before anything is said.
_TIMES = 2


class HostFilterWatch:
    """reader: it lets no two probes of one port meet."""

    def __init__(self, driver: LinuxDriver, reader: PathReader) -> None:
        self._driver = driver
        self._reader = reader
        self._generation: int | None = None
        self._rules: Listing = []
        self._legacy: Listing = []
        self._passing: set[str] = set()

    async def conditions(self) -> Faults:
        """A fault for each network whose guests are not heard, though all of Cirra's is as it shall be.

        Raises CirraError, OSError, subprocess.SubprocessError when it can't be found out.
        """
        ports = [port for port in await self._driver.active_ports() if port.network.dhcp_subnets]
        if not ports or not await self._suspected(ports[0]):
            return {}
        asked = asyncio.Semaphore(_AT_ONCE)

        async def ask(port: Port) -> NetworkFault | None:
            async with asked:
                return await self._fault(port)

        chosen = {port.network.network_id: port for port in reversed(ports)}
        chosen = {network_id: port for network_id, port in chosen.items() if network_id not in self._passing}
        told = await asyncio.gather(*map(ask, chosen.values()))
        return {("network", network_id): fault for network_id, fault in zip(chosen, told, strict=True) if fault}

    async def _suspected(self, port: Port) -> bool:
        """Whether rules of others might reject."""
        ground = await self._driver.ground(port.port_id)
        if ground is None:
            return False
        # The number is asked for first: what changes meanwhile is seen by the next look.
        generation = await ground.namespaces.on_host(nftables.generation)
        if generation != self._generation:
            rules = await ground.namespaces.on_host(list_foreign)
            if rules != self._rules:
                self._passing.clear()
            self._rules, self._generation = rules, generation
        legacy = await ground.namespaces.on_host(list_legacy)
        if legacy != self._legacy:
            self._passing.clear()
        self._legacy = legacy
        return bool(suspects(self._rules + self._legacy))

    async def _fault(self, port: Port) -> NetworkFault | None:
        # What lacks something gets no answer for that reason.
        if not (await self._driver.observe(port.port_id)).wired:
            return None
        fault = None
        for _ in range(_TIMES):
            finding = await self._reader.look(port.port_id, HOST_FILTER)
            if finding is None or finding.state is State.UNKNOWN:
                return None
            if finding.state is State.OK:
                self._passing.add(port.network.network_id)
                return None
            fault = NetworkFault(finding.observed, reason=finding.reason, remedy=finding.remedy)
        return fault
