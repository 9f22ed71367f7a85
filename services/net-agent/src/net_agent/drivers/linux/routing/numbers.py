"""Which link each router has to its external namespace on this host, kept on disk: connections know its addresses."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path

from core.pki.files import write_public
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.routing.names import MAX_LINKS, LinkAddresses


class LinkNumbers:
    """The agent is the only writer of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, int] | None = None

    def allot(self, router_ids: Set[str]) -> dict[str, LinkAddresses]:
        """A link for each of these routers: the one that it had, else the lowest free one; others lose theirs. Blocks.

        Raises NetworkFault when there are no more.
        """
        known = self._known()
        wanted = {router_id: known[router_id] for router_id in router_ids if router_id in known}
        free = iter(sorted(set(range(len(router_ids))) - set(wanted.values())))
        for router_id in sorted(router_ids - wanted.keys()):
            wanted[router_id] = next(free)
        if len(wanted) > MAX_LINKS:
            raise NetworkFault(f"a host has at most {MAX_LINKS} routers with a way out", reason="TOO_MANY_ROUTERS")
        if wanted != known:
            write_public(self._path, json.dumps(wanted, sort_keys=True, indent=1).encode())
            self._numbers = wanted
        return {router_id: LinkAddresses(number) for router_id, number in wanted.items()}

    def _known(self) -> dict[str, int]:
        if self._numbers is None:
            self._numbers = json.loads(self._path.read_text()) if self._path.exists() else {}
        return self._numbers
