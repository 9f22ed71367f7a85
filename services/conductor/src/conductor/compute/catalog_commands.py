"""Commands on what instances are chosen from: flavors and key pairs."""

from __future__ import annotations

from cirra.compute.v1 import compute_pb2 as pb
from cirra.identity.v1.identity_pb2 import Principal
from conductor.access import is_admin, require_admin, require_project
from conductor.compute.flavor import Flavor
from conductor.compute.key_pair import KeyPair
from conductor.fields import uid
from conductor.requests import Commands, Done, command
from core.errors import NotFound
from core.ids import uuid7


class CatalogCommands(Commands):
    """The servicer of ComputeCommands inherits these."""

    @command(Flavor)
    async def CreateFlavor(self, request: pb.CreateFlavorRequest, principal: Principal) -> Done:
        require_admin(principal)
        flavor = Flavor.create(uuid7(), request.flavor)
        return Done(flavor, await self.repository.save(flavor))

    @command(Flavor)
    async def DeleteFlavor(self, request: pb.DeleteFlavorRequest, principal: Principal) -> Done:
        require_admin(principal)
        flavor, saved = await self.repository.change(Flavor, uid("name", request.name), Flavor.delete)
        return Done(flavor, saved)

    @command(KeyPair)
    async def CreateKeyPair(self, request: pb.CreateKeyPairRequest, principal: Principal) -> Done:
        project_id = require_project(principal)
        key_pair = KeyPair.create(uuid7(), request.key_pair, project_id=project_id, user_id=principal.user_id)
        return Done(key_pair, await self.repository.save(key_pair))

    @command(KeyPair)
    async def DeleteKeyPair(self, request: pb.DeleteKeyPairRequest, principal: Principal) -> Done:
        """By its user, or an administrator: another's is NOT_FOUND."""

        def delete(key_pair: KeyPair) -> None:
            if key_pair.user_id != principal.user_id and not is_admin(principal):
                raise NotFound(f"no key pair {key_pair.id}")
            key_pair.delete()

        key_pair, saved = await self.repository.change(KeyPair, uid("name", request.name), delete)
        return Done(key_pair, saved)
