"""A host, a guest of it, and what a diagnosis says of the guest."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from cirra.agent.v1.diagnosis_pb2 import (
    PATH_HOP_STATE_BROKEN,
    PATH_HOP_STATE_NOT_APPLICABLE,
    PATH_HOP_STATE_OK,
    PathFound,
    PathHop,
)
from net_agent.diagnosis.path import Targets, Wish
from net_agent.diagnosis.reader import diagnose
from net_agent.drivers.linux.driver import LinuxDriver
from net_agent.model import Network, Port
from tests.contract.network.guest import Guest
from tests.contract.network.hosts import LinuxHost
from tests.contract.network.metadata_service import MetadataService


@dataclass(slots=True)
class Site:
    linux: LinuxHost
    port: Port
    guest: Guest
    metadata_server: asyncio.Server
    metadata: MetadataService
    targets: Targets = field(default_factory=Targets)

    @property
    def network(self) -> Network:
        return self.port.network

    async def diagnose(self, wish: Wish | None = None) -> PathFound:
        assert isinstance(self.linux.driver, LinuxDriver)
        ground = await self.linux.driver.ground(self.port.port_id)
        assert ground is not None
        return await diagnose(ground, self.targets, wish or Wish())

    async def first_broken(self) -> PathHop:
        """What the verdict names."""
        found = await self.diagnose()
        broken = [hop for hop in found.hops if hop.state == PATH_HOP_STATE_BROKEN]
        assert broken, f"nothing is broken: {summary(found)}"
        return broken[0]

    async def command(self, *argv: str, namespace: str | None = None) -> str:
        return await self.linux.command(*argv, namespace=namespace)


def summary(found: PathFound) -> str:
    return "; ".join(f"{hop.name}={hop.state} {hop.observed}" for hop in found.hops)


def all_well(found: PathFound) -> bool:
    return all(hop.state in (PATH_HOP_STATE_OK, PATH_HOP_STATE_NOT_APPLICABLE) for hop in found.hops)


def states(found: PathFound) -> dict[str, int]:
    return {hop.name: hop.state for hop in found.hops}
