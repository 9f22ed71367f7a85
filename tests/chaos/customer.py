"""Who makes instances, many at once, through all gateways, and takes them away again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cirra.compute.v1.compute_pb2 import Flavor, Instance
from cirra.image.v1.image_pb2 import Image
from cirra.network.v1.network_pb2 import Network
from cirra.operations.v1.operations_pb2 import Operation
from cirra_sdk import AsyncClient

T = TypeVar("T")


class Customer:
    """A member of one project. `clients`: one for each gateway; what one has written the others read."""

    def __init__(self, clients: Sequence[AsyncClient], flavor: Flavor, image: Image, network: Network) -> None:
        self.clients = clients
        self._flavor = flavor
        self._image = image
        self._network = network
        self._numbers = itertools.count(1)

    @classmethod
    async def open(cls, clients: Sequence[AsyncClient], flavor: Flavor, disk: Path) -> Customer:
        """Makes what instances are made of but the flavor, which is an administrator's."""
        client = clients[0]
        image = await client.images.upload(await client.images.create("picture"), disk)
        network = await client.networks.create("lan")
        await client.subnets.create("range", network=network, cidr="10.0.0.0/22")
        return cls(clients, flavor, image, network)

    def by(self, clients: Sequence[AsyncClient]) -> Customer:
        """The same customer, by other clients."""
        return Customer(clients, self._flavor, self._image, self._network)

    async def create(self, client: AsyncClient, name: str = "", *, request_id: str | None = None) -> Operation:
        """Begins to build one."""
        return await client.instances.create(
            name or f"guest-{next(self._numbers)}",
            flavor=self._flavor,
            image=self._image,
            networks=[self._network],
            request_id=request_id,
        )

    async def create_many(self, count: int) -> list[Operation]:
        """All at once, each gateway its share; returns when all are accepted."""
        return await self._at_once(count, self.create)

    async def delete_many(self, instances: Sequence[Instance]) -> list[Operation]:
        """All at once, each gateway its share; returns when all are accepted."""
        left = iter(instances)
        return await self._at_once(len(instances), lambda client: client.instances.delete(next(left)))

    async def _at_once(self, count: int, call: Callable[[AsyncClient], Awaitable[T]]) -> list[T]:
        clients = itertools.islice(itertools.cycle(self.clients), count)
        return list(await asyncio.gather(*(call(client) for client in clients)))
