"""What a diagnosis stands on: what the host was told, and its parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.link_table import LinkTable
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks, Part
from net_agent.drivers.linux.proxy import ProxyIdentity
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Network, Port
from net_agent.specs.wanted import Scope, Wanted


@dataclass(frozen=True, slots=True)
class Ground:
    """One port of a host, with its network's newest description; `scope`: that port.

    uplink_of: the interface of a network's physical network; None: none, or this host has none for it.
    joint: the interface that joins a network's bridge to what is beyond this host; raises NetworkFault.
    folder: with the network's files.
    """

    port: Port
    scope: Scope
    wanted: Wanted
    parts: Sequence[Part]
    joint: Callable[[Network], str | None]
    uplink_of: Callable[[Network], str | None]
    folder: Path
    namespaces: Namespaces
    identity: ProxyIdentity

    @property
    def network(self) -> Network:
        return self.port.network

    @property
    def uplink(self) -> str | None:
        """Of the port's network."""
        return self.uplink_of(self.network)

    def joint_of(self, network: Network) -> str:
        """Empty: nothing joins it, or this host has no way to its segment."""
        try:
            return self.joint(network) or ""
        except NetworkFault:
            return ""

    async def lacks(self, *names: str) -> list[str]:
        """What the port lacks of these parts of the host, as they see it now."""
        with self._view(whole=False) as view:
            found = [await part.observe(self.wanted, self.scope, view) for part in self.parts if part.name in names]
        return [text for each in found for text in each.values()]

    async def look(self, name: str, keys: Collection[Key]) -> Lacks:
        """What these objects lack of one part, at a look at the whole host."""
        scope = Scope.of(self.wanted, keys)
        with self._view(whole=True) as view:
            found = [await part.observe(self.wanted, scope, view) for part in self.parts if part.name == name]
        return {key: text for each in found for key, text in each.items()}

    @contextmanager
    def _view(self, *, whole: bool) -> Iterator[HostView]:
        table = LinkTable(self.namespaces)
        try:
            yield HostView(table, whole=whole)
        finally:
            table.close()
