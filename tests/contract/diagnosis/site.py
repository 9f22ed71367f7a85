"""A host, a guest of it, and what a diagnosis says of the guest."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from cirra.agent.v1.desired_pb2 import ObjectFault
from cirra.agent.v1.diagnosis_pb2 import (
    PATH_HOP_STATE_BROKEN,
    PATH_HOP_STATE_NOT_APPLICABLE,
    PATH_HOP_STATE_OK,
    PathFound,
    PathHop,
)
from net_agent.diagnosis.path import GuestPath, Targets, Wish
from net_agent.diagnosis.reader import diagnose
from net_agent.drivers.linux.driver import LinuxDriver
from net_agent.model import Network, Port
from tests.contract.network.guest import Guest
from tests.contract.network.hosts import LinuxHost
from tests.contract.network.metadata_service import MetadataService, make_identities

SERVICE_PORT = 8775


@asynccontextmanager
async def serving(
    folder: Path, tunnel_address: IPv4Address | None = None
) -> AsyncIterator[tuple[LinuxHost, asyncio.Server]]:
    """A host, and a metadata service that it reaches."""
    linux = LinuxHost(folder, tunnel_address=tunnel_address)
    url = f"https://127.0.0.1:{SERVICE_PORT}"
    context, linux.identity = make_identities(folder, "host-1", url, linux.identity.signing_key)
    await linux.start()
    try:
        listener = await linux.namespaces.on_host(lambda: socket.create_server(("127.0.0.1", SERVICE_PORT)))
        async with await asyncio.start_server(MetadataService().serve, sock=listener, ssl=context) as server:
            yield linux, server
    finally:
        await linux.stop()


@dataclass(slots=True)
class Site:
    linux: LinuxHost
    port: Port
    guest: Guest
    metadata_server: asyncio.Server
    targets: Targets = field(default_factory=Targets)
    # As if the net-agent had told them.
    faults: list[ObjectFault] = field(default_factory=list)

    @property
    def network(self) -> Network:
        return self.port.network

    async def diagnose(self, wish: Wish | None = None, *, capture: bool = False) -> PathFound:
        assert isinstance(self.linux.driver, LinuxDriver)
        ground = await self.linux.driver.ground(self.port.port_id)
        assert ground is not None
        return await diagnose(GuestPath(ground, self.targets, wish or Wish(), faults=self.faults), capture=capture)

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
