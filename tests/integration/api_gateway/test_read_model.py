"""The read model's own life: a poison event halts it visibly, a rebuild gives the same rows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from uuid import uuid4

import asyncpg
import pytest

from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN
from cirra.network.v1 import events_pb2 as network_events
from core.errors import Unavailable
from core.eventlog.types import Append, NewEvent
from core.ids import uuid7
from core.rpc.retry import retried
from tests.integration.api_gateway.world import Client, Gateway, World, new_project


async def _rows(world: World) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await world.log.pool.fetch(
        f"SELECT * FROM {world.cell.name}_gateway.resources ORDER BY kind, uid"
    )
    return rows


async def _list(client: Client) -> compute.ListFlavorsResponse:
    listed: compute.ListFlavorsResponse = await client.call(client.compute.ListFlavors, compute.ListFlavorsRequest())
    return listed


async def _happen(world: World) -> int:
    """A little of everything; the last position."""
    network_id = uuid4()
    await world.journal.append(
        ("network", network_id, network_events.NetworkCreated(project_id="p", display_name="lan")),
        ("network", network_id, network_events.SubnetCreated(subnet_id=str(uuid7()), network_id=str(network_id))),
    )
    for number in range(20):
        await world.journal.append(("flavor", uuid4(), compute_events.FlavorCreated(display_name=f"m{number}")))
    instance_id = uuid4()
    return await world.journal.append(
        ("instance", instance_id, compute_events.InstanceCreated(project_id="p", display_name="web")),
        ("instance", instance_id, compute_events.InstanceDeleted()),
    )


@pytest.mark.breaks("READ_MODEL")
async def test_a_poison_event_halts_the_read_model_and_reads_say_where(world: World, gateway: Gateway) -> None:
    world.user("root", new_project(), ROLE_ADMIN)
    root = await gateway.login("root")
    await world.journal.append(("flavor", uuid4(), compute_events.FlavorCreated(display_name="before")))
    poison = NewEvent(
        aggregate_type="flavor",
        aggregate_id=uuid4(),
        version=1,
        type=compute_events.FlavorCreated.DESCRIPTOR.full_name,
        data=b"\xff\xff\xff",
        event_id=uuid7(),
    )
    position = (await world.log.append(Append(events=(poison,)))).last_position
    root.position = position
    for _ in range(2):  # waiting for the position, and without
        with pytest.raises(Unavailable) as raised:
            await _list(root)
        assert raised.value.reason == "PROJECTION_HALTED"
        assert f"event {position}" in raised.value.message
        root.position = 0
    # A replica that starts meanwhile says so too, instead of not starting.
    async with world.gateway("g2") as later:
        with pytest.raises(Unavailable):
            await _list(await later.login("root"))


async def test_a_rebuild_gives_the_same_rows(world: World, gateway: Gateway) -> None:
    world.user("root", new_project(), ROLE_ADMIN)
    root = await gateway.login("root")
    root.position = await _happen(world)
    assert len((await _list(root)).flavors) == 20
    before = await _rows(world)
    settings = world.gateway_settings("rebuild")
    environment = {
        f"CIRRA_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in settings.model_dump(exclude_none=True).items()
        if name not in ("replica", "ready_file")
    }
    result = await _run([sys.executable, "-m", "api_gateway", "--rebuild"], environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "events/s" in result.stdout
    assert await _rows(world) == before
    assert {row["kind"] for row in before} == {"network", "subnet", "flavor", "instance"}
    assert len((await _list(root)).flavors) == 20


async def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


async def test_postgres_away_is_told_as_unavailable_and_passes(world: World, gateway: Gateway) -> None:
    world.user("root", new_project(), ROLE_ADMIN)
    root = await gateway.login("root")
    root.position = await _happen(world)
    assert len((await _list(root)).flavors) == 20
    # Whoever has been asleep for a while finds its connections gone; a caller never finds an INTERNAL error.
    killed = await world.log.pool.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE $1",
        f"%{world.cell.name}_gateway%",
    )
    assert killed
    answers = await asyncio.gather(*(_list(root) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, (compute.ListFlavorsResponse, Unavailable)) for answer in answers)
    assert len((await retried(lambda: _list(root))).flavors) == 20
    made = await world.journal.append(("flavor", uuid4(), compute_events.FlavorCreated(display_name="after")))
    root.position = made
    assert len((await retried(lambda: _list(root))).flavors) == 21
