"""What guests say of themselves, brought by the metadata service, which has made sure of who they are."""

from __future__ import annotations

from typing import Any

from cirra.conductor.v1 import commands_pb2 as pb
from cirra.conductor.v1 import commands_pb2_grpc
from conductor.compute.instance import Instance
from conductor.fields import Fields, uid
from core.context import acting
from core.repository import Repository

# As Nova's: a password encrypted by an RSA key of 4,096 bits has 684 characters in base64.
MAX_PASSWORD_BYTES = 1020


class GuestCommands(commands_pb2_grpc.GuestCommandsServicer):
    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def PostPassword(self, request: pb.PostPasswordCommand, context: Any) -> pb.Accepted:
        """Raises AlreadyExists, InvalidArgument, NotFound."""
        fields = Fields()
        if not 1 <= len(request.password) <= MAX_PASSWORD_BYTES:
            fields.refuse("password", f"{len(request.password)} bytes: give 1 to {MAX_PASSWORD_BYTES}")
        fields.check()
        instance_id = uid("instance_id", request.instance_id)
        with acting(actor=f"host/{request.host}/metadata"):
            instance, saved = await self._repository.change(
                Instance, instance_id, lambda it: it.post_password(request.host, request.password)
            )
        position = saved.position or (await self._repository.log.head()).position
        return pb.Accepted(uid=str(instance.id), name=instance.resource_name, position=position)
