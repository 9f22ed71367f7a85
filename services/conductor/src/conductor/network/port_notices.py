"""Telling a port's hosts that it is otherwise now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cirra.agent.v1.desired_pb2 import DesiredObject
from conductor.network.port import Port

Tell = Callable[[DesiredObject], Awaitable[None]]
"""Tells a host of desired state that has changed."""


async def tell_hosts(port: Port, tell: Tell) -> None:
    """All hosts on which it shall be; one that misses it finds it by its next look at what is desired."""
    for binding in port.bindings.values():
        if not binding.desired.absent:
            await tell(binding.desired)
