"""A subnet whose guests make their addresses themselves comes to a network that has ports: they get theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from cirra.agent.v1.desired_pb2 import DesiredObject, NetworkSpec, PortSpec
from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.network.v1 import network_pb2 as network
from conductor.fabric.facts import Facts, FloatingIpFacts, HostGatewayFacts, WayOut
from conductor.fabric.projection import FabricProjection
from conductor.fabric.writing import write
from conductor.network.keeper import NetworkKeeper
from conductor.network.port import Port
from conductor.network.unsettled import Unsettled
from core.bus import Bus
from core.errors import FailedPrecondition
from core.eventlog import Leases
from core.eventlog.schema import quote_identifier
from core.projection import Projector
from core.relay import Relay
from core.testing.invariants_log import constraint_differences
from core.testing.servers import Cell
from tests.integration.conductor.resources.routed import Routed
from tests.integration.conductor.resources.world import World
from tests.integration.projection.conftest import running

MAC = "fa:16:3e:00:00:02"
SELF_MADE = "fd00:1::f816:3eff:fe00:2"


@dataclass
class Settling:
    """A keeper that looks when a test says so. `told`: what hosts were told."""

    world: World
    keeper: NetworkKeeper
    unsettled: Unsettled
    projector: Projector
    schema: str
    told: list[DesiredObject] = field(default_factory=list)

    async def settle(self) -> None:
        await self.projected()
        await self.keeper.settle()

    async def add(self, facts: Facts) -> None:
        """As if what has changed of them had been projected."""
        async with self.world.log.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL search_path TO {quote_identifier(self.schema)}")
            await write(cast(asyncpg.Connection, connection), facts.unsaved())

    async def projected(self) -> None:
        assert await self.projector.wait_for((await self.world.log.head()).position, timeout=60)


@pytest_asyncio.fixture
async def settling(world: World, cell: Cell, bus: Bus, leases: Leases) -> AsyncIterator[Settling]:
    schema = f"{cell.name}_conductor"
    projector = Projector(
        FabricProjection(), log=world.log, bus=bus, leases=leases, schema=schema, holder="p1", stall_s=0.3
    )
    told: list[DesiredObject] = []

    async def tell(desired: DesiredObject) -> None:
        told.append(desired)

    async def caught_up(position: int | None) -> None:
        """Each test waits for it itself."""

    unsettled = Unsettled(world.log.pool, schema)
    keeper = NetworkKeeper(world.repository, leases, unsettled, caught_up, tell=tell, holder="k1")
    relay = Relay(world.log, leases, bus, holder="r1", ack_timeout_s=0.5, idle_check_s=0.2)
    async with running(relay), running(projector):
        yield Settling(world, keeper, unsettled, projector, schema, told)


async def add_six(world: World, network_uid: str, **fields: object) -> str:
    subnet = network.Subnet(network=network_uid, cidr="fd00:1::/64", **fields)  # type: ignore[arg-type]
    made = await world.member.call(world.first.network.CreateSubnet, network.CreateSubnetRequest(subnet=subnet))
    return made.uid


async def delete_subnet(world: World, uid: str, request_id: str = "") -> Accepted:
    request = network.DeleteSubnetRequest(name=uid, request_id=request_id)
    return await world.member.call(world.first.network.DeleteSubnet, request)


async def bind(world: World, port_uid: str, host: str) -> None:
    def bound(port: Port) -> None:
        spec = PortSpec(port_id=port_uid, network=NetworkSpec(network_id=port.network_id))
        wish = DesiredObject(host=host, agent="net", kind="port", object_id=port_uid, port=spec)
        port.bind(host, network.PORT_BINDING_STATE_ACTIVE, wish)

    await world.repository.change(Port, UUID(port_uid), bound)


async def addresses(world: World, port_uid: str) -> list[str]:
    return [fixed.ip_address for fixed in (await world.repository.load(Port, UUID(port_uid))).fixed_ips]


async def test_ports_get_their_address_and_their_hosts_are_told(settling: Settling) -> None:
    world = settling.world
    made, _ = await world.make_subnet("10.1.0.0/24")
    bound = await world.make_port(made.uid, fixed_ips=[network.FixedIp(ip_address="10.1.0.50")], mac_address=MAC)
    free = await world.make_port(made.uid)
    await bind(world, bound.uid, "h1")
    six = await add_six(world, made.uid)
    await settling.settle()
    assert await addresses(world, bound.uid) == ["10.1.0.50", SELF_MADE]
    assert len(await addresses(world, free.uid)) == 2, "bound or not"
    [told] = settling.told
    assert (told.host, [it.ip_address for it in told.port.addresses]) == ("h1", ["10.1.0.50", SELF_MADE])
    owners = await world.log.unique_keys(f"address/{six}")
    assert owners[SELF_MADE] == bound.uid, "nobody else may have it"
    assert await constraint_differences(world.log) == []
    head = (await world.log.head()).position
    await settling.settle()
    assert (await world.log.head()).position == head, "once"


async def test_whether_there_is_anything_to_settle_is_one_question(settling: Settling) -> None:
    world, unsettled = settling.world, settling.unsettled
    made, _ = await world.make_subnet("10.1.0.0/24")
    await world.make_port(made.uid)
    await settling.projected()
    assert not await unsettled.any()
    await add_six(world, made.uid)
    await settling.projected()
    assert await unsettled.any()
    await settling.settle()
    await settling.projected()
    assert not await unsettled.any()
    facts = Facts()
    facts.ways_out.put(WayOut("h1", "n1", snat=True))
    await settling.add(facts)
    assert await unsettled.any()
    facts.host_gateways.put(HostGatewayFacts("h1", "n1", MAC, "10.9.0.7/24"))
    await settling.add(facts)
    assert not await unsettled.any()
    facts.floating_ips.put(FloatingIpFacts("f1", "10.9.0.8", "n1", orphaned=True))
    await settling.add(facts)
    assert await unsettled.any()
    facts.ways_out.remove("h1", "n1")
    facts.host_gateways.remove("h1", "n1")
    facts.floating_ips.remove("f1")
    await settling.add(facts)


async def test_a_port_that_is_made_at_the_same_moment_gets_its_own(settling: Settling) -> None:
    world = settling.world
    made, _ = await world.make_subnet("10.1.0.0/24")
    adding = asyncio.create_task(add_six(world, made.uid))
    ports = await asyncio.gather(*(world.make_port(made.uid, replica=number) for number in range(8)))
    await adding
    await settling.settle()
    for port in ports:
        own = await addresses(world, port.uid)
        assert len(own) == 2 and own[1].startswith("fd00:1::"), own


async def test_where_guests_are_told_their_addresses_nothing_is_given(settling: Settling) -> None:
    world = settling.world
    made, _ = await world.make_subnet("10.1.0.0/24")
    port = await world.make_port(made.uid)
    await add_six(world, made.uid, no_dhcp=True)
    await settling.settle()
    assert len(await addresses(world, port.uid)) == 1


async def test_it_goes_with_the_addresses_that_nobody_asked_for(settling: Settling) -> None:
    world = settling.world
    made, _ = await world.make_subnet("10.1.0.0/24")
    port = await world.make_port(made.uid, fixed_ips=[network.FixedIp(ip_address="10.1.0.50")])
    await bind(world, port.uid, "h1")
    six = await add_six(world, made.uid)
    await settling.settle()
    assert len(await addresses(world, port.uid)) == 2
    gone = await delete_subnet(world, six, "once")
    assert gone.uid == six and await delete_subnet(world, six, "once") == gone, "asked twice, done once"
    assert await addresses(world, port.uid) == ["10.1.0.50"]
    [told] = world.first.told
    assert [it.ip_address for it in told.port.addresses] == ["10.1.0.50"]
    await settling.settle()
    assert await addresses(world, port.uid) == ["10.1.0.50"]
    assert await constraint_differences(world.log) == []


async def test_it_stays_while_a_port_has_no_other_address(settling: Settling) -> None:
    world = settling.world
    made, four = await world.make_subnet("10.1.0.0/24")
    six = await add_six(world, made.uid)
    port = await world.make_port(made.uid, fixed_ips=[network.FixedIp(subnet=six)])
    with pytest.raises(FailedPrecondition) as refused:
        await delete_subnet(world, six)
    assert refused.value.reason == "SUBNET_IN_USE"
    await delete_subnet(world, four.uid)
    assert len(await addresses(world, port.uid)) == 1


async def test_it_stays_while_a_router_is_on_it(settling: Settling) -> None:
    world = settling.world
    routed = Routed(world)
    made, _ = await world.make_subnet("10.1.0.0/24")
    six = await add_six(world, made.uid)
    port = await world.make_port(made.uid)
    router = await routed.router()
    await routed.add(router.uid, six)
    with pytest.raises(FailedPrecondition) as refused:
        await delete_subnet(world, six)
    assert refused.value.reason == "SUBNET_IN_USE"
    assert len(await addresses(world, port.uid)) == 2
    await routed.remove(router.uid, six)
    await delete_subnet(world, six)
    assert len(await addresses(world, port.uid)) == 1
