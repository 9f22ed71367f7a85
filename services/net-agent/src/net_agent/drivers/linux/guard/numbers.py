"""Numbers that a host gives its networks (conntrack zones) and taps (marks), and remembers on its disk. Blocks.

A network keeps its zone as long as it stands, also over a restart: with another one its connections would be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path

from core.pki.files import write_public
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.files import make_folder

# 0 is everybody else's.
MAX_ZONE = 0xFFFF


class Numbers:
    """One file's: each of some names has the lowest number from 1 on that was free when it came."""

    def __init__(self, path: Path, highest: int) -> None:
        self._path = path
        self._highest = highest
        self._known: dict[str, int] | None = None

    def of(self, names: Set[str]) -> dict[str, int]:
        """Others lose theirs. Raises NetworkFault when there are not enough."""
        known = self._read()
        wanted = {name: known[name] for name in names & known.keys()}
        if len(names) > self._highest:
            raise NetworkFault(f"a host has at most {self._highest} of them", reason="NUMBERS_EXHAUSTED")
        free = iter(sorted(set(range(1, len(names) + 1)) - set(wanted.values())))
        for name in sorted(names - wanted.keys()):
            wanted[name] = next(free)
        if wanted != known:
            make_folder(self._path.parent)
            write_public(self._path, json.dumps(wanted, sort_keys=True, indent=1).encode())
            self._known = wanted
        return dict(wanted)

    def forget(self) -> None:
        """All of them."""
        self._path.unlink(missing_ok=True)
        self._known = None

    def _read(self) -> dict[str, int]:
        if self._known is None:
            self._known = json.loads(self._path.read_text()) if self._path.exists() else {}
        return self._known
