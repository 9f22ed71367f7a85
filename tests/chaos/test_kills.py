"""`kill -9` in the middle of ten creates: ten are ACTIVE all the same, and nothing is leaked.

OpenStack on a machine like this: up to 4 of 10 in BUILD for ever, 8 to 10 of 10 in ERROR with their allocations kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cirra.compute.v1.events_pb2 import InstanceDomainDesired
from core.eventlog.types import RecordedEvent
from tests.chaos.cloud import ChaosCloud
from tests.chaos.history import Moment
from tests.chaos.hosts import SimulatedHost
from tests.chaos.report import Report
from tests.chaos.rounds import creates_while
from tests.chaos.victims import VICTIMS, Victim

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


def _rounds() -> Iterator[object]:
    """Every victim at every moment of its own; of each, one moment in the middle in `make test`."""
    for victim in VICTIMS:
        for number, moment in enumerate(victim.moments):
            marks = [] if number == len(victim.moments) // 2 else [pytest.mark.slow]
            yield pytest.param(victim, moment, marks=marks, id=f"{victim.name} at {moment}")


@pytest.mark.parametrize(("victim", "moment"), list(_rounds()))
async def test_ten_creates(cloud: ChaosCloud, report: Report, victim: Victim, moment: Moment) -> None:
    report.add(victim.name, moment, await creates_while(cloud, moment, victim.strike))


@pytest.mark.slow
@pytest.mark.parametrize("moment", [Moment("InstanceDomainDesired", number) for number in (1, 4, 8)], ids=str)
async def test_a_host_that_stays_away(cloud: ChaosCloud, report: Report, moment: Moment) -> None:
    """What it was at work on goes to another host; it is cleaned when it returns."""
    dead: list[SimulatedHost] = []

    async def strike(cloud: ChaosCloud, event: RecordedEvent) -> None:
        name = InstanceDomainDesired.FromString(event.data).desired.host
        dead.extend(host for host in cloud.hosts if host.name == name)
        await dead[0].die()

    async def ended() -> None:
        dead[0].revive()

    outcome = await creates_while(cloud, moment, strike, ended=ended)
    assert outcome.rescheduled > 0
    report.add("a host, for good", moment, outcome)
