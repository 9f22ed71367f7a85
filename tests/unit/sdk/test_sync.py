"""The sync client: the same methods, without an event loop."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from grpc import StatusCode

from cirra.compute.v1 import compute_pb2 as compute
from cirra.operations.v1 import operations_pb2 as operations
from cirra_sdk import Client, ConfigurationError, errors
from tests.unit.sdk.fake_gateway import Failure, FakeGateway


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[Client]:
    with Client.connect(endpoint=gateway.endpoint, user="ann", password="secret") as connected:
        yield connected


def test_calls_block_and_lists_are_plain_iterators(gateway: FakeGateway, client: Client) -> None:
    flavors = [compute.Flavor(uid=str(number)) for number in range(3)]
    gateway.answers("ListFlavors", compute.ListFlavorsResponse(flavors=flavors))
    gateway.answers("GetFlavor", flavors[0])
    assert client.flavors.get("0") == flavors[0]
    assert list(client.flavors.list()) == flavors
    assert [flavor.uid for flavor in client.flavors.list()] == ["0", "1", "2"]


def test_errors_are_those_of_the_async_client(gateway: FakeGateway, client: Client) -> None:
    gateway.fails("GetFlavor", Failure(StatusCode.NOT_FOUND, "no flavor", "NOT_FOUND", "look"))
    with pytest.raises(errors.NotFound) as raised:
        client.flavors.get("x")
    assert raised.value.remedy == "look"


def test_waiting_blocks_until_the_operation_is_done(gateway: FakeGateway, client: Client) -> None:
    steps = [operations.Operation(uid="1", done=done) for done in (False, True)]
    gateway.answers("WatchOperation", steps)
    told: list[operations.Operation] = []
    assert client.operations.wait("1", on_change=told.append) == steps[1]
    assert told == steps
    assert client.operations.wait("1") == steps[1]
    assert [request.settled_only for request in gateway.requests("WatchOperation")] == [False, True]


def test_a_watch_that_is_left_ends_at_the_server_too(gateway: FakeGateway, client: Client) -> None:
    def answer(request: compute.WatchInstancesRequest) -> Iterator[compute.WatchInstancesResponse]:
        yield compute.WatchInstancesResponse(instance=compute.Instance(uid="1"))
        gateway.cancelled.wait(10)

    gateway.answers("WatchInstances", answer)
    changes = client.instances.watch()
    assert next(changes).instance.uid == "1"
    changes.close()
    assert gateway.cancelled.wait(5)


def test_several_threads_may_use_it(gateway: FakeGateway, client: Client) -> None:
    gateway.answers("GetFlavor", lambda request: compute.Flavor(uid=request.name))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: client.flavors.get(str(number)).uid, range(50)))
    assert found == [str(number) for number in range(50)]
    assert len(gateway.requests("CreateToken")) == 1


def test_another_users_client_is_a_sync_one_too(gateway: FakeGateway, client: Client) -> None:
    gateway.answers("GetFlavor", compute.Flavor(uid="1"))
    gateway.position = 5
    client.flavors.get("1")
    assert client.login_as("bob", "secret").flavors.get("1").uid == "1"
    assert client.position == 5


def test_methods_keep_their_help_and_signature(client: Client) -> None:
    assert "user_data" in inspect.signature(client.instances.create).parameters
    assert "Begins to build one" in (client.instances.create.__doc__ or "")


def test_closing_ends_the_thread(gateway: FakeGateway) -> None:
    with Client.connect(endpoint=gateway.endpoint, token="t"):
        assert "cirra-client" in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConfigurationError):
        Client.connect(endpoint="nonsense", token="t")
    assert "cirra-client" not in {thread.name for thread in threading.enumerate()}
