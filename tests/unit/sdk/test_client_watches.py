"""Following what goes on in the cloud, and waiting for it to end: interruptions are bridged, and all ends."""

from __future__ import annotations

import threading

import pytest
from grpc import StatusCode

from cirra.compute.v1 import compute_pb2 as compute
from cirra.events.v1 import events_pb2 as events
from cirra.operations.v1 import operations_pb2 as operations
from cirra_sdk import AsyncClient, OperationFailed, errors
from tests.unit.sdk.fake_gateway import GONE, Failure, FakeGateway

RUNNING = operations.Operation(name="operations/1", state=operations.OPERATION_STATE_RUNNING)
DONE = operations.Operation(name="operations/1", state=operations.OPERATION_STATE_SUCCEEDED, done=True, position=30)


async def test_a_watch_goes_on_after_an_interruption_and_says_nothing_twice(
    gateway: FakeGateway, client: AsyncClient
) -> None:
    def state(status: compute.InstanceStatus.ValueType, position: int, deleted: bool = False) -> object:
        instance = compute.Instance(name="i/1", uid="1", status=status)
        return compute.WatchInstancesResponse(instance=instance, position=position, deleted=deleted)

    build = state(compute.INSTANCE_STATUS_BUILD, 3)
    active = state(compute.INSTANCE_STATUS_ACTIVE, 5)
    deleted = state(compute.INSTANCE_STATUS_DELETED, 8, deleted=True)
    rounds = iter([[build], [build, active], [active, deleted]])

    def answer(request: compute.WatchInstancesRequest) -> object:
        yield from next(rounds)
        raise GONE

    gateway.answers("WatchInstances", answer)
    assert [change async for change in client.instances.watch("web")] == [build, active, deleted]
    assert client.position == 8


async def test_a_watch_that_was_quiet_for_long_still_outlives_an_interruption(gateway: FakeGateway) -> None:
    rounds = iter([0.6, 0.6])

    def answer(request: events.WatchEventsRequest) -> object:
        quiet_s = next(rounds, None)
        if quiet_s is None:
            yield events.Event(position=5)
        else:
            gateway.cancelled.wait(quiet_s)
            raise GONE

    gateway.answers("WatchEvents", answer)
    async with AsyncClient.connect(endpoint=gateway.endpoint, user="ann", password="secret", retry_for_s=0.4) as client:
        assert (await anext(client.events.watch())).position == 5


async def test_a_watch_that_the_cloud_always_ends_is_given_up(gateway: FakeGateway) -> None:
    gateway.answers("WatchEvents", [])
    async with AsyncClient.connect(endpoint=gateway.endpoint, user="ann", password="secret", retry_for_s=0.4) as client:
        with pytest.raises(errors.Unavailable, match="ends every watch"):
            await anext(client.events.watch())
    assert len(gateway.calls_of("WatchEvents")) > 1


async def test_a_watch_outlives_its_token(gateway: FakeGateway, client: AsyncClient) -> None:
    def answer(request: events.WatchEventsRequest) -> object:
        yield events.Event(position=request.after_position + 1)
        gateway.good_tokens.clear()
        raise Failure(StatusCode.UNAUTHENTICATED, "watching ends with it", "TOKEN_EXPIRED")

    gateway.answers("WatchEvents", answer)
    events_seen = client.events.watch(after_position=1)
    assert [(await anext(events_seen)).position for _ in range(2)] == [2, 3]
    await events_seen.aclose()
    assert [call.metadata["authorization"] for call in gateway.calls_of("WatchEvents")] == [
        "Bearer token-1",
        "Bearer token-2",
    ]


async def test_a_watch_of_what_went_away_meanwhile_ends(gateway: FakeGateway, client: AsyncClient) -> None:
    present = compute.WatchInstancesResponse(instance=compute.Instance(uid="1"), position=3)
    rounds = iter([GONE, Failure(StatusCode.NOT_FOUND, "no instance", "NOT_FOUND")])

    def answer(request: compute.WatchInstancesRequest) -> object:
        failure = next(rounds)
        if failure is GONE:
            yield present
        raise failure

    gateway.answers("WatchInstances", answer)
    changes = [change async for change in client.instances.watch("web")]
    assert [change.deleted for change in changes] == [False, True]


async def test_waiting_for_an_operation_tells_each_change(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.fails("WatchOperation", GONE)
    gateway.answers("WatchOperation", [RUNNING, DONE])
    told: list[operations.Operation] = []
    assert await client.operations.wait("operations/1", on_change=told.append) == DONE
    assert told == [RUNNING, DONE]
    assert client.position == 30, "who waited reads what was done"


@pytest.mark.parametrize("state", [operations.OPERATION_STATE_FAILED, operations.OPERATION_STATE_STUCK])
async def test_waiting_for_an_operation_that_fails(
    gateway: FakeGateway, client: AsyncClient, state: operations.OperationState.ValueType
) -> None:
    error = operations.OperationError(reason="NO_VALID_HOST", message="none of 3 hosts fits", remedy="add a host")
    gateway.answers("WatchOperation", [operations.Operation(name="operations/1", state=state, error=error)])
    with pytest.raises(OperationFailed) as failed:
        await client.operations.wait("operations/1")
    assert (failed.value.reason, failed.value.message, failed.value.remedy) == (
        "NO_VALID_HOST",
        "none of 3 hosts fits",
        "add a host",
    )
    assert failed.value.operation.state == state


@pytest.mark.parametrize(
    "answers", [pytest.param([DONE], id="settled"), pytest.param([RUNNING, DONE], id="older cloud")]
)
async def test_who_is_told_of_no_change_asks_for_the_outcome_alone(
    gateway: FakeGateway, client: AsyncClient, answers: list[operations.Operation]
) -> None:
    gateway.fails("WatchOperation", GONE)
    gateway.answers("WatchOperation", answers)
    assert await client.operations.wait("operations/1") == DONE
    assert client.position == 30
    await client.operations.wait("operations/1", on_change=lambda change: None)
    [change async for change in client.operations.watch("operations/1")]
    asked = [request.settled_only for request in gateway.requests("WatchOperation")]
    assert asked == [True, True, False, False], "also after an interruption"


async def test_waiting_in_silence_outlives_several_tokens(gateway: FakeGateway) -> None:
    rounds = iter([0.5, 0.5])
    never = threading.Event()

    def answer(request: operations.WatchOperationRequest) -> object:
        quiet_s = next(rounds, None)
        if quiet_s is None:
            yield DONE
        else:
            never.wait(quiet_s)
            gateway.good_tokens.clear()
            raise Failure(StatusCode.UNAUTHENTICATED, "watching ends with it", "TOKEN_EXPIRED")

    gateway.answers("WatchOperation", answer)
    async with AsyncClient.connect(endpoint=gateway.endpoint, user="ann", password="secret", retry_for_s=0.4) as client:
        assert await client.operations.wait("operations/1") == DONE
    tokens = [call.metadata["authorization"] for call in gateway.calls_of("WatchOperation")]
    assert tokens == ["Bearer token-1", "Bearer token-2", "Bearer token-3"]


async def test_waiting_with_tokens_that_are_never_good_ends(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.fails("WatchOperation", *[Failure(StatusCode.UNAUTHENTICATED, "no", "TOKEN_REVOKED")] * 2)
    gateway.answers("WatchOperation", [DONE])
    with pytest.raises(errors.Unauthenticated):
        await client.operations.wait("operations/1")


async def test_waiting_has_an_end(gateway: FakeGateway, client: AsyncClient) -> None:
    released = gateway.cancelled

    def answer(request: operations.WatchOperationRequest) -> object:
        yield operations.Operation(name="operations/1")
        released.wait(10)

    gateway.answers("WatchOperation", answer)
    with pytest.raises(TimeoutError):
        await client.operations.wait("operations/1", timeout_s=0.2)
    assert released.wait(5), "the server is told that nobody listens any more"
