"""All that a host shall have: what sagas wished there, and what is derived for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cirra.agent.v1 import desired_pb2 as agent
from conductor.fabric.rows import kept_after
from conductor.fabric.state import FabricState
from conductor.hosts.desired_state import DesiredState, HostStanding

_WITH_DERIVED = "net"
"""The agent that derived objects are for."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """`complete`: all, not a difference; of derived objects nothing else shall be."""

    objects: Sequence[agent.DesiredObject]
    complete: bool


class HostWishes:
    """Reads both projections, in any replica."""

    def __init__(self, desired_state: DesiredState, fabric: FabricState) -> None:
        self._desired_state = desired_state
        self._fabric = fabric

    async def of_host(self, host: str, agent_name: str, since: int, position: int) -> Wishes:
        """What changed after `since`, or all: for 0, and for one so old that not all is known of what is gone since.

        `position`: that both projections have reached.
        """
        if agent_name != _WITH_DERIVED:
            return Wishes(await self._desired_state.of_host(host, agent_name, since), since == 0)
        if since < kept_after(position):
            since = 0
        # Derived ones first: what hosts are told of a port may rest on them, and never the other way round.
        derived = await self._fabric.of_host(host, since)
        return Wishes([*derived, *await self._desired_state.of_host(host, agent_name, since)], since == 0)

    async def standing(self, host: str) -> HostStanding:
        return await self._desired_state.standing(host)

    async def host_uses_image(self, host: str, image_id: str) -> bool:
        return await self._desired_state.host_uses_image(host, image_id)
