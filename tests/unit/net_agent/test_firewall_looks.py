"""A look at what is right costs nothing: it neither plans nor reads anew. What changes, whoever did it, is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.firewall import Firewall
from net_agent.drivers.linux.guard import conntrack, kernel
from net_agent.drivers.linux.guard.backends import BridgeBackend
from net_agent.drivers.linux.guard.plan import Plan
from net_agent.drivers.linux.link_table import LinkTable
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.ruleset import Seen, Table, seen_of
from net_agent.drivers.linux.view import HostView
from net_agent.model import Network, Port
from net_agent.specs.specifications import Specifications
from net_agent.specs.wanted import Scope
from tests.unit.net_agent.samples import PEER, make_port

T = TypeVar("T")


class HereAndNow(Namespaces):
    async def on_host(self, function: Callable[[], T]) -> T:
        # As long as it takes in a thread, others may run.
        await asyncio.sleep(0)
        return function()


class Host:
    """A firewall, and a kernel that has what was drawn last once it is applied. Everything that costs is counted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 1
        self.tables: dict[str, Seen] = {}
        self.reads = self.writes = self.plans = self.drawings = 0
        self.refuses = False
        # Transactions of somebody else, right after ours.
        self.others = 0
        self._drawn: tuple[Table, ...] = ()
        monkeypatch.setattr(nftables, "generation", lambda: self.number)
        monkeypatch.setattr(nftables, "read_table", self._read)
        monkeypatch.setattr(nftables, "apply", self._apply)
        monkeypatch.setattr(kernel, "best_backend", self._backend)
        monkeypatch.setattr(conntrack, "flows_of", lambda zone: [])
        monkeypatch.setattr(conntrack, "carry_out", lambda zone, sentence: None)
        self.namespaces = HereAndNow()
        self.specs = Specifications(folder, synced=False)
        self.firewall = Firewall(self.namespaces, self._joint, self.specs)

    def _joint(self, network: Network) -> None:
        """There is one network, and each plan asks for it once."""
        self.plans += 1

    def _backend(self) -> Any:
        host = self

        class Counting(BridgeBackend):
            def tables(self, plan: Plan) -> tuple[Table, ...]:
                host.drawings += 1
                host._drawn = super().tables(plan)
                return host._drawn

        return Counting()

    def _read(self, family: str, name: str) -> Seen | None:
        self.reads += 1
        return self.tables.get(family)

    def _apply(self, script: str) -> None:
        if self.refuses:
            raise NetworkFault("nftables refused a change")
        self.writes += 1
        self.number += 1 + self.others
        self.tables = {table.family: seen_of(table) for table in self._drawn}

    def somebody_flushes(self) -> None:
        self.tables = {}
        self.number += 1

    async def plug(self, port: Port) -> None:
        await self.specs.keep(port)
        await self.firewall.ensure(self.specs.wanted, self._scope(port))

    async def lacks(self, port: Port) -> bool:
        view = HostView(LinkTable(self.namespaces), whole=False)
        return bool(await self.firewall.observe(self.specs.wanted, self._scope(port), view))

    def _scope(self, port: Port) -> Scope:
        return Scope.of(self.specs.wanted, [("port", port.port_id)])

    @property
    def costs(self) -> tuple[int, int, int]:
        return self.plans, self.drawings, self.reads


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


PORT, OTHER = make_port(11), make_port(12)


async def test_a_look_where_nothing_changed_neither_plans_nor_reads(host: Host) -> None:
    await host.plug(PORT)
    assert (host.costs, host.writes) == ((1, 1, 2), 1), "two tables were read before they were written, and not since"
    for _ in range(5):
        assert not await host.lacks(PORT)
        await host.plug(PORT)
    # Where another host's guest is, is no matter of rules.
    await host.specs.keep(PEER)
    assert not await host.lacks(PORT)
    assert (host.costs, host.writes) == ((1, 1, 2), 1)


async def test_each_change_of_what_is_wanted_is_planned_once_and_nothing_is_read(host: Host) -> None:
    await host.plug(PORT)
    for count, port in enumerate((OTHER, replace(OTHER, unguarded=True)), 2):
        await host.plug(port)
        assert not await host.lacks(port) and not await host.lacks(PORT)
        assert (host.costs, host.writes) == ((count, count, 2), count)
    host.specs.leave(("port", OTHER.port_id))
    await host.firewall.remove(("port", OTHER.port_id), OTHER)
    await host.specs.forget(("port", OTHER.port_id))
    assert not await host.lacks(PORT)
    assert host.writes == 4 and host.reads == 2
    assert OTHER.device not in host.tables["bridge"].comments


async def test_what_somebody_else_changes_is_seen_and_mended(host: Host) -> None:
    await host.plug(PORT)
    host.somebody_flushes()
    assert await host.lacks(PORT)
    assert host.reads == 4 and host.plans == 1
    await host.plug(PORT)
    assert host.tables and not await host.lacks(PORT)


async def test_where_somebody_else_changed_something_too_it_is_read_again(host: Host) -> None:
    host.others = 1
    await host.plug(PORT)
    assert not await host.lacks(PORT)
    assert host.reads == 4


async def test_what_was_refused_is_not_taken_as_written(host: Host) -> None:
    host.refuses = True
    with pytest.raises(NetworkFault):
        await host.plug(PORT)
    assert await host.lacks(PORT)
    host.refuses = False
    await host.plug(PORT)
    assert host.writes == 1 and not await host.lacks(PORT)


async def test_passes_at_the_same_time_come_one_after_the_other(host: Host) -> None:
    for port in (PORT, OTHER):
        await host.specs.keep(port)
    await asyncio.gather(*(host.plug(port) for port in (PORT, OTHER) * 4))
    assert (host.costs, host.writes) == ((1, 1, 2), 1)
