"""Routers and floating IPs as a part of the driver: `Routers`, told what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from net_agent.drivers.base import Faults
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.routing.desired import routing
from net_agent.drivers.linux.routing.routers import Routers
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Model
from net_agent.specs.wanted import Scope, Wanted

_KINDS = ("router", "floating-ip")


class RoutingPart:
    """See `Part`. folder: of its own. wanted: what is known to this host; who removes an object doesn't say."""

    name = "routers"

    def __init__(self, namespaces: Namespaces, folder: Path, wanted: Callable[[], Wanted]) -> None:
        self._routers = Routers(namespaces, folder)
        self._wanted = wanted

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        """A port, a peer and a network concern routers as those that are on it."""
        suspects = scope.of_kind("router")
        if not suspects and not scope.of_kind("floating-ip") and not _concerned(wanted, scope):
            return {}
        return await self._ensure(wanted, suspects)

    async def _ensure(self, wanted: Wanted, suspects: list[str]) -> Faults:
        faults = await self._routers.ensure(routing(wanted), suspects)
        return {("router", router_id): fault for router_id, fault in faults.items()}

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        """Nothing of it is a port's: that is wired without its router."""
        if not scope.of_kind("router"):
            return {}
        wrong = await self._routers.observe(routing(wanted))
        return {("router", router_id): "; ".join(words) for router_id, words in wrong.items()}

    async def remove(self, key: Key, last: Model | None) -> None:
        if key[0] in _KINDS:
            faults = await self._ensure(self._wanted(), [])
            if key in faults:
                raise faults[key]

    async def clear(self) -> None:
        await self._routers.clear()

    async def close(self) -> None:
        """What it still has to say to others is left unsaid; what it made stays."""
        await self._routers.close()


def _concerned(wanted: Wanted, scope: Scope) -> bool:
    networks = {network.network_id for network in scope.networks}
    return any(
        interface.network_id in networks for router in wanted.routers.values() for interface in router.interfaces
    ) or any(router.gateway.network_id in networks for router in wanted.routers.values() if router.gateway is not None)
