"""The firewall's tables are read again when the kernel's rules are others than when they were read last."""

from __future__ import annotations

import pytest

from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.guard.kernel import Lookout
from net_agent.drivers.linux.ruleset import Seen


class Kernel:
    """`changes_while_read`: somebody's transaction comes between the number and the tables."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 1
        self.reads: list[str] = []
        self.changes_while_read = False
        monkeypatch.setattr(nftables, "generation", lambda: self.number)
        monkeypatch.setattr(nftables, "read_table", self._read)

    def _read(self, family: str, name: str) -> Seen | None:
        self.reads.append(f"{family} {name}")
        self.number += self.changes_while_read
        return None


def test_one_reading_serves_until_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, lookout = Kernel(monkeypatch), Lookout()
    seen = lookout.look()
    assert lookout.look() is seen and kernel.reads == ["bridge cirra", "inet cirra"]
    kernel.number += 1
    assert lookout.look() is not seen and len(kernel.reads) == 4


def test_what_changes_while_it_is_read_is_seen_by_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, lookout = Kernel(monkeypatch), Lookout()
    kernel.changes_while_read = True
    first = lookout.look()
    kernel.changes_while_read = False
    assert lookout.look() is not first
    assert lookout.look() is lookout.look()
