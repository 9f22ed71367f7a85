"""What a diagnosis stands on: what the host was told, and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Part
from net_agent.drivers.linux.proxy import ProxyIdentity
from net_agent.drivers.linux.view import HostView
from net_agent.model import Network, Port
from net_agent.specs.wanted import Scope, Wanted


@dataclass(frozen=True, slots=True)
class Ground:
    """One port of a host, with its network's newest description; `scope`: that port.

    uplink: the interface of the network's physical network; None: none, or this host has none for it.
    folder: with the network's files.
    """

    port: Port
    scope: Scope
    wanted: Wanted
    parts: Sequence[Part]
    uplink: str | None
    folder: Path
    namespaces: Namespaces
    identity: ProxyIdentity

    @property
    def network(self) -> Network:
        return self.port.network

    async def lacks(self, *names: str) -> list[str]:
        """What the port lacks of these parts of the host, as they see it now."""
        view = HostView(self.namespaces, whole=False)
        found = [await part.observe(self.wanted, self.scope, view) for part in self.parts if part.name in names]
        return [text for each in found for text in each.values()]
