"""The detector, cut from Postgres: another one takes over meanwhile, and it declares nothing when it is back.

Stops and kills of it are in tests/integration/liveness.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path

import pytest

from core.embedded.postgres import EmbeddedPostgres
from core.testing.faults.link import TcpLink
from core.testing.servers import Cell
from placement.hosts.host import Health
from tests.integration.liveness.replicas import WINDOW_S, Replica, environment
from tests.integration.liveness.world import world

CUTS: dict[str, Callable[[TcpLink], AbstractContextManager[None]]] = {
    "silence": lambda link: link.blackholed(),
    "resets": lambda link: link.away(),
}


@pytest.mark.parametrize("cut", CUTS)
async def test_a_detector_that_is_cut_off_is_replaced_and_declares_nothing(
    cell: Cell, postgres_server: EmbeddedPostgres, tmp_path: Path, cut: str
) -> None:
    async with AsyncExitStack() as stack:
        nats = [cell.nats_url]
        quiet = await stack.enter_async_context(
            world(cell=cell.name, dsn=cell.dsn, nats_urls=nats, credentials=cell.credentials)
        )
        link = await stack.enter_async_context(TcpLink(postgres_server.port))
        settings = environment(tmp_path, cell=cell.name, dsn=cell.dsn, nats_urls=nats, credentials=cell.credentials)
        victim = Replica("placement-1", tmp_path, settings | {"CIRRA_POSTGRES_DSN": link.url(cell.dsn)})
        heir = Replica("placement-2", tmp_path, settings)
        for replica in (victim, heir):  # the first to come detects
            stack.push_async_callback(replica.end, signal.SIGKILL)
            await replica.start()
        well, dead = await quiet.hosts("host-1", "host-2")
        detector = await quiet.detector()
        assert detector.replica.startswith(victim.name)

        before = await quiet.position()
        with CUTS[cut](link):
            await dead.silence()
            successor = await quiet.next_term(detector.term)
            assert successor.replica.startswith(heir.name)
            await quiet.until(dead, Health.DOWN)
        assert await quiet.downs(before) == [dead.name]
        back_at = await quiet.position()
        # Whatever it believes: two windows in which it could have said so.
        await asyncio.sleep(WINDOW_S * 2)
        assert await quiet.of_earlier_terms(back_at, successor.term) == []
        assert await quiet.downs(back_at) == []
        await quiet.until(well, Health.UP)

        await heir.end(signal.SIGTERM)  # it is of use again
        assert (await quiet.next_term(successor.term)).replica.startswith(victim.name)
        victim.require_alive()
