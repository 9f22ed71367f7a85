"""What this host must remember of routers, on its disk. The agent is the only writer; everything here blocks."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

from core.pki.files import write_public
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.files import make_folder
from net_agent.drivers.linux.routing.names import MAX_LINKS, LinkAddresses


class LinkNumbers:
    """Which link each router has to its external namespace: connections know its addresses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, int] | None = None

    def allot(self, router_ids: Set[str]) -> dict[str, LinkAddresses]:
        """A link for each of these routers: the one that it had, else the lowest free one; others lose theirs.

        Raises NetworkFault when there are no more.
        """
        if self._numbers is None:
            self._numbers = _read(self._path, {})
        known = self._numbers
        wanted = {router_id: known[router_id] for router_id in router_ids if router_id in known}
        free = iter(sorted(set(range(len(router_ids))) - set(wanted.values())))
        for router_id in sorted(router_ids - wanted.keys()):
            wanted[router_id] = next(free)
        if len(wanted) > MAX_LINKS:
            raise NetworkFault(f"a host has at most {MAX_LINKS} routers with a way out", reason="TOO_MANY_ROUTERS")
        if wanted != known:
            _write(self._path, wanted)
            self._numbers = wanted
        return {router_id: LinkAddresses(number) for router_id, number in wanted.items()}


class Spaces:
    """The namespaces that this host has made: hosts that share a machine may bind theirs in one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: frozenset[str] | None = None

    def names(self) -> frozenset[str]:
        if self._names is None:
            self._names = frozenset(_read(self._path, []))
        return self._names

    def set(self, names: Set[str]) -> None:
        """Written down before the first of them is made, and until the last is gone."""
        if names != self.names():
            _write(self._path, sorted(names))
            self._names = frozenset(names)


def _read(path: Path, default: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else default


def _write(path: Path, value: Any) -> None:
    make_folder(path.parent)
    write_public(path, json.dumps(value, sort_keys=True, indent=1).encode())
