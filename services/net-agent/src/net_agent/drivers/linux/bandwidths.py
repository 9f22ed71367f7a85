"""The bandwidth of this host's ports, as a part of the driver."""

from __future__ import annotations

from functools import partial

from net_agent.drivers.base import Faults, NetworkFault
from net_agent.drivers.linux import bandwidth
from net_agent.drivers.linux.bandwidth import Shape
from net_agent.drivers.linux.faults import noted
from net_agent.drivers.linux.link_table import LinkTable
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Model, Port
from net_agent.specs.wanted import Scope, Wanted


class Bandwidths:
    """See `Part`. Taps stand already."""

    name = "bandwidth"

    def __init__(self, namespaces: Namespaces, table: LinkTable) -> None:
        self._namespaces = namespaces
        self._table = table

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        faults: dict[Key, NetworkFault] = {}
        for port, present in await self._wrong(scope, HostView(self._table, whole=False)):
            with noted(faults, [("port", port.port_id)], f"bandwidth of {port.device}"):
                await self._namespaces.on_host(partial(bandwidth.ensure_bandwidth, port, present))
        return faults

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        wrong = await self._wrong(scope, view)
        return {("port", port.port_id): "its bandwidth is not as it shall be" for port, _ in wrong}

    async def _wrong(self, scope: Scope, view: HostView) -> list[tuple[Port, Shape]]:
        """The ports that have not what they shall have, each with what it has."""
        if not scope.ports:
            return []
        links = await view.links(bandwidth.devices_of(scope.ports))
        shapes = await self._namespaces.on_host(partial(bandwidth.read_shapes, scope.ports, links))
        found = ((port, shapes[port.port_id]) for port in scope.ports)
        return [(port, present) for port, present in found if present != bandwidth.wanted_shape(port)]

    async def remove(self, key: Key, last: Model | None) -> None:
        if key[0] == "port":
            await self._namespaces.on_host(lambda: bandwidth.remove_bandwidth(key[1]))

    async def clear(self) -> None:
        for port_id in await self._namespaces.on_host(bandwidth.detoured_ports):
            await self._namespaces.on_host(partial(bandwidth.remove_bandwidth, port_id))
