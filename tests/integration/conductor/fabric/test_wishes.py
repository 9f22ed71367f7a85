"""What a host is told when it asks: ports and derived objects in one answer, all of them or a difference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from conductor.fabric import rows
from conductor.hosts.desired_state import DesiredState, DesiredStateProjection
from conductor.hosts.wishes import HostWishes, Wishes
from core.projection import Projector
from tests.harness.fabric_history import uid
from tests.integration.bus.journal import append as append_others
from tests.integration.conductor.fabric.stage import Stage, three_hosts
from tests.integration.projection.conftest import running


class Asked:
    """Both projections at work, and who asks."""

    def __init__(self, stage: Stage, projectors: list[Projector]) -> None:
        self.stage = stage
        self._projectors = projectors
        desired_state = DesiredState(stage.log.pool, stage.schema, stage.log.schema)
        self._wishes = HostWishes(desired_state, stage.state)

    async def since(self, position: int, agent: str = "net", host: str = "a") -> Wishes:
        head = (await self.stage.log.head()).position
        for projector in self._projectors:
            assert await projector.wait_for(head, timeout=60)
        return await self._wishes.of_host(host, agent, position, head)


@asynccontextmanager
async def asking(stage: Stage) -> AsyncIterator[Asked]:
    desired = Projector(
        DesiredStateProjection(),
        log=stage.log,
        bus=stage.bus,
        leases=stage.leases,
        schema=stage.schema,
        holder="p1",
        stall_s=0.3,
    )
    projectors = [desired, stage.projector()]
    async with running(*projectors):
        yield Asked(stage, projectors)


def keys(wishes: Wishes) -> set[tuple[str, str, bool]]:
    return {(desired.kind, desired.object_id, desired.absent) for desired in wishes.objects}


async def test_ports_and_derived_objects_are_one_answer(stage: Stage) -> None:
    script = three_hosts()
    script.bind("p", "a", "n")
    script.bind("q", "b", "n")
    async with asking(stage) as asked:
        bound = await stage.play(script)
        whole = await asked.since(0)
        assert whole.complete
        assert keys(whole) == {
            ("port", uid("p"), False),
            ("network", uid("n"), False),
            ("peer", uid("q"), False),
        }
        assert keys(await asked.since(0, agent="compute")) == set()
        script.unbind("q", "b")
        await stage.play(script)
        difference = await asked.since(bound)
        assert not difference.complete
        assert keys(difference) == {("peer", uid("q"), True)}
        assert keys(await asked.since(0)) == {("port", uid("p"), False), ("network", uid("n"), False)}


@pytest.mark.breaks("READ_MODEL")  # the checker rebuilds with eras of their usual length
async def test_who_was_away_for_too_long_gets_everything(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ERA", 50)
    script = three_hosts()
    script.bind("p", "a", "n")
    script.bind("q", "b", "n")
    async with asking(stage) as asked:
        bound = await stage.play(script)
        script.unbind("q", "b")
        await stage.play(script)
        assert not (await asked.since(bound)).complete
        last = await append_others(stage.log, 150)
        script.tunnel("c", "192.0.2.30")
        await stage.play(script)
        answer = await asked.since(bound)
        assert answer.complete, "what is gone since then is not known any more"
        assert keys(answer) == {("port", uid("p"), False), ("network", uid("n"), False)}
        assert not (await asked.since(bound, agent="compute")).complete, "of those everything is known for ever"
        assert not (await asked.since(last)).complete
