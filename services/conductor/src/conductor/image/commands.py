"""Commands on images. That a blob may be announced or not is the gateway's word."""

from __future__ import annotations

from collections.abc import Callable

from cirra.conductor.v1 import commands_pb2, commands_pb2_grpc
from cirra.identity.v1.identity_pb2 import Principal
from cirra.image.v1 import image_pb2 as pb
from conductor.access import is_admin, require_owner, require_project
from conductor.fields import uid
from conductor.image.image import Image
from conductor.requests import Commands, Done, command
from core.errors import PermissionDenied
from core.ids import uuid7


class ImageCommands(Commands, commands_pb2_grpc.ImageCommandsServicer):
    @command(Image)
    async def CreateImage(self, request: pb.CreateImageRequest, principal: Principal) -> Done:
        project_id = require_project(principal)
        if request.image.visibility == pb.IMAGE_VISIBILITY_PUBLIC and not is_admin(principal):
            raise PermissionDenied(
                "image.visibility: only an administrator makes images public", remedy="create it as private"
            )
        image = Image.create(uuid7(), request.image, project_id=project_id)
        return Done(image, await self.repository.save(image))

    @command(Image)
    async def ActivateImage(self, request: commands_pb2.ActivateImageCommand, principal: Principal) -> Done:
        def activate(image: Image) -> None:
            image.activate(request.sha256, size_bytes=request.size_bytes, virtual_size_bytes=request.virtual_size_bytes)

        return await self._change("image_id", request.image_id, principal, activate)

    @command(Image)
    async def RejectImage(self, request: commands_pb2.RejectImageCommand, principal: Principal) -> Done:
        return await self._change(
            "image_id", request.image_id, principal, lambda image: image.reject(request.reason, request.message)
        )

    @command(Image)
    async def DeleteImage(self, request: pb.DeleteImageRequest, principal: Principal) -> Done:
        return await self._change("name", request.name, principal, Image.delete)

    async def _change(self, field: str, name: str, principal: Principal, decide: Callable[[Image], None]) -> Done:
        """Changes an image of the caller's project. Raises NotFound for another's."""

        def decide_for_owner(image: Image) -> None:
            require_owner(principal, image.project_id, f"image {image.id}")
            decide(image)

        image, saved = await self.repository.change(Image, uid(field, name), decide_for_owner)
        return Done(image, saved)
