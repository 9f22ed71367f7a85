"""Where the block-agent's parts are wired."""

from __future__ import annotations

import asyncio

from block_agent.inventory import inventory
from block_agent.pools import FileBackend
from block_agent.settings import BlockAgentSettings
from cirra.agent.v1.desired_pb2 import InventoryObserved
from core.agent.identity import HostIdentity
from core.agent.link import AgentLink
from core.agent.runtime import AgentRuntime
from core.agent.state_folder import StateFolder
from core.service import Lifetime


async def bootstrap(lifetime: Lifetime, settings: BlockAgentSettings) -> None:
    identity = HostIdentity.load(settings.host_directory)
    state = StateFolder(settings.state_directory, identity.folder)
    await asyncio.to_thread(state.initialise)
    if settings.pool_directory is None and state.problem() is None:
        # The default one is a part of our own state; one that was named is made by whoever named it.
        settings.pool_folder.mkdir(exist_ok=True)
    backends = [FileBackend(settings.pool_name, settings.pool_folder)]
    link = await AgentLink.open(identity, "block", settings)
    lifetime.on_stop(link.close, "link")

    async def look_at_inventory() -> InventoryObserved:
        return await asyncio.to_thread(inventory, backends)

    runtime = AgentRuntime(link, handlers=(), inventory=look_at_inventory, state=state)
    lifetime.start(runtime.run(), "agent")
    lifetime.ready(host=identity.host, pool=settings.pool_name)
