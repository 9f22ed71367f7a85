"""A cloud whose host can lose its data disk and boot anew: its boot id is a file, its state folder a mount."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deployment.demo.tenant import Tenant
from tests.e2e.agents.host import COMMANDS_MAX_AGE_S, DataDisk, Host
from tests.e2e.cloud import Cloud, running_cloud, tiny_tenant
from tests.harness.log_watch import LogWatch
from tests.harness.root import require_root

# What an agent finds out by itself, it finds out soon; that a host is silent, late: parts that are killed again and
# again are started again after pauses that grow, and there is no other host to take over.
_SETTINGS = {
    "CIRRA_COMMANDS_MAX_AGE_S": str(COMMANDS_MAX_AGE_S),
    "CIRRA_HEARTBEAT_WINDOW_S": "30",
    "CIRRA_DIFFERENCE_INTERVAL_S": "0.5",
    "CIRRA_FULL_INTERVAL_S": "2",
    "CIRRA_STATE_FOLDER_INTERVAL_S": "0.2",
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def host(log_watch: LogWatch) -> AsyncIterator[Host]:
    require_root("guests, bridges, mounts")
    with log_watch.folder("cirra-e2e-") as state_dir:
        boot_id_file = state_dir / "boot-id"
        boot_id_file.write_text("first boot\n")
        disk = await DataDisk.make(state_dir)
        try:
            async with running_cloud(state_dir, {**_SETTINGS, "CIRRA_BOOT_ID_FILE": str(boot_id_file)}) as cloud:
                yield Host(cloud, boot_id_file, disk)
        finally:
            await disk.remove()


@pytest.fixture(scope="session")
def cloud(host: Host) -> Cloud:
    return host.cloud


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tenant(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenant]:
    async with tiny_tenant(cloud, tmp_path_factory.mktemp("key")) as made:
        yield made
