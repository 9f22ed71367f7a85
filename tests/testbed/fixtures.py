"""`testbed`: three hosts for a whole run, for the suites that import it into their conftest.py. It needs root.

After every test that uses it, the invariants of its cloud hold (tests/e2e/conftest.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deployment.demo.tenant import Tenant
from tests.e2e.cloud import Cloud, tiny_tenant
from tests.harness.log_watch import LogWatch
from tests.harness.root import require_root
from tests.testbed.testbed import Testbed, running_testbed

HOSTS = 3
# That a host is silent is found out soon: the machine is busy, and yet no test wants to wait.
_SETTINGS = {"CIRRA_HEARTBEAT_WINDOW_S": "8", "CIRRA_MASS_OUTAGE_HOSTS": "3"}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def testbed(log_watch: LogWatch) -> AsyncIterator[Testbed]:
    require_root("namespaces, guests, bridges")
    with log_watch.folder("cirra-e2e-") as state_dir:
        async with running_testbed(state_dir, HOSTS, _SETTINGS) as made:
            yield made


@pytest.fixture(scope="session")
def cloud(testbed: Testbed) -> Cloud:
    return testbed.cloud


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tenant(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenant]:
    async with tiny_tenant(cloud, tmp_path_factory.mktemp("key")) as made:
        yield made
