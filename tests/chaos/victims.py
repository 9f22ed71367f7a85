"""Who dies, how, and at which moments of a burst of creates."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cirra.operations.v1 import events_pb2 as pb
from core.eventlog.types import RecordedEvent
from tests.chaos.cloud import ChaosCloud
from tests.chaos.history import Moment, kind_of
from tests.chaos.rounds import CREATES, Strike

NATS_AWAY_S = 5.0
_STEPS = 3  # of a create on one port that start, as they have an effect


@dataclass(frozen=True, slots=True)
class Victim:
    """`moments`: in the order of the burst, spread over all of it."""

    name: str
    strike: Strike
    moments: Sequence[Moment]


async def kill_conductor(cloud: ChaosCloud, event: RecordedEvent) -> None:
    """The replica that runs the saga of this very event."""
    replica = (await _runner(cloud, event)).partition(".")[0]
    await cloud.services[replica].kill()


async def kill_conductors(cloud: ChaosCloud, event: RecordedEvent) -> None:
    """All replicas at once."""
    await asyncio.gather(*(process.kill() for process in cloud.of("conductor")))


async def kill_compute_agents(cloud: ChaosCloud, event: RecordedEvent) -> None:
    """That of every host at once."""
    await asyncio.gather(*(host.compute.kill() for host in cloud.hosts))


async def kill_nats(cloud: ChaosCloud, event: RecordedEvent) -> None:
    """For some seconds."""
    await cloud.nats.kill()
    await asyncio.sleep(NATS_AWAY_S)
    await cloud.nats.start()


async def _runner(cloud: ChaosCloud, event: RecordedEvent) -> str:
    """Who runs the saga of an event."""
    runner = ""
    for each in await cloud.log.read_aggregate(event.aggregate_id, up_to_position=event.position):
        if kind_of(each) == "SagaStarted":
            runner = pb.SagaStarted.FromString(each.data).runner
        elif kind_of(each) == "SagaAdopted":
            runner = pb.SagaAdopted.FromString(each.data).runner
    return runner


# A tenth of the burst's steps apart; and where the hypervisors have just been told something, or have just answered.
_AMID_STEPS = [Moment("StepStarted", number) for number in range(1, CREATES * _STEPS, _STEPS)]
_AMID_DOMAINS = [
    Moment(event, number)
    for number in range(1, CREATES, 2)
    for event in ("InstanceDomainDesired", "InstanceDomainObserved")
]

VICTIMS = (
    Victim("conductor", kill_conductor, _AMID_STEPS),
    Victim("all conductors", kill_conductors, _AMID_STEPS),
    Victim("compute-agents", kill_compute_agents, _AMID_DOMAINS),
    Victim("NATS, 5 s", kill_nats, _AMID_STEPS),
)
