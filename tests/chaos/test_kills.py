"""`kill -9` in the middle of ten creates: ten are ACTIVE all the same, and nothing is leaked.

OpenStack on a machine like this: up to 4 of 10 in BUILD for ever, 8 to 10 of 10 in ERROR with their allocations kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.cloud import ChaosCloud
from tests.chaos.history import Moment
from tests.chaos.report import Report
from tests.chaos.rounds import creates_while
from tests.chaos.victims import VICTIMS, Victim

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


def _rounds() -> Iterator[object]:
    """Every victim at every moment of its own; of each, one moment in the middle in `make test`."""
    for victim in VICTIMS:
        for number, moment in enumerate(victim.moments):
            marks = [] if number == len(victim.moments) // 2 else [pytest.mark.slow]
            yield pytest.param(victim, moment, marks=marks, id=f"{victim.name} at {moment}")


@pytest.mark.parametrize(("victim", "moment"), list(_rounds()))
async def test_ten_creates(cloud: ChaosCloud, report: Report, victim: Victim, moment: Moment) -> None:
    report.add(victim.name, moment, await creates_while(cloud, moment, victim.strike))
