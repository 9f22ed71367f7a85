"""A host, a guest of it, and what a diagnosis says of the guest."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
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
from tests.contract.network.waiting import PATIENCE_S

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

    async def finds(
        self, expected: Callable[[PathFound], bool], wish: Wish | None = None, *, capture: bool = False
    ) -> PathFound:
        """What a diagnosis finds: the first one that is as expected, if one is.

        Who answers late is silent, to a diagnosis, and on a busy machine everybody is late; and the kernel shows what
        was broken a moment after it was.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not expected(found := await self.diagnose(wish, capture=capture)) and time.monotonic() < deadline:
            """Once more."""
        return found

    async def is_well(self, wish: Wish | None = None) -> PathFound:
        found = await self.finds(all_well, wish)
        assert all_well(found), summary(found)
        return found

    async def names(self, hop: str, reason: str, wish: Wish | None = None) -> PathHop:
        """The verdict, which is the first that is broken."""
        found = await self.finds(lambda found: _verdict(found) == (hop, reason), wish)
        assert _verdict(found) == (hop, reason), summary(found)
        return next(each for each in found.hops if each.name == hop)

    async def command(self, *argv: str, namespace: str | None = None) -> str:
        return await self.linux.command(*argv, namespace=namespace)


def summary(found: PathFound) -> str:
    return "; ".join(f"{hop.name}={hop.state} {hop.observed}" for hop in found.hops)


def broken(found: PathFound) -> dict[str, str]:
    """Why each hop is, in order."""
    return {hop.name: hop.reason for hop in found.hops if hop.state == PATH_HOP_STATE_BROKEN}


def _verdict(found: PathFound) -> tuple[str, str] | None:
    return next(iter(broken(found).items()), None)


def all_well(found: PathFound) -> bool:
    return all(hop.state in (PATH_HOP_STATE_OK, PATH_HOP_STATE_NOT_APPLICABLE) for hop in found.hops)


def states(found: PathFound) -> dict[str, int]:
    return {hop.name: hop.state for hop in found.hops}
