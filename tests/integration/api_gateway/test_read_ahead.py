"""What a request names is read at once, and each caller sees of it what they would have seen one by one."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest

from api_gateway.views.catalog import FLAVOR
from api_gateway.views.image import IMAGE
from api_gateway.views.network import NETWORK
from api_gateway.views.reader import Reader
from api_gateway.views.store import Store
from api_gateway.views.view import View
from cirra.compute.v1 import compute_pb2 as compute
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import network_pb2 as network
from core.errors import NotFound
from tests.integration.api_gateway.world import Gateway, World, new_project


class CountedPool:
    """How many statements were sent to it."""

    def __init__(self, pool: Any) -> None:
        self.sent = 0
        self._pool = pool

    async def fetch(self, *arguments: Any) -> Any:
        self.sent += 1
        return await self._pool.fetch(*arguments)


async def test_what_is_named_by_uid_is_read_at_once(world: World, gateway: Gateway) -> None:
    mine = new_project()
    root, alice = world.user("root", new_project(), ROLE_ADMIN), world.user("alice", mine)
    bob = world.user("bob", new_project())
    client, own = await gateway.login("root"), await gateway.login("alice")
    flavor = await client.call(
        client.compute.CreateFlavor,
        compute.CreateFlavorRequest(flavor=compute.Flavor(display_name="f", vcpus=1, memory_mib=64, disk_gib=1)),
    )
    private = await own.call(
        own.image.CreateImage,
        image.CreateImageRequest(image=image.Image(display_name="i", disk_format=image.DISK_FORMAT_RAW)),
    )
    shared = await client.call(
        client.network.CreateNetwork,
        network.CreateNetworkRequest(network=network.Network(display_name="n", shared=True)),
    )
    # All of it is in the read model.
    await own.call(own.network.GetNetwork, network.GetNetworkRequest(name=shared.name))
    nowhere = str(uuid4())
    named: list[tuple[View[Any], str]] = [(FLAVOR, flavor.name), (IMAGE, private.uid), (NETWORK, shared.name)]
    not_found: list[tuple[View[Any], str]] = [(NETWORK, nowhere), (IMAGE, "by its display name"), (FLAVOR, "")]
    pool = CountedPool(world.log.pool)
    for principal, sees_image in ((alice, True), (root, True), (bob, False)):
        reader = Reader(Store(cast("asyncpg.Pool", pool), f"{world.cell.name}_gateway"), principal)
        await reader.read_ahead([*named, *not_found])
        sent = pool.sent
        assert (await reader.find(FLAVOR, flavor.uid)).resource == flavor
        assert (await reader.find(NETWORK, shared.name)).uid == shared.uid
        for name in (nowhere, f"projects/another/networks/{shared.uid}"):
            with pytest.raises(NotFound):
                await reader.find(NETWORK, name)
        if sees_image:
            assert (await reader.find(IMAGE, private.name)).uid == private.uid
        else:
            with pytest.raises(NotFound):
                await reader.find(IMAGE, private.name)
        assert pool.sent == sent
        assert reader.position >= max(own.position, client.position)
        with pytest.raises(NotFound):
            await reader.find(FLAVOR, shared.uid)  # of another kind
        assert pool.sent == sent + 1
    assert pool.sent == 6
