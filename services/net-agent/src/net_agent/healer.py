"""The network heals by itself: what differs on this host from what it was told is made right, every few seconds.

It needs neither the control plane nor the bus; what of it can't be made so is told when there is somebody to hear it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from core.agent.derived import is_derived
from core.agent.faults import Faults
from core.agent.records import Key
from core.agent.state_folder import StateFolder
from core.errors import CirraError
from net_agent.drivers.base import Faults as Found
from net_agent.drivers.base import NetworkDriver
from net_agent.handlers.failures import failure_of

_log = structlog.get_logger(__name__)


class Healer:
    """*faults*: where those of derived objects are noted; a port's is the answer to whoever wants the port."""

    def __init__(
        self,
        driver: NetworkDriver,
        state: StateFolder,
        faults: Faults,
        *,
        interval_s: float,
        conditions: Callable[[], Found] = dict,
    ) -> None:
        """conditions: what probes have found, told as well; what a look finds of the same object goes before."""
        self._conditions = conditions
        self._driver = driver
        self._state = state
        self._faults = faults
        self._interval_s = interval_s
        self._noted: set[Key] = set()

    async def run(self, fresh: Callable[[], Awaitable[None]]) -> None:
        """For ever, once *fresh* returns: what the host was told before its last boot may be another's by now."""
        await fresh()
        while True:
            await self.heal()
            await asyncio.sleep(self._interval_s)

    async def heal(self) -> None:
        """One round. What keeps it from being made is logged: the next one follows."""
        try:
            await self._state.prove()
            found = {**self._conditions(), **await self._driver.heal()}
        except (CirraError, OSError) as error:
            _log.warning("the network could not be looked at", error=str(error))
            return
        for (kind, object_id), fault in found.items():
            failure = failure_of(fault)
            if is_derived(kind):
                self._faults.put(kind, object_id, failure)
        for kind, object_id in self._noted - found.keys():
            self._faults.clear(kind, object_id)
        self._noted = {key for key in found if is_derived(key[0])}
