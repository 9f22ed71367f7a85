"""Telling the cloud, once, that a guest has fetched its metadata."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from uuid import UUID

import structlog

from cirra.agent.v1 import desired_pb2 as agent
from core import telemetry
from core.bus import Bus, publish_report

log = structlog.get_logger(__name__)

AGENT = "metadata"
FACT = "MetadataFetched"
REMEMBERED = 100_000
# Guests that boot at once wait for their metadata, nobody for this: to tell of one costs the cloud as much as twenty
# answers do.
PAUSE_S = 0.05

# What proves that a guest got what it is: not a version list.
_TELLING = ("meta_data.json", "/meta-data", "/meta-data/", "/meta-data/instance-id")


class Fetches:
    """`run` publishes what `happened` queues, one after the other with a pause, so that no guest waits for it.

    The aggregate ignores repeats.
    """

    def __init__(self, bus: Bus, *, boot_id: str) -> None:
        self._bus = bus
        self._boot_id = boot_id
        self._told: OrderedDict[UUID, None] = OrderedDict()
        self._queue: asyncio.Queue[tuple[UUID, str, str, str]] = asyncio.Queue(maxsize=10_000)
        self._sequence = 0

    def happened(self, instance_id: UUID, host: str, path: str, user_agent: str) -> None:
        """A guest got this path."""
        if instance_id in self._told or not path.endswith(_TELLING) or self._queue.full():
            return
        self.known(instance_id)
        self._queue.put_nowait((instance_id, host, path, user_agent))

    def known(self, instance_id: UUID) -> None:
        """The cloud knows it, whichever replica told."""
        self._told[instance_id] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    async def run(self) -> None:
        """For ever. What can't be published is forgotten here, so that the guest's next request tells it again."""
        while True:
            instance_id, host, path, user_agent = await self._queue.get()
            self._sequence += 1
            report = agent.Report(
                host=host,
                agent=AGENT,
                kind="instance",
                object_id=str(instance_id),
                boot_id=self._boot_id,
                sequence=self._sequence,
                metadata=agent.MetadataFetched(path=path, user_agent=user_agent[:256]),
            )
            try:
                with telemetry.tracer().start_as_current_span("metadata fetched"):
                    await publish_report(self._bus, host, AGENT, FACT, instance_id, report)
            except Exception:
                log.exception("a fetch was not reported; told again at the next", instance_id=str(instance_id))
                self._told.pop(instance_id, None)
            await asyncio.sleep(PAUSE_S)
