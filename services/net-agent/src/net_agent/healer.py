"""The network heals by itself: what differs on this host from what it was told is made right, every few seconds.

It needs neither the control plane nor the bus; what can't be made so is told when there is somebody to hear it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import FaultsObserved, ObjectFault
from core.agent.state_folder import StateFolder
from core.errors import CirraError
from net_agent.drivers.base import Faults, NetworkDriver
from net_agent.handlers.derived import Refusals
from net_agent.handlers.failures import failure_of
from net_agent.model.kinds import DERIVED_KINDS

_log = structlog.get_logger(__name__)


class Report(Protocol):
    """`core.agent.reporter.Reporter.report`."""

    async def __call__(self, kind: str, object_id: str, facts: Message, *, generation: int) -> bool: ...


class Healer:
    """*host*: whose faults they are."""

    def __init__(
        self,
        driver: NetworkDriver,
        state: StateFolder,
        refusals: Refusals,
        report: Report,
        host: str,
        *,
        interval_s: float,
    ) -> None:
        self._driver = driver
        self._state = state
        self._refusals = refusals
        self._report = report
        self._host = host
        self._interval_s = interval_s
        self._telling: asyncio.Task[None] | None = None
        self._told: FaultsObserved | None = None

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                await self.heal()
                await asyncio.sleep(self._interval_s)
        finally:
            if self._telling is not None:
                self._telling.cancel()

    async def heal(self) -> None:
        """One round. What keeps it from being made is logged: the next one follows."""
        try:
            await asyncio.to_thread(self._state.require)
            faults = await self._driver.heal()
        except (CirraError, OSError) as error:
            _log.warning("the network could not be looked at", error=str(error))
            return
        self._tell(faults_observed(faults, self._refusals))

    def _tell(self, seen: FaultsObserved) -> None:
        """Without waiting for the bus, for which a report waits: this list replaces one that could not be told yet."""
        if seen == self._told and self._telling is not None and not self._telling.done():
            return
        if self._telling is not None:
            self._telling.cancel()
        self._told = seen
        self._telling = asyncio.create_task(self._report_faults(seen), name="report faults")

    async def _report_faults(self, seen: FaultsObserved) -> None:
        await self._report("faults", self._host, seen, generation=0)


def faults_observed(faults: Faults, refusals: Refusals) -> FaultsObserved:
    """Of derived objects, in order, to be compared: a port's is the answer to whoever wants the port."""
    failures = {key: failure_of(fault) for key, fault in faults.items() if key[0] in DERIVED_KINDS}
    return FaultsObserved(
        faults=[
            ObjectFault(kind=kind, object_id=object_id, failure=failure.to_message())
            for (kind, object_id), failure in sorted((failures | refusals.failures).items())
        ]
    )
