"""Three hosts (tests.testbed), and a tenant who may say which guest goes to which."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from deployment.demo.tenant import Tenant
from tests.e2e.cloud import Cloud
from tests.e2e.network.guests import operator_of
from tests.testbed.fixtures import cloud, tenant, testbed

__all__ = ["cloud", "operated", "tenant", "testbed"]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def operated(cloud: Cloud, tenant: Tenant) -> AsyncIterator[Tenant]:
    """The tenant, with room for many guests; `user` is an operator of the cloud, who is told hosts and chooses them."""
    async with cloud.admin() as admin:
        yield await operator_of(admin, tenant)
