"""The taps of this host's ports, as a part of the driver."""

from __future__ import annotations

from functools import partial

from net_agent.drivers.base import Faults, NetworkFault
from net_agent.drivers.linux import tap
from net_agent.drivers.linux.faults import noted
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Model
from net_agent.specs.wanted import Scope, Wanted


class Taps:
    """See `Part`. A port's tap stands on its network's bridge once the rules that guard it are in force."""

    name = "taps"

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        faults: dict[Key, NetworkFault] = {}
        for port in scope.ports:
            with noted(faults, [("port", port.port_id)], f"plug {port.device}"):
                await self._namespaces.on_host(partial(tap.ensure_tap, port))
        return faults

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        if not scope.ports:
            return {}
        names = {port.device for port in scope.ports} | {port.network.bridge for port in scope.ports}
        links = await view.links(names)
        lacks = {}
        for port in scope.ports:
            found = links.get(port.device)
            if found is None or not links.is_on(port.device, port.network.bridge) or found.mtu != port.network.mtu:
                lacks["port", port.port_id] = "the tap is not up on its bridge"
        return lacks

    async def remove(self, key: Key, last: Model | None) -> None:
        if key[0] == "port":
            await self._namespaces.on_host(lambda: tap.remove_tap(key[1]))

    async def clear(self) -> None:
        await self._namespaces.on_host(tap.remove_taps)
