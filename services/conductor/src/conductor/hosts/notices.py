"""Telling hosts at once of desired state that no saga waits for."""

from __future__ import annotations

import structlog

from cirra.agent.v1 import desired_pb2 as agent
from conductor.hosts.commander import Commander
from conductor.hosts.standings import Standings
from core.errors import CirraError

log = structlog.get_logger(__name__)


class Notices:
    """A host that misses one learns of it by its next look at what is desired of it."""

    def __init__(self, commander: Commander, standings: Standings) -> None:
        self._commander = commander
        self._standings = standings

    async def __call__(self, desired: agent.DesiredObject) -> None:
        """Returns once the command is stored, or can't be; an observe-only host is told nothing."""
        try:
            standing = await self._standings.standing(desired.host)
            if not standing.observe_only:
                await self._commander.tell(desired, standing.epoch)
        except CirraError as error:
            log.warning("host not told at once", host=desired.host, object_id=desired.object_id, error=str(error))
