"""What of the derived objects could not be made so: told as one list, whenever it changes.

Handlers need not know of it: an `AgentFailure` of theirs is a fault until they succeed. An agent that mends its host by
itself, between two wishes, says so here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cirra.agent.v1.desired_pb2 import FaultsObserved, ObjectFault
from core.agent.handler import AgentFailure
from core.agent.records import Key

# Faults come in crowds, with the thing that broke: one list for all.
GATHER_S = 0.5


class Faults:
    """The faults of one agent, as of now."""

    def __init__(self) -> None:
        self._faults: dict[Key, ObjectFault] = {}
        self._news = asyncio.Event()

    def put(self, kind: str, object_id: str, failure: AgentFailure) -> None:
        """It could not be made so; replaces what was said of it before."""
        fault = ObjectFault(kind=kind, object_id=object_id, failure=failure.to_message())
        if self._faults.get((kind, object_id)) != fault:
            self._faults[kind, object_id] = fault
            self._news.set()

    def clear(self, kind: str, object_id: str) -> None:
        """It is right, or gone."""
        if self._faults.pop((kind, object_id), None) is not None:
            self._news.set()

    def observed(self) -> FaultsObserved:
        """All, in order, to be compared."""
        return FaultsObserved(faults=[self._faults[key] for key in sorted(self._faults)])

    async def tell(
        self,
        report: Callable[[FaultsObserved], Awaitable[object]],
        *,
        first_after_s: float,
        gather_s: float = GATHER_S,
    ) -> None:
        """For ever: reports the list in a while, also an empty one (an earlier process may have told another), and then
        whenever it has changed."""
        await asyncio.sleep(first_after_s)
        while True:
            self._news.clear()
            await report(self.observed())
            await self._news.wait()
            await asyncio.sleep(gather_s)
