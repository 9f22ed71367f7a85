"""The log loses its last events while a gateway has heard of them: what it follows is the log's, not what it heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import pytest

from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.events.v1 import events_pb2 as events
from cirra.identity.v1 import events_pb2 as identity_events
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN
from core.bus import Bus
from core.errors import Unauthenticated, Unavailable
from core.eventlog import Leases
from tests.integration.api_gateway.world import Client, Gateway, World, new_project
from tests.integration.bus.journal import lose_events, until_stream_at
from tests.integration.epochs.conftest import until_epoch

TIMEOUT_S = 60.0


async def _flavors(world: World, *names: str) -> int:
    """The position of the last, which has reached the stream."""
    position = 0
    for name in names:
        position = await world.journal.append(("flavor", uuid4(), compute_events.FlavorCreated(display_name=name)))
    await until_stream_at(world.bus, position)
    return position


async def _listed(client: Client) -> set[str]:
    answer = await client.call(client.compute.ListFlavors, compute.ListFlavorsRequest())
    return {flavor.display_name for flavor in answer.flavors}


@asynccontextmanager
async def _nobody_projects(world: World) -> AsyncIterator[None]:
    """Whoever has the gateways' projection does nothing."""
    leases = Leases(world.log.pool, world.log.schema)
    async with leases.hold(f"projection:{world.cell.name}_gateway:gateway", "nobody", timedelta(seconds=20)):
        yield


async def _until_follows(bus: Bus, gateway: str) -> None:
    """Until the gateway follows the stream, and has heard all that is in it."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            consumers = await bus.js.consumers_info(bus.subjects.events_stream)
            its = [consumer for consumer in consumers if consumer.config.description == f"api-gateway/{gateway}"]
            if any(consumer.num_waiting and not consumer.num_pending for consumer in its):
                return
            await asyncio.sleep(0.01)


async def _read(world: World, gateway: str) -> set[str]:
    """What an administrator sees through a gateway that is started for it."""
    world.user("root", new_project(), ROLE_ADMIN)
    async with world.gateway(gateway) as running:
        return await _listed(await running.login("root"))


async def test_a_gateway_that_starts_does_not_wait_for_events_that_are_lost(world: World) -> None:
    kept = await _flavors(world, "kept")
    await _flavors(world, "lost-1", "lost-2", "lost-3")
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
        async with _nobody_projects(world):
            reading = tasks.create_task(_read(world, "g1"))
            await _until_follows(world.bus, "g1")
            await lose_events(world.log, after=kept)
            await until_epoch(world.log, 2)
        assert await reading == {"kept"}


async def test_who_follows_a_restored_log_knows_all_that_it_holds(world: World, gateway: Gateway) -> None:
    """Also what comes between the last event that is kept and where the feed begins anew."""
    world.user("root", new_project(), ROLE_ADMIN)
    root, other = await gateway.login("root"), await gateway.login("root")
    kept = await _flavors(world, "kept")
    lost = await _flavors(world, "lost-1", "lost-2", "lost-3")
    request = events.WatchEventsRequest(after_position=kept)
    async with asyncio.timeout(TIMEOUT_S), aclosing(aiter(root.stream(root.events.WatchEvents, request))) as watched:
        while (await anext(watched)).position < lost:
            pass
        await lose_events(world.log, after=kept)
        await _revoke(world, other)
        with pytest.raises(Unavailable) as ended:
            await anext(watched)
        assert ended.value.reason == "WATCH_ENDED"
        with pytest.raises(Unauthenticated) as refused:
            while True:  # it may have begun anew before that, and have to do so again when the new epoch begins
                await _listed(other)
        assert refused.value.reason == "TOKEN_REVOKED"
        await until_epoch(world.log, 2)
        while await _listed(root) != {"kept"}:  # noqa: ASYNC110 - what is read follows too, in its own time
            await asyncio.sleep(0.05)


async def _revoke(world: World, client: Client) -> None:
    revoked = identity_events.TokenRevoked()
    revoked.expire_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    token_id = jwt.decode(client.token, options={"verify_signature": False})["jti"]
    await world.journal.append(("token", UUID(token_id), revoked))
