"""The detector, cut from Postgres: another one takes over in time, and it declares nothing when it is back.

Stops and kills of it are in tests/integration/liveness.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.embedded.postgres import EmbeddedPostgres
from core.testing.faults.link import TcpLink
from core.testing.servers import Cell
from placement.hosts.host import Health
from tests.harness.promptness import in_rounds, in_time
from tests.integration.liveness.replicas import WINDOW_S, Replica, environment
from tests.integration.liveness.world import DOWN_S, LATE_S, BeatingHost, World, world

CUTS: dict[str, Callable[[TcpLink], AbstractContextManager[None]]] = {
    "silence": lambda link: link.blackholed(),
    "resets": lambda link: link.away(),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Two replicas, each with its own link to Postgres."""

    world: World
    links: dict[Replica, TcpLink]
    hosts: list[BeatingHost]

    async def detecting_and_other(self) -> list[Replica]:
        term = await self.world.detector()
        return sorted(self.links, key=lambda replica: not term.replica.startswith(replica.name))

    def pids(self) -> list[int]:
        return [pid for replica in self.links for pid in replica.pids]


@pytest.fixture
async def stage(cell: Cell, postgres_server: EmbeddedPostgres, tmp_path: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        nats, links = [cell.nats_url], {}
        quiet = await stack.enter_async_context(
            world(cell=cell.name, dsn=cell.dsn, nats_urls=nats, credentials=cell.credentials)
        )
        settings = environment(tmp_path, cell=cell.name, dsn=cell.dsn, nats_urls=nats, credentials=cell.credentials)
        for name in ("placement-1", "placement-2"):
            link = await stack.enter_async_context(TcpLink(postgres_server.port))
            replica = Replica(name, tmp_path, settings | {"CIRRA_POSTGRES_DSN": link.url(cell.dsn)})
            links[replica] = link
            stack.push_async_callback(replica.end, signal.SIGKILL)
        await asyncio.gather(*(replica.start() for replica in links))
        yield Stage(quiet, links, await quiet.hosts("host-1", "host-2"))


@pytest.mark.parametrize("cut", CUTS)
async def test_a_detector_that_is_cut_off_is_replaced_and_declares_nothing(stage: Stage, cut: str) -> None:
    async def play() -> None:
        await stage.world.as_ever([*stage.links], stage.hosts)
        await _is_cut_off(stage, cut)

    await in_rounds(play, late_s=LATE_S, pids=stage.pids)


async def _is_cut_off(stage: Stage, cut: str) -> None:
    quiet, (well, dead) = stage.world, stage.hosts
    victim, heir = await stage.detecting_and_other()
    term, before = (await quiet.detector()).term, await quiet.position()
    with CUTS[cut](stage.links[victim]):
        await dead.silence()
        successor = await quiet.takeover(term, stage.links)
        assert successor.replica.startswith(heir.name)
        await quiet.until(dead, Health.DOWN, DOWN_S)
    assert await quiet.downs(before) == [dead.name]
    back_at = await quiet.position()
    # Whatever it believes: two windows in which it could have said so.
    await asyncio.sleep(WINDOW_S * 2)
    assert await quiet.of_earlier_terms(back_at, successor.term) == []
    await quiet.nothing_declared(back_at, stage.hosts)
    in_time((await quiet.detector()).term == successor.term, "nobody takes over from who renews its lease")
    await quiet.all_up([well])

    await heir.end(signal.SIGTERM)  # it is of use again
    assert (await quiet.next_term(successor.term)).replica.startswith(victim.name)
    victim.require_alive()
