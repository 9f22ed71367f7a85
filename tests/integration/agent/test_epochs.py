"""The log was restored: an agent looks and tells, and does nothing before it is told that it was accepted."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest_asyncio

from cirra.agent.v1 import host_pb2
from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.specs import spec_digest
from core.rpc.context import require_host
from tests.integration.agent.world import HOST, FakeConductor, Shelf, World, domain, until

QUICK = {"difference_interval_s": 0.1}


class EpochConductor(FakeConductor):
    """In `epoch`, in which the host was accepted or not."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = self.accepted_epoch = 1

    async def GetDesiredState(
        self, request: host_pb2.GetDesiredStateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> host_pb2.GetDesiredStateResponse:
        if self.accepted_epoch < self.epoch:
            require_host(request.host)
            self.asked.append(request.since)
            return host_pb2.GetDesiredStateResponse(
                position=self.position, epoch=self.epoch, accepted_epoch=self.accepted_epoch
            )
        answer = await super().GetDesiredState(request, context)
        answer.epoch, answer.accepted_epoch = self.epoch, self.accepted_epoch
        for desired in answer.objects:
            desired.epoch = self.epoch
        return answer


def of_epoch(epoch: int, desired: DesiredObject) -> DesiredObject:
    desired.epoch = epoch
    return desired


@pytest_asyncio.fixture
async def conductor(world: World) -> EpochConductor:
    await world.stop_conductor()
    world.conductor = conductor = EpochConductor()  # type: ignore[abstract]
    await world.start_conductor()
    return conductor


async def test_nothing_is_done_between_the_raise_and_the_acceptance(world: World, conductor: EpochConductor) -> None:
    shelf = Shelf()
    agent = await world.start_agent(shelf, **QUICK)
    await world.command(of_epoch(1, domain("a", 7, create=True)))
    await world.until_reported("a", 7)
    shelf.calls.clear()
    conductor.epoch = 2
    conductor.want(domain("a", 3, absent=True))
    conductor.want(domain("b", 1))
    await until(lambda: conductor.contents, "the contents are told")
    [seen] = conductor.contents[-1].objects
    assert (seen.object_id, seen.epoch, seen.generation, seen.present) == ("a", 1, 7, True)
    assert seen.domain.disk_present
    assert seen.spec_digest == spec_digest(domain("a", 7))
    assert (conductor.contents[-1].host, conductor.contents[-1].acted_epoch) == (HOST, 1)

    # Delayed ones of before are done with; one of the new epoch waits.
    await world.command(of_epoch(1, domain("a", 1000, absent=True)))
    await world.until_acknowledged()
    await world.command(of_epoch(2, domain("c", 1, create=True)))
    asked = len(conductor.asked)
    await until(lambda: len(conductor.asked) > asked + 3, "it goes on asking")
    assert agent.link.store.is_observing
    assert shelf.calls == []

    conductor.accepted_epoch = 2
    await until(lambda: shelf.calls_for("a") == [("remove", 3)], "the lower number of the later epoch wins")
    report = await world.until_reported("c", 1)
    assert report.epoch == 2
    assert not agent.link.store.is_observing


async def test_an_agent_that_is_restarted_meanwhile_goes_on_looking_only(
    world: World, conductor: EpochConductor
) -> None:
    shelf = Shelf()
    agent = await world.start_agent(shelf, **QUICK)
    await world.command(of_epoch(1, domain("a", 1, create=True)))
    await world.until_reported("a", 1)
    conductor.epoch = 2
    await until(lambda: conductor.contents, "the contents are told")
    await agent.stop()
    shelf.calls.clear()
    await world.stop_conductor()
    # Without anybody to ask: what it was told last holds.
    again = await world.start_agent(shelf, **QUICK)
    await world.command(of_epoch(1, domain("a", 1000, absent=True)))
    await world.until_acknowledged()
    assert again.link.store.is_observing
    assert not again.link.store.may_tidy
    await asyncio.sleep(0)
    assert shelf.calls == []
    assert shelf.things == {"a": 1}
