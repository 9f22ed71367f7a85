"""`world`: two replicas of the metadata service, for all tests of a module; `guest`: one for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from core.eventlog.types import RecordedEvent
from core.saga.state import SagaStatus
from core.testing.servers import Cell
from tests.harness.control_plane import ControlPlane, Prepared, control_plane
from tests.harness.fake_host import FakeHost
from tests.harness.invariants import check_invariants
from tests.harness.metadata_proxy import Proxy

HOSTS = ("host-1", "host-2")
USER_DATA = b"#!/bin/sh\n\x00\xff\x1f\x8b binary \xc3\xa9\n"
VENDOR_DATA = '{"cloud-init": "#cloud-config\\n{}"}'


@dataclass(frozen=True, slots=True)
class GuestOf:
    """An instance that runs, as its host's proxy knows it."""

    uid: str
    host: str
    network: str
    address: str

    @property
    def foreign_host(self) -> str:
        """One that it is not on."""
        [other] = {*HOSTS} - {self.host}
        return other


@dataclass(frozen=True, slots=True)
class World:
    """`replicas`: addresses of the metadata service."""

    plane: ControlPlane
    prepared: Prepared
    replicas: tuple[str, ...]

    async def events(self, guest: GuestOf) -> Sequence[RecordedEvent]:
        """Of the instance, as the log has them."""
        return await self.plane.repository.log.read_aggregate(UUID(guest.uid))

    async def boot(self, name: str, **instance: Any) -> GuestOf:
        accepted = await self.prepared.create(name, **instance)
        run = await self.plane.ended(accepted.operation_id)
        assert run.status is SagaStatus.COMPLETED, run.failures
        made = await self.plane.instance(accepted.uid)
        return GuestOf(accepted.uid, made.host, self.prepared.network_id, made.nics[0].fixed_ip)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(module_cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("world")
    async with control_plane(module_cell, folder) as plane:
        for name in HOSTS:
            await plane.add_host(FakeHost(name, module_cell))
        await plane.hosts_are_up(*HOSTS)
        prepared = await plane.prepare()
        plane.vendor_data_file = folder / "vendor-data.json"
        plane.vendor_data_file.write_text(VENDOR_DATA)
        yield World(plane, prepared, (await plane.start_metadata(), await plane.start_metadata()))
        await check_invariants(plane)


@pytest_asyncio.fixture(loop_scope="module")
async def guest(world: World) -> GuestOf:
    return await world.boot("Demo", user_data=USER_DATA, metadata={"role": "web"}, tags=["blue"])


@pytest_asyncio.fixture(loop_scope="module")
async def proxy_at(world: World, guest: GuestOf) -> AsyncIterator[Callable[..., Proxy]]:
    """Number of the replica, and the host if it is not the guest's → that host's proxy."""
    async with httpx.AsyncClient(timeout=60) as client:

        def proxy(replica: int, host: str = guest.host) -> Proxy:
            return Proxy(world.replicas[replica], world.plane.metadata_key, host, client)

        yield proxy


@pytest.fixture
def proxy(proxy_at: Callable[..., Proxy]) -> Proxy:
    """Of the guest's host."""
    return proxy_at(0)
