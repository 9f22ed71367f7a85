"""NATS or Postgres away for a minute, amid creates and deletes: callers are told to try again, nothing is in ERROR."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE
from cirra.operations.v1.operations_pb2 import Operation
from cirra_sdk.errors import CirraApiError
from core.embedded.server import EmbeddedServer
from tests.chaos.cloud import ChaosCloud
from tests.chaos.customer import Customer
from tests.chaos.history import End, History, Moment
from tests.chaos.rounds import converged_s, delete_all, require_nothing_leaked

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

CREATES, DELETES = 10, 5
# Of the creates and the deletes together; about a third of them.
MOMENT = Moment("StepStarted", 22)
SHORT_S, LONG_S = 8.0, 60.0


@pytest_asyncio.fixture(loop_scope="session")
async def impatient(cloud: ChaosCloud) -> AsyncIterator[Customer]:
    """The customer, by clients that make each call once."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(cloud.client_of_customer(each, retry_for_s=0)) for each in (0, 1)]
        for client in clients:
            await client.access_token()
        yield cloud.customer.by(clients)


@pytest.mark.parametrize(
    ("name", "away_s"),
    [
        ("nats", SHORT_S),
        ("postgres", SHORT_S),
        pytest.param("nats", LONG_S, marks=pytest.mark.slow),
        pytest.param("postgres", LONG_S, marks=pytest.mark.slow),
    ],
)
async def test_nothing_is_in_error(cloud: ChaosCloud, impatient: Customer, name: str, away_s: float) -> None:
    server: EmbeddedServer = getattr(cloud, name)
    await cloud.customer.create_many(DELETES)
    standing = await cloud.instances()
    history = await History.from_now(cloud.log)
    clock = asyncio.get_running_loop().time
    began = clock()
    changes = asyncio.gather(cloud.customer.create_many(CREATES), cloud.customer.delete_many(standing))
    await history.until(MOMENT)
    work_s = clock() - began
    await server.kill()
    back = clock() + away_s
    request_id = str(uuid4())
    await _require_told_to_try_again(impatient, request_id)
    patient = asyncio.gather(*_the_same_from_all(cloud.customer, request_id))
    await asyncio.sleep(back - clock())
    await server.start()  # from now on
    await changes
    assert len({operation.uid for operation in await patient}) == 1, "one request, one instance"
    created = await history.until_ended("instance-create", CREATES + 1, converged_s(work_s))
    deleted = await history.until_ended("instance-delete", DELETES, converged_s(work_s))
    assert {run.end for run in [*created, *deleted]} == {End.COMPLETED}, [*created, *deleted]
    instances = await cloud.instances()
    assert [instance.status for instance in instances] == [INSTANCE_STATUS_ACTIVE] * (CREATES + 1), instances
    await require_nothing_leaked(cloud, instances)
    await delete_all(cloud, instances)


def _the_same_from_all(customer: Customer, request_id: str) -> list[asyncio.Task[Operation]]:
    """One request, made at each gateway."""
    return [
        asyncio.create_task(customer.create(client, "the-one", request_id=request_id)) for client in customer.clients
    ]


async def _require_told_to_try_again(customer: Customer, request_id: str) -> None:
    """Each gateway says so, or says yes; neither hangs, nor tells of another error."""
    for answer in await asyncio.gather(*_the_same_from_all(customer, request_id), return_exceptions=True):
        if isinstance(answer, BaseException):
            assert isinstance(answer, CirraApiError) and answer.retryable, repr(answer)
