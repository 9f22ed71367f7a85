"""Two runners at one undo: one has adopted the run of the other, which lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import network_pb2 as network
from conductor.compute.teardown import unbind_port
from conductor.hosts.commander import Changes
from conductor.hosts.desired_state import HostStanding
from conductor.network.port import Port
from conductor.services import Services
from conductor.turn import Turn
from core.ids import uuid7

HOST = "h1"
TURN = Turn("task", 1)


class Kept:
    """A repository of one port, which is changed in place."""

    def __init__(self, port: Port) -> None:
        self.port = port

    async def change(self, kind: type[Port], port_id: object, decide: Callable[[Port], object]) -> tuple[Port, None]:
        decide(self.port)
        return self.port, None

    async def glance(self, kind: type[Port], port_id: object) -> Port:
        return self.port


class Told:
    """A commander that says when it tells something."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    @asynccontextmanager
    async def telling(self, *wish: object) -> AsyncIterator[None]:
        self.event.set()
        yield


class Up:
    async def standing(self, host: str) -> HostStanding:
        return HostStanding(epoch=1, accepted_epoch=1, down=False)


def bound_port() -> Port:
    port = Port.create(uuid7(), project_id="p", network_id="n", mac_address="fa:16:3e:00:00:01", fixed_ips=[])
    wish = agent.DesiredObject(host=HOST, agent="net", kind="port", object_id=str(port.id))
    port.bind(HOST, network.PORT_BINDING_STATE_ACTIVE, wish, TURN)
    return port


async def _unbinding_while(act: Callable[[Port], object]) -> Port:
    port, told, changes = bound_port(), Told(), Changes()
    services = Services(*(cast(Any, part) for part in (Kept(port), told, changes, Up(), None)))
    async with asyncio.timeout(10):
        unbinding = asyncio.create_task(unbind_port(services, str(port.id), TURN, HOST))
        await told.event.wait()
        act(port)
        changes.happened(cast(Any, SimpleNamespace(aggregate_id=port.id, epoch=1)))
        assert await unbinding
    return port


async def test_what_the_other_runner_has_seen_gone_is_gone() -> None:
    port = await _unbinding_while(lambda port: port.binding_removed(HOST))
    assert port.bindings == {}


async def test_what_is_bound_anew_meanwhile_stays_so() -> None:
    def removed_and_bound_anew(port: Port) -> None:
        port.binding_removed(HOST)
        wish = agent.DesiredObject(host=HOST, agent="net", kind="port", object_id=str(port.id))
        port.bind(HOST, network.PORT_BINDING_STATE_ACTIVE, wish, Turn("task", 2))

    port = await _unbinding_while(removed_and_bound_anew)
    assert not port.bindings[HOST].desired.absent
