"""The supervisor: starts everything in order, keeps it running, stops it in reverse. One per deployment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.service import Lifetime
from deployment import clouds, secrets
from deployment.config import Config, reserve_port, with_ports
from deployment.crew import Crew
from deployment.enrolment import ensure_enrolled, wait_usable
from deployment.layout import Layout
from deployment.outside import Outside
from deployment.parts import LibvirtPart, Part, ServerPart, ServicePart
from deployment.process import find
from deployment.servers import OwnServers, Servers, own_servers, servers
from deployment.services import ServiceTable, command_names, port_names
from deployment.settings import inherited_environment
from deployment.testbed.host import Host
from deployment.testbed.site import Site

_LEFTOVER_GRACE_S = 10.0


class Supervisor:
    """`bootstrap` is for `core.service.run`: it starts all parts, and registers their end."""

    def __init__(self, layout: Layout, config: Config) -> None:
        self._layout = layout
        self._config = config
        self._crew = Crew(layout.status)

    async def bootstrap(self, lifetime: Lifetime) -> None:
        """Returns when all is up. Raises what the part that failed says; the status file says it as well."""
        await self._crew.start(lifetime, self._start_all)
        lifetime.ready(endpoint=self._config.ports["api-gateway-1"])

    async def _start_all(self, lifetime: Lifetime) -> None:
        await end_leftovers(self._layout)
        await asyncio.to_thread(secrets.prepare, self._layout, self._config)
        site = Site.of(self._layout, self._config)
        own = own_servers(self._layout, self._config)
        if site is not None:
            # First of all: servers listen on the underlay.
            await site.build()
        environment = inherited_environment()
        if site is None:
            environment = await Outside(self._layout).ensure(environment)
        world = [ServicePart(site.internet)] if site is not None else []
        await self._crew.start_stage(lifetime, [*_server_parts(own), *world])
        self._config = with_ports(self._config, port_names(self._config.replicas))
        self._config.save(self._layout)
        reached = servers(self._layout, self._config)
        table = ServiceTable(self._layout, self._config, reached, environment)
        clouds.write(self._layout, table.addresses.gateway[0])
        await self._crew.start_stage(lifetime, [ServicePart(program) for program in table.control_plane()])
        if site is None:
            await self._start_this_host(lifetime, table, reached)
        else:
            await self._start_hosts(site, table, reached)

    async def _start_this_host(self, lifetime: Lifetime, table: ServiceTable, reached: Servers) -> None:
        name = self._config.host
        await ensure_enrolled(self._layout, self._layout.host, name, table.addresses, reached)
        await self._crew.start_stage(lifetime, [ServicePart(program) for program in table.agents()])
        await wait_usable(self._layout, name, self._layout.logs)

    async def _start_hosts(self, site: Site, table: ServiceTable, reached: Servers) -> None:
        """They have supervisors of their own, and are left running when this one ends: machines, not parts."""

        async def start(host: Host) -> None:
            moved = await ensure_enrolled(self._layout, host.layout.host, host.name, table.addresses, reached)
            await host.start(inherited_environment(), restart_agents=moved)
            await wait_usable(self._layout, host.name, host.layout.logs)

        results = await asyncio.gather(*map(start, site.hosts), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result


def _server_parts(own: OwnServers) -> list[Part]:
    parts: list[Part] = []
    for server in (own.postgres, own.nats):
        if server is not None:
            reserve_port(server.folder, server.address)
            parts.append(ServerPart(server))
    if own.libvirtd is not None:
        parts.append(LibvirtPart(own.libvirtd))
    return parts


async def end_leftovers(layout: Layout) -> list[int]:
    """Ends services that a killed supervisor left behind; the pids. Agents touch no guest when they end."""
    leftovers = await asyncio.to_thread(find, layout.run, command_names())
    await asyncio.gather(*(process.end(_LEFTOVER_GRACE_S) for process in leftovers))
    for pid_file in layout.run.glob("*.pid"):
        pid_file.unlink(missing_ok=True)
    return [process.pid for process in leftovers]


def supervisor_log(layout: Layout) -> Path:
    return layout.log("supervisor")
