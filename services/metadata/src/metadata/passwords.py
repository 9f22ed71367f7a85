"""The password that a guest posts for its administrator: brought to the conductor, which decides and records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from cirra.conductor.v1.commands_pb2 import Accepted, PostPasswordCommand
from core.rpc.retry import retried
from metadata.guest import Guest

if TYPE_CHECKING:
    from cirra.conductor.v1.commands_pb2_grpc import GuestCommandsAsyncStub

# Below the time that the hosts' proxies wait for an answer.
_CALL_S = 3.0
_PATIENCE_S = 6.0


class Passwords:
    """`caught_up` waits, for a moment, until the documents hold a position of the log."""

    def __init__(self, conductor: GuestCommandsAsyncStub, caught_up: Callable[[int], Awaitable[None]]) -> None:
        self._conductor = conductor
        self._caught_up = caught_up

    async def post(self, guest: Guest, host: str, password: bytes) -> None:
        """Returns once it is recorded; the guest can read it then.

        Raises AlreadyExists for a second one, InvalidArgument for one that is too long, NotFound when the instance is
        gone, Unavailable. Whoever asks again with the same password is told the same again.
        """
        command = PostPasswordCommand(instance_id=str(guest.instance_id), host=host, password=password)
        accepted: Accepted = await retried(
            lambda: self._conductor.PostPassword(command, timeout=_CALL_S), timeout_s=_PATIENCE_S
        )
        await self._caught_up(accepted.position)
