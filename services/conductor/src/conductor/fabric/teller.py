"""Tells hosts of derived objects that have changed, by commands.

Unlike a saga's commands nobody waits for these: what can't be sent now, or is lost, the host's next difference brings.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

import structlog

from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.derived import VERBS
from core.bus import Bus, publish_command
from core.errors import CirraError

_log = structlog.get_logger(__name__)

# How many commands await their acknowledgement at once, and how many may wait behind each.
_LANES = 64
_WAITING = 1_000


class Teller:
    """`run` it where `tell` is called. Of two wishes for one object, the newer is sent last, or alone."""

    def __init__(self, bus: Bus) -> None:
        self._lanes = [_Lane(bus) for _ in range(_LANES)]

    def tell(self, changed: Iterable[DesiredObject]) -> None:
        """Without waiting. With too many to be sent already, those that wait longest are left to the difference."""
        for desired in changed:
            key = desired.host, desired.kind, desired.object_id
            self._lanes[hash(key) % _LANES].put(key, desired)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            for number, lane in enumerate(self._lanes):
                tasks.create_task(lane.run(), name=f"fabric teller {number}")


class _Lane:
    """One command after the other: a subject keeps the message that was stored last, which must be the newest."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: OrderedDict[tuple[str, str, str], DesiredObject] = OrderedDict()
        self._news = asyncio.Event()

    def put(self, key: tuple[str, str, str], desired: DesiredObject) -> None:
        self._waiting[key] = desired
        self._news.set()
        if len(self._waiting) > _WAITING:
            _, left = self._waiting.popitem(last=False)
            _log.warning("fabric.not_told", host=left.host, kind=left.kind, error="too many wait to be sent")

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                _, desired = self._waiting.popitem(last=False)
                await self._send(desired)

    async def _send(self, desired: DesiredObject) -> None:
        verb = VERBS[desired.kind]
        try:
            await publish_command(self._bus, desired.host, desired.agent, verb, desired.object_id, desired)
        except CirraError as error:
            _log.warning("fabric.not_told", host=desired.host, kind=desired.kind, error=str(error))
