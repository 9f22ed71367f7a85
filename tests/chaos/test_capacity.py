"""A hundred creates at once for a cloud that has room for sixty: sixty get it, forty leave nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, INSTANCE_STATUS_ERROR, Instance
from tests.chaos.cloud import GUESTS_PER_HOST, HOSTS, ChaosCloud
from tests.chaos.history import End, History
from tests.chaos.rounds import delete_all, require_nothing_leaked

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

CAPACITY = GUESTS_PER_HOST * len(HOSTS)
AT_ONCE = 100
RUNS = 10
ENDED_S = 120.0


@pytest.mark.parametrize("run", [0, *(pytest.param(run, marks=pytest.mark.slow) for run in range(1, RUNS))])
async def test_a_hundred_for_sixty(cloud: ChaosCloud, run: int) -> None:
    history = await History.from_now(cloud.log)
    await cloud.customer.create_many(AT_ONCE)
    runs = await history.until_ended("instance-create", AT_ONCE, ENDED_S)
    assert Counter((each.end, each.reason) for each in runs) == {
        (End.COMPLETED, ""): CAPACITY,
        (End.UNWOUND, "NO_VALID_HOST"): AT_ONCE - CAPACITY,
    }
    instances = await cloud.instances()
    assert Counter(map(_verdict, instances)) == {
        (INSTANCE_STATUS_ACTIVE, ""): CAPACITY,
        (INSTANCE_STATUS_ERROR, "NO_VALID_HOST"): AT_ONCE - CAPACITY,
    }
    assert Counter(each.host for each in instances) == {"": AT_ONCE - CAPACITY} | dict.fromkeys(HOSTS, GUESTS_PER_HOST)
    await require_nothing_leaked(cloud, instances)
    await delete_all(cloud, instances)


def _verdict(instance: Instance) -> tuple[int, str]:
    return instance.status, instance.fault.reason
