"""All of a testbed: the hosts of a deployment, and the world around them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from core.errors import CirraError
from deployment.config import Config
from deployment.layout import Layout
from deployment.process import READY_FILE_VARIABLE, Program
from deployment.testbed import plan, wires
from deployment.testbed.host import SYSTEM_PATH, Host
from deployment.testbed.plan import Plan
from deployment.testbed.wires import Wires

INTERNET = "internet"
_INTERNET_MODULE = "deployment.testbed.internet"


class NoSuchPlace(CirraError):
    """Neither a host, nor one of the networks around them."""

    reason = "NO_SUCH_PLACE"


class Site:
    """Nothing is made by making one."""

    def __init__(self, layout: Layout, site: Plan, cell: str) -> None:
        self.plan = site
        self.hosts = tuple(Host(layout, site, host, cell) for host in site.hosts)
        self._layout = layout
        self._wires = Wires(site)

    @classmethod
    def of(cls, layout: Layout, config: Config) -> Site | None:
        """None: the deployment's only host is the machine itself."""
        if not config.has_testbed:
            return None
        return cls(layout, Plan.of(layout.root, config.hosts, config.address), config.cell)

    @property
    def internet(self) -> Program:
        """What answers outside; the supervisor keeps it running."""
        ready_file = self._layout.ready_file(INTERNET)
        command = [sys.executable, "-m", _INTERNET_MODULE, str(ready_file)]
        return Program(
            name=INTERNET,
            argv=tuple(self._in_network(self.plan.outside, command)),
            environment={"PATH": SYSTEM_PATH, READY_FILE_VARIABLE: str(ready_file)},
            ready_file=ready_file,
            pid_file=self._layout.pid_file(INTERNET),
            log=self._layout.log(INTERNET),
        )

    def host(self, name: str) -> Host:
        """Raises NoSuchPlace."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise NoSuchPlace(f"there is no host {name}", remedy=f"choose one of: {', '.join(self._host_names())}")

    def enter(self, place: str, *command: str) -> list[str]:
        """The command that runs *command* on a host, outside, or in the office. Raises NoSuchPlace, HostFailed."""
        networks = {plan.OUTSIDE_NAME: self.plan.outside, plan.OFFICE_NAME: self.plan.office}
        if place in networks:
            return self._in_network(networks[place], command)
        if place in self._host_names():
            return self.host(place).enter(*command)
        places = ", ".join([*self._host_names(), *networks])
        raise NoSuchPlace(f"there is no {place} here", remedy=f"choose one of: {places}")

    async def build(self) -> None:
        """The networks, unless they stand: hosts may be running on them. Raises WiringFailed."""
        if await self._wires.stand():
            # Of a supervisor that was killed.
            await wires.end_processes(self.plan.outside)
            return
        await self.remove()
        await self._wires.build()

    async def remove(self) -> None:
        """Hosts lose their power; no process, namespace, interface or control group is left. Disks stay."""
        await asyncio.gather(*(host.power_off() for host in self.hosts))
        await self._wires.remove()

    def _host_names(self) -> list[str]:
        return [host.name for host in self.hosts]

    def _in_network(self, namespace: str, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net={wires.path(namespace)}", "--", *command]
