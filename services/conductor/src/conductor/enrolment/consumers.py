"""The consumers by which agents get their commands: only the control plane may make them, and NATS may lose them."""

from __future__ import annotations

import asyncio

import nats.errors
import structlog

from cirra.identity.v1 import events_pb2 as pb
from core.bus import Bus, CommandConsumers
from core.eventlog.connections import is_transient
from core.eventlog.log import EventLog
from core.natsauth.permissions import AGENTS

log = structlog.get_logger(__name__)

REFRESH_S = 30.0
_PAGE = 1000


class KnownHosts:
    """Keeps the consumers of every host that was ever enrolled. Each replica of the conductor runs one."""

    def __init__(self, event_log: EventLog, bus: Bus, *, refresh_s: float = REFRESH_S) -> None:
        self._log = event_log
        self._consumers = CommandConsumers(bus)
        self._refresh_s = refresh_s
        self._position = 0

    async def run(self) -> None:
        """For ever. Hosts that another replica enrols are found within `refresh_s`; that one made their consumers."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._consumers.run())
            while True:
                try:
                    await self._look()
                except Exception as error:
                    if not is_transient(error):
                        raise
                    log.warning("hosts not listed, trying on", error=str(error))
                await asyncio.sleep(self._refresh_s)

    async def _look(self) -> None:
        """Adds the hosts that were enrolled since the last look."""
        while True:
            events = await self._log.list_events(aggregate_type="enrolment", after=self._position, limit=_PAGE)
            for event in events:
                if event.type == pb.EnrolmentTokenUsed.DESCRIPTOR.full_name:
                    await self._add(pb.EnrolmentTokenUsed.FromString(event.data).host)
                self._position = event.position
            if len(events) < _PAGE:
                return

    async def _add(self, host: str) -> None:
        try:
            await self._consumers.add(host, AGENTS)
        except (nats.errors.Error, TimeoutError) as error:
            # It is known now, and made once NATS is back.
            log.warning("consumers of a host not made yet", host=host, error=str(error))
