"""How a cloud's log loses its last events: an older backup is restored, or a standby promoted that lacks them.

async with promotion(cloud) as lose:
    …  # what is appended here
    await lose()  # is gone
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from deployment.parts import PartFailed
from tests.chaos.cloud import PATIENCE_S, ChaosCloud
from tests.chaos.processes import RESTART_S, Process
from tests.harness.standby import base_backup, make_standby, until_caught_up

Loss = Callable[[ChaosCloud], AbstractAsyncContextManager[Callable[[], Awaitable[None]]]]


@asynccontextmanager
async def restore(cloud: ChaosCloud) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The control plane and Postgres stop, an older Postgres starts, and so does the control plane. Hosts go on."""
    backup = cloud.layout.root / "backup"
    await base_backup(cloud.postgres, backup)

    async def lose() -> None:
        await asyncio.gather(*(process.stop() for process in cloud.services.values()))
        await cloud.postgres.stop()
        await asyncio.to_thread(shutil.rmtree, cloud.postgres.data)
        await asyncio.to_thread(backup.rename, cloud.postgres.data)
        await cloud.postgres.start()
        await asyncio.gather(*(_started(process) for process in cloud.services.values()))

    yield lose


async def _started(process: Process) -> None:
    """As the deployment's supervisor starts it. Who has read lost events from the stream ends when it is told that they
    are lost, which may be before it is ready."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + PATIENCE_S
    while True:
        try:
            return await process.start()
        except PartFailed:
            if clock() > deadline:
                raise
        await asyncio.sleep(RESTART_S)


@asynccontextmanager
async def promotion(cloud: ChaosCloud) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A standby that has stopped to follow takes the place of Postgres, which is killed. Everybody else goes on."""
    standby = await make_standby(cloud.postgres, cloud.layout.root / "standby")
    await standby.start()
    try:
        await until_caught_up(cloud.postgres)
    finally:
        await standby.stop()

    async def lose() -> None:
        await standby.take_over(cloud.postgres)
        cloud.postgres = standby

    yield lose
