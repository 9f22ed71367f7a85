"""The same over the wire: the caller's principal travels in metadata, refusals as details of the status."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from cirra.conductor.v1 import commands_pb2_grpc
from cirra.network.v1 import network_pb2 as network
from core.errors import AlreadyExists, InvalidArgument, NotFound, Unauthenticated
from core.ids import uuid7
from core.rpc.client import channel
from core.rpc.server import serve
from tests.integration.conductor.resources.world import World

if TYPE_CHECKING:
    from cirra.conductor.v1.commands_pb2_grpc import NetworkCommandsAsyncStub


@pytest_asyncio.fixture
async def networks(world: World) -> AsyncIterator[NetworkCommandsAsyncStub]:
    add = commands_pb2_grpc.add_NetworkCommandsServicer_to_server
    server = await serve([(add, world.first.network)], listen="127.0.0.1:0", tls=None, require_client=False)
    async with channel([server.address], None) as connection:
        yield commands_pb2_grpc.NetworkCommandsStub(connection)
    await server.stop(0.1)


def create(request_id: str = "", **fields: object) -> network.CreateNetworkRequest:
    return network.CreateNetworkRequest(network=network.Network(**fields), request_id=request_id)  # type: ignore[arg-type]


async def test_the_caller_is_who_the_metadata_says(world: World, networks: NetworkCommandsAsyncStub) -> None:
    async def ask(request: network.CreateNetworkRequest, _: object) -> str:
        return (await networks.CreateNetwork(request)).name

    name = await world.member.call(ask, create(display_name="net", request_id="r1"))
    assert name.startswith(f"projects/{world.project_id}/networks/")
    assert await world.member.call(ask, create(display_name="net", request_id="r1")) == name
    [event] = await world.log.list_events(aggregate_type="network")
    assert (event.actor, event.request_id) == (world.member.principal.user_id, "CreateNetwork/r1")
    with pytest.raises(Unauthenticated):
        await ask(create(display_name="net"), None)


async def test_refusals_arrive_with_field_reason_and_remedy(world: World, networks: NetworkCommandsAsyncStub) -> None:
    async def ask(request: network.CreateNetworkRequest, _: object) -> object:
        return await networks.CreateNetwork(request)

    async def delete(request: network.DeleteNetworkRequest, _: object) -> object:
        return await networks.DeleteNetwork(request)

    with pytest.raises(InvalidArgument) as invalid:
        await world.member.call(ask, create(mtu=1))
    assert [violation.field for violation in invalid.value.violations] == ["network.display_name", "network.mtu"]
    await world.admin.call(ask, create(display_name="a", physical_network="physnet1"))
    with pytest.raises(AlreadyExists) as taken:
        await world.admin.call(ask, create(display_name="b", physical_network="physnet1"))
    assert (taken.value.reason, taken.value.metadata["field"]) == (
        "PHYSICAL_NETWORK_IN_USE",
        "network.physical_network",
    )
    assert taken.value.remedy
    with pytest.raises(NotFound):
        await world.member.call(delete, network.DeleteNetworkRequest(name=str(uuid7())))
