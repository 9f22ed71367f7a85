"""One cloud per module, in a cell of its own, whose invariants hold after each test; tests are isolated by project."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core import telemetry
from core.settings import ServiceSettings
from core.testing.servers import Cell
from tests.harness.cloud import Cloud, Parts, Standing, Tenant
from tests.harness.cloud import cloud as open_cloud
from tests.harness.invariants import check_invariants


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole_cloud(module_cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    telemetry.configure("acceptance", ServiceSettings())
    async with open_cloud(module_cell, tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def invariants_hold_now(whole_cloud: Cloud) -> AsyncIterator[None]:
    """After each test, while all services run."""
    yield
    await check_invariants(whole_cloud.plane)


@pytest.fixture
def cloud(whole_cloud: Cloud) -> Cloud:
    whole_cloud.reset_hosts()
    return whole_cloud


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(whole_cloud: Cloud) -> Standing:
    """For tests that leave nothing."""
    tenant = await whole_cloud.tenant()
    return Standing(tenant, await tenant.prepare())


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(cloud: Cloud) -> Tenant:
    """A project and its member."""
    return await cloud.tenant()


@pytest_asyncio.fixture(loop_scope="module")
async def parts(tenant: Tenant) -> Parts:
    """What the tenant's instances are made of."""
    return await tenant.prepare()
